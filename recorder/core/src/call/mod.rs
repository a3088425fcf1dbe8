//! Calls: what the switch says of them, what we make of it, and whether to record.
//!
//! [`event`] holds the words of the switch. [`tracker`] makes calls of them. [`Calls`] owns the
//! tracker, the phantoms and the recordings, and turns all that happens into [`Order`]s: put a
//! phantom in, take it out, write this into the capture journal, claim it, tell people. Nothing here
//! knows DMCC, sockets, files or how the group of nodes agrees; [`group`] has what it is told of that.

pub mod event;
pub mod group;
pub mod method;
pub mod order;
pub mod pattern;
pub mod pause;
pub mod pool;
pub mod request;
pub mod roster;
pub mod rule;
pub mod tracker;
pub mod view;

mod account;
mod adopt;
mod calls;
mod cover;
mod draft;
mod leg;
mod listen;
mod merge;
mod orphan;
mod party;
mod recording;
mod resync;
mod ring;
mod room;
mod scene;
mod serve;
mod tap;
mod timer;
mod tracked;
mod trigger;
mod watchdog;

pub use calls::{Calls, TriggerConfig};
pub use group::{Claimed, Holder, Mandate, Over, Patience, Peer};
pub use method::Method;
pub use order::{
    Alarm, Claim, JoinRefusal, MissedReason, Order, PauseChange, PauseOrder, RingChange, RingOrder,
};
pub use party::{Party, PartyKind};
pub use pause::{PauseDone, PauseRequest, PauseWord};
pub use request::{Action, Refusal, Request, Requester, Target};
pub use view::{CallView, LiveEvent};
