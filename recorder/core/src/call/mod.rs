//! Calls: what the switch says of them, what we make of it, and whether to record.

pub mod event;
