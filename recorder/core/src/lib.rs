//! Telephony and media without I/O: DMCC, calls, recording decisions, and the timeline of captured media.

pub mod call;
pub mod controller;
pub mod dmcc;
pub mod media;

mod receiver;

pub use receiver::Receiver;
