//! What the parts of the link share while one input is worked on.

use storage_core::MonoTime;

use super::backoff::Spread;
use super::config::LinkConfig;
use super::device::{DeviceKey, Step};
use super::error::CstaError;
use super::response::Response;
use super::session::SessionStep;
use super::taps::Tap;
use super::wire::Wire;

/// What an open request is for, so that its answer finds its way.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// The session itself.
    Session(SessionStep),
    /// Being told of the link between AES and switch.
    WatchSwitch,
    /// How that link is now.
    AskSwitch,
    /// A step of a device's set-up.
    Device(DeviceKey, Step),
    /// Something that the trigger asked for.
    Tap(Tap),
    /// Whether the switch's name is known.
    Name,
    /// Cleaning up: the answer changes nothing.
    Nothing,
}

/// The answer to a request; one that did not come in time is an error, too.
pub(super) type Answer = Result<Response, CstaError>;

/// The surroundings of one input.
pub(super) struct Context<'a> {
    pub now: MonoTime,
    pub config: &'a LinkConfig,
    pub wire: &'a mut Wire<Purpose>,
    pub spread: &'a mut Spread,
}
