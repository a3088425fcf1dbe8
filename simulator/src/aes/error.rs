//! Errors as CSTA names them. Only the category is certain; the value is our best choice.

use crate::switch::Refusal;
use crate::wire::{Node, csta};

/// One `CSTAErrorCode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CstaError {
    /// Wrong or unknown object.
    Operation(&'static str),
    /// The call or device is in the wrong state.
    State(&'static str),
    /// Something is used up on the switch.
    Resource(&'static str),
    /// A licence or an application's limit.
    Subscribed(&'static str),
    /// Too much at once.
    Performance(&'static str),
    /// Nothing more is said.
    Unspecified,
}

impl CstaError {
    /// The answer.
    #[must_use]
    pub fn node(self) -> Node {
        let inner = match self {
            Self::Operation(value) => csta("operation").text(value),
            Self::State(value) => csta("stateIncompatibility").text(value),
            // Spelt so in the schema.
            Self::Resource(value) => csta("systemResourceAvailibility").text(value),
            Self::Subscribed(value) => csta("subscribedResourceAvailability").text(value),
            Self::Performance(value) => csta("performanceManagement").text(value),
            Self::Unspecified => csta("unspecified"),
        };
        csta("CSTAErrorCode").with(inner)
    }
}

impl From<Refusal> for CstaError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchNumber(_) => Self::Operation("invalidDeviceID"),
            Refusal::NoSuchCall(_) | Refusal::NotInProgress(_) => Self::Operation("invalidCallID"),
            Refusal::NotInCall(_) => Self::Operation("invalidConnectionID"),
            Refusal::NotAStation(_) => Self::Operation("invalidDestination"),
            Refusal::Mixed | Refusal::InVector => Self::Operation("generic"),
            Refusal::Busy(_) | Refusal::NoTrunk => Self::Resource("resourceBusy"),
            Refusal::OutOfService(_) => Self::Resource("deviceOutOfService"),
            Refusal::PartyLimit(_) => Self::Resource("conferenceMemberLimitExceeded"),
            Refusal::AlreadyInCall(_) => Self::State("connectedCallExists"),
            Refusal::WrongState(_) => Self::State("invalidConnectionState"),
            Refusal::NothingToAnswer(_) => Self::State("noCallToAnswer"),
            Refusal::NoActiveCall(_) => Self::State("noActiveCall"),
            Refusal::NoHeldCall(_) => Self::State("noHeldCall"),
        }
    }
}
