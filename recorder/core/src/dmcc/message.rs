//! A message of the server, whatever it is: answer, error or event. Unknown elements, attributes
//! and values in it are skipped; only a message without its essential field is refused.

use super::error::CstaError;
use super::event::MonitorEvent;
use super::fields::{self, MessageError};
use super::response::Response;
use super::xml::Element;

/// A message of the server.
#[expect(clippy::large_enum_variant, reason = "it lives for one call; most messages are events")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The answer to a request.
    Response(Response),
    /// The refusal of a request.
    Error(CstaError),
    /// What a monitor reports.
    Monitor(MonitorEvent),
    /// `ApplicationSessionTerminated`.
    SessionTerminated {
        /// The session that ended.
        session: Option<String>,
        /// The server's words.
        reason: String,
    },
    /// `SystemStatus`: how the link between AES and switch is.
    SystemStatus(SystemStatus),
}

/// What `SystemStatus` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemStatus {
    /// State of each switch's link, up or not; empty if the private data was left out.
    pub links: Vec<(String, bool)>,
    /// What `systemStatus` says of the whole: up, down, or nothing of either.
    pub whole: Option<bool>,
}

impl SystemStatus {
    /// Whether the link to this switch is up; `None` if the message does not tell.
    #[must_use]
    pub fn of_switch(&self, switch_name: &str) -> Option<bool> {
        let link = self.links.iter().find(|(name, _)| name.eq_ignore_ascii_case(switch_name));
        match link {
            Some((_, up)) => Some(*up),
            None if self.links.is_empty() => self.whole,
            None => None,
        }
    }
}

/// Understands a message.
///
/// # Errors
/// If it is not known or lacks its essential field.
pub fn parse(message: &Element) -> Result<Message, MessageError> {
    if let Some(error) = CstaError::parse(message) {
        return Ok(Message::Error(error));
    }
    if let Some(response) = Response::parse(message)? {
        return Ok(Message::Response(response));
    }
    if let Some(event) = MonitorEvent::parse(message)? {
        return Ok(Message::Monitor(event));
    }
    match message.name.as_str() {
        "ApplicationSessionTerminated" => Ok(Message::SessionTerminated {
            session: message.text_of("sessionID").map(str::to_owned),
            reason: message.child("sessionTermReason").map(Element::all_text).unwrap_or_default(),
        }),
        "SystemStatus" => Ok(Message::SystemStatus(system_status(message))),
        _ => Err(MessageError::unknown(message)),
    }
}

fn system_status(message: &Element) -> SystemStatus {
    let links = fields::private_data(message)
        .flat_map(|data| data.children_named("switchTlinkStatus"))
        .filter_map(|link| {
            let up = link.text_of("tlinkStatus")? == "tlinkUp";
            Some((link.text_of("switchName")?.to_owned(), up))
        })
        .collect();
    let whole = match message.text_of("systemStatus") {
        Some("normal" | "enabled") => Some(true),
        Some("disabled") => Some(false),
        _ => None,
    };
    SystemStatus { links, whole }
}
