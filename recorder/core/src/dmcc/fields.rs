//! The common types of the wire (dossier 6.2): device choices, connections, UCIDs, addresses,
//! private data. How a message as a whole is built is the business of `response` and `event`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use storage_core::{CallId, Ucid};

use super::register;
use super::xml::Element;
use crate::call::event::{Connection, Device, PartyState};

/// A device ID as the AES has given it: opaque, sent back byte for byte (dossier 3.1).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DeviceId(String);

impl DeviceId {
    /// Takes the text of the wire.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whose monitor an event comes from (`monitorCrossRefID`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CrossRef(String);

impl CrossRef {
    /// Takes the text of the wire.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CrossRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a message is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No message of this name is known.
    #[error("unknown message {root}")]
    Unknown {
        /// Its root element, shortened.
        root: String,
    },
    /// A field without which the message says nothing.
    #[error("{root} without {field}")]
    Missing {
        /// The message.
        root: String,
        /// The field.
        field: &'static str,
    },
}

impl MessageError {
    pub(super) fn unknown(message: &Element) -> Self {
        Self::Unknown { root: message.name.chars().take(64).collect() }
    }

    pub(super) fn missing(message: &Element, field: &'static str) -> Self {
        Self::Missing { root: message.name.clone(), field }
    }
}

/// A device in any of the forms that fields use: a text, or a choice of a text and an empty
/// element such as `notKnown`.
#[must_use]
pub fn device(field: &Element) -> Device {
    let named = ["deviceIdentifier", "numberDialed", "deviceID"];
    let text = named.iter().find_map(|name| field.text_of(name)).unwrap_or(&field.text);
    Device::parse(text)
}

/// The device of a field, if the switch names one.
#[must_use]
pub fn known_device(parent: &Element, name: &str) -> Option<Device> {
    parent.child(name).map(device).filter(|device| *device != Device::Unknown)
}

/// A ConnectionID; `None` without a call.
#[must_use]
pub fn connection(field: &Element) -> Option<Connection> {
    let call = CallId::new(field.text_of("callID")?);
    let device = field.text_of("deviceID").map_or(Device::Unknown, Device::parse);
    Some(Connection { call, device })
}

/// The UCID in a `callLinkageData`, or in one of its two forms in a list.
#[must_use]
pub fn ucid(linkage: &Element) -> Option<Ucid> {
    let path = ["globalCallData", "globalCallLinkageID", "globallyUniqueCallLinkageID"];
    linkage.path(&path)?.text.parse().ok()
}

/// User-to-user information: `string`, or `private` where the switch sends it so.
#[must_use]
pub fn user_data(field: &Element) -> Option<Vec<u8>> {
    let text = field.text_of("string").or_else(|| field.text_of("private"))?;
    Some(register::user_data(text))
}

/// A local connection state; `None` for `null` and for what is not known.
#[must_use]
pub fn party_state(text: &str) -> Option<PartyState> {
    match text {
        "initiated" => Some(PartyState::Initiated),
        "alerting" => Some(PartyState::Alerting),
        "connected" => Some(PartyState::Connected),
        "hold" => Some(PartyState::Held),
        "queued" => Some(PartyState::Queued),
        "fail" => Some(PartyState::Failed),
        _ => None,
    }
}

/// `rtpAddress` and its kind; `None` where it is no address.
#[must_use]
pub fn socket_address(field: &Element) -> Option<SocketAddr> {
    let address: IpAddr = field.text_of("address")?.parse().ok()?;
    let port = field.text_of("port")?.parse().ok()?;
    Some(SocketAddr::new(address, port))
}

/// The elements in `extensions/privateData/private`.
pub fn private_data(message: &Element) -> impl Iterator<Item = &Element> {
    message
        .children_named("extensions")
        .flat_map(|extensions| extensions.children_named("privateData"))
        .flat_map(|data| data.children_named("private"))
        .flat_map(|private| private.children.iter())
}

/// A field of the private data, whichever element carries it.
#[must_use]
pub fn private_field<'a>(message: &'a Element, name: &str) -> Option<&'a Element> {
    private_data(message).find_map(|element| element.child(name))
}

/// XML Schema's boolean.
#[must_use]
pub fn is_true(text: &str) -> bool {
    text == "1" || text.eq_ignore_ascii_case("true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmcc::xml;

    fn element(text: &str) -> Element {
        xml::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn devices_in_all_their_forms() {
        let station = Device::Number("31002".into());
        let trunk = Device::Trunk { group: "12".to_owned(), member: "3".to_owned() };
        for (text, wanted) in [
            ("<d><deviceIdentifier>31002:cm1::0</deviceIdentifier></d>", &station),
            ("<d><x:deviceIdentifier xmlns:x='u'>31002</x:deviceIdentifier></d>", &station),
            ("<d>31002:cm1:0.0.0.0:1</d>", &station),
            ("<d><numberDialed>31002:cm1::0</numberDialed></d>", &station),
            ("<d><deviceID typeOfNumber='dynamic'>T12#3</deviceID></d>", &trunk),
            ("<d><notKnown/></d>", &Device::Unknown),
            ("<d><restricted/></d>", &Device::Unknown),
            ("<d><notSpecified/></d>", &Device::Unknown),
            ("<d/>", &Device::Unknown),
        ] {
            assert_eq!(device(&element(text)), *wanted, "{text}");
        }
    }

    #[test]
    fn a_connection_needs_a_call_and_may_lack_a_device() {
        let both = element("<c><deviceID>31002</deviceID><callID>12AB</callID></c>");
        let connection = connection(&both).unwrap();
        assert_eq!(connection.call, CallId::new("12ab"));
        assert_eq!(connection.device, Device::Number("31002".into()));
        assert_eq!(
            super::connection(&element("<c><callID>7</callID></c>")).unwrap().device,
            Device::Unknown
        );
        assert_eq!(super::connection(&element("<c><deviceID>31002</deviceID></c>")), None);
    }

    #[test]
    fn a_ucid_of_zeros_is_none() {
        let linkage = |digits| {
            element(&format!(
                "<l><globalCallData><globalCallLinkageID><globallyUniqueCallLinkageID>{digits}\
                 </globallyUniqueCallLinkageID></globalCallLinkageID></globalCallData></l>"
            ))
        };
        assert!(ucid(&linkage("00001012071700000000")).is_some());
        assert_eq!(ucid(&linkage("00000000000000000000")), None);
    }
}
