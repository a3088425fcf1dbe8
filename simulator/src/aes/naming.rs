//! How devices, connections and linkage look inside messages.

use crate::switch::{CallId, Device, Extension, Number, Trunk, Ucid};
use crate::wire::{Node, av, csta};

/// The names of one AES.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Naming {
    /// Switch connection name.
    pub switch_name: String,
    /// Leave the colon parts out in events.
    pub bare: bool,
    /// Whether UCIDs are told.
    pub ucid: bool,
}

impl Naming {
    /// Device ID of a number, as in `31002:cm1::0`.
    #[must_use]
    pub fn id(&self, digits: &str) -> String {
        if self.bare { digits.to_owned() } else { format!("{digits}:{}::0", self.switch_name) }
    }

    /// A connection: call and device, inside `outer`.
    #[must_use]
    pub fn connection(&self, outer: Node, call: CallId, device: &Device) -> Node {
        outer.leaf(csta("callID"), call).with(self.device_id(device))
    }

    /// `deviceID` of a connection.
    #[must_use]
    pub fn device_id(&self, device: &Device) -> Node {
        match device {
            Device::Extension(extension) => {
                ordinary(csta("deviceID")).text(self.id(extension.as_str()))
            }
            Device::Trunk(trunk) => dynamic(csta("deviceID")).text(trunk_name(*trunk)),
        }
    }

    /// A device in an event field: `deviceIdentifier` inside `outer`, or not known.
    #[must_use]
    pub fn subject(&self, outer: Node, number: &Number) -> Node {
        if number.0.is_empty() {
            return outer.with(csta("notKnown"));
        }
        outer.with(ordinary(csta("deviceIdentifier")).text(self.id(&number.0)))
    }

    /// The same for an extension.
    #[must_use]
    pub fn extension(&self, outer: Node, extension: &Extension) -> Node {
        outer.with(ordinary(csta("deviceIdentifier")).text(self.id(extension.as_str())))
    }

    /// `lastRedirectionDevice`.
    #[must_use]
    pub fn redirection(&self, extension: Option<&Extension>) -> Node {
        let outer = csta("lastRedirectionDevice");
        match extension {
            Some(extension) => outer.leaf(csta("numberDialed"), self.id(extension.as_str())),
            None => outer.with(csta("notKnown")),
        }
    }

    /// Call linkage inside `outer`, if the switch tells it.
    #[must_use]
    pub fn linkage(&self, outer: Node, ucid: &Ucid) -> Option<Node> {
        self.ucid.then(|| linkage(outer, ucid))
    }
}

/// Call linkage inside `outer`, whose own namespace may differ.
#[must_use]
pub fn linkage(outer: Node, ucid: &Ucid) -> Node {
    outer.with(
        csta("globalCallData").with(
            csta("globalCallLinkageID").leaf(csta("globallyUniqueCallLinkageID"), ucid.as_str()),
        ),
    )
}

/// Attributes that every ordinary device element carries.
#[must_use]
pub fn ordinary(node: Node) -> Node {
    node.attribute("typeOfNumber", "other")
        .attribute("mediaClass", "voice")
        .attribute("bitRate", "constant")
}

/// Attributes of a device that exists only as a connection.
#[must_use]
pub fn dynamic(node: Node) -> Node {
    node.attribute("typeOfNumber", "dynamic")
        .attribute("mediaClass", "voice")
        .attribute("bitRate", "constant")
}

/// TSAPI's way to name a trunk.
#[must_use]
pub fn trunk_name(trunk: Trunk) -> String {
    format!("T{}#{}", trunk.group, trunk.member)
}

/// Trunk group and member as private data.
#[must_use]
pub fn trunk_fields(trunk: Option<Trunk>) -> Vec<Node> {
    trunk.map_or_else(Vec::new, |trunk| {
        vec![av("trunkGroup").text(trunk.group), av("trunkMember").text(trunk.member)]
    })
}

/// `userData` with its bytes in hexadecimal, inside `outer`.
#[must_use]
pub fn user_data(outer: Node, bytes: &[u8]) -> Option<Node> {
    (!bytes.is_empty()).then(|| outer.leaf(csta("string"), hex(bytes)))
}

/// Upper-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// Reads hexadecimal; what is not pairs of digits gives nothing.
#[must_use]
pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    match digits {
        Some(digits) if digits.len() % 2 == 0 => {
            digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
        }
        _ => Vec::new(),
    }
}

/// The extension part of a device ID: the text before the first colon.
#[must_use]
pub fn extension_part(id: &str) -> &str {
    id.split(':').next().unwrap_or("")
}

/// Reads a device ID of a connection: an extension or a trunk.
#[must_use]
pub fn read_device(id: &str) -> Device {
    let trunk = id.strip_prefix('T').and_then(|rest| {
        let (group, member) = rest.split_once('#')?;
        Some(Trunk { group: group.parse().ok()?, member: member.parse().ok()? })
    });
    trunk.map_or_else(|| Device::Extension(Extension::from(extension_part(id))), Device::Trunk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_by_their_extension_part() {
        for (text, device) in [
            ("31002:cm1::0", Device::Extension(Extension::from("31002"))),
            ("31002", Device::Extension(Extension::from("31002"))),
            ("T12#3", Device::Trunk(Trunk { group: 12, member: 3 })),
            ("T12", Device::Extension(Extension::from("T12"))),
        ] {
            assert_eq!(read_device(text), device);
        }
    }

    #[test]
    fn hexadecimal_both_ways() {
        assert_eq!(hex(b"Hello"), "48656C6C6F");
        assert_eq!(unhex("48656c6C6F"), b"Hello");
        assert_eq!(unhex("4"), b"");
        assert_eq!(unhex("zz"), b"");
    }
}
