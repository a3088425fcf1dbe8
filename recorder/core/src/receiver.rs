//! What media is sent to: a phantom, or a registration on a station, and of the latter perhaps one of
//! two, each of which is sent one side of the station's calls. It is a name and decides nothing.

use std::fmt;

use storage_core::Extension;
use storage_core::record::Side;

/// One receiver of media. It has sockets of its own, and one segment is open on it at most.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receiver {
    /// Number of the phantom, or of the station that is registered at.
    pub device: Extension,
    /// The side of a call that it is sent; absent where that is all in one.
    pub side: Option<Side>,
}

impl Receiver {
    /// One that is sent all in one.
    #[must_use]
    pub const fn whole(device: Extension) -> Self {
        Self { device, side: None }
    }
}

impl From<&Extension> for Receiver {
    fn from(device: &Extension) -> Self {
        Self::whole(device.clone())
    }
}

impl From<&Self> for Receiver {
    fn from(receiver: &Self) -> Self {
        receiver.clone()
    }
}

impl From<&str> for Receiver {
    fn from(device: &str) -> Self {
        Self::whole(device.into())
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            None => self.device.fmt(f),
            Some(side) => write!(f, "{} ({})", self.device, side.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_named_behind_its_device() {
        assert_eq!(Receiver::from("31001").to_string(), "31001");
        let side = Some(Side::Others);
        assert_eq!(Receiver { side, ..Receiver::from("31001") }.to_string(), "31001 (others)");
    }
}
