//! Why the switch refuses something.

use thiserror::Error;

use super::ids::{CallId, Extension};

/// A refusal.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// Nothing has that number.
    #[error("no station, VDN or skill has the number {0}")]
    NoSuchNumber(String),
    /// No call has that ID.
    #[error("no call has the ID {0}")]
    NoSuchCall(CallId),
    /// The interaction is over or never was.
    #[error("interaction {0} is not in progress")]
    NotInProgress(u32),
    /// The device is not in the call.
    #[error("{0} is not in the call")]
    NotInCall(String),
    /// The station is in another call.
    #[error("station {0} is busy")]
    Busy(Extension),
    /// The station is out of service (not registered, busied out).
    #[error("station {0} is out of service")]
    OutOfService(Extension),
    /// The connection is in the wrong state.
    #[error("the connection of {0} is in the wrong state")]
    WrongState(String),
    /// Nothing rings there.
    #[error("no call rings at {0}")]
    NothingToAnswer(Extension),
    /// No call there to hold, transfer or drop.
    #[error("station {0} has no active call")]
    NoActiveCall(Extension),
    /// No call on hold there.
    #[error("station {0} has no held call")]
    NoHeldCall(Extension),
    /// The call would have too many parties.
    #[error("the call would have more than {0} parties")]
    PartyLimit(usize),
    /// All trunks are busy.
    #[error("no trunk is free")]
    NoTrunk,
    /// The device is in that call already.
    #[error("{0} is in that call already")]
    AlreadyInCall(Extension),
    /// Silent and active recorders may not be mixed in one call.
    #[error("silent and active parties may not be mixed in one call")]
    Mixed,
    /// A call in vector processing takes no visible party.
    #[error("the call is in vector processing")]
    InVector,
    /// Only a station can be joined.
    #[error("{0} is not a station")]
    NotAStation(Extension),
}
