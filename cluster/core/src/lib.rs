//! The group, pure: Raft, the duties of its members and the ledger of calls. Bytes, events and
//! time go in, decisions come out; files, sockets and clocks are the `cluster` crate's.
//!
//! * [`node`]: one member, behind inputs and one output to drain.
//! * [`command`], [`state`], [`ledger`]: what the log holds and what it means.
//! * [`level`]: which commands all members know.
//! * [`role`]: who is to lead, and why; [`mirror`]: who keeps what another captures.
//! * [`wire`]: the form of messages and entries.
//! * [`view`]: what the rest of the program sees.

pub mod alarm;
pub mod command;
mod govern;
pub mod ledger;
pub mod level;
mod micros;
pub mod mirror;
pub mod node;
mod peers;
mod phantoms;
mod proposals;
mod raft_log;
pub mod role;
mod round;
pub mod state;
mod stored;
pub mod ticks;
pub mod view;
pub mod wire;

pub use alarm::Alarm;
pub use command::{
    Announce, CallRef, Cause, Claim, Command, Health, Outcome, Phantoms, ProposalId, Refusal, Seal,
    Standing, StretchRef, Terms,
};
pub use ledger::{ClosedSlot, Fate, Ledger, Over, Slot, Stretch, Task};
pub use mirror::mirror_of;
pub use node::{Node, NodeConfig, Stored};
pub use peers::PeerEvent;
pub use proposals::ProposeError;
pub use role::Patience;
pub use state::{Change, State, Takeover};
pub use ticks::{Ticks, TicksError};
pub use view::{DutyGrant, GroupView, MemberView, duty_alone};
