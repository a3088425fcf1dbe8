//! A message of the server, whatever it is: answer, error or event. Unknown elements, attributes
//! and values in it are skipped; only a message without its essential field is refused.

use super::error::CstaError;
use super::event::MonitorEvent;
use super::fields::MessageError;
use super::response::{self, Response, SystemStatus};
use super::xml::Element;

/// A message of the server.
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
        "SystemStatus" => Ok(Message::SystemStatus(response::system_status(message))),
        _ => Err(MessageError::unknown(message)),
    }
}
