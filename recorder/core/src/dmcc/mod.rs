//! DMCC: Avaya's CSTA III XML dialect, from bytes to typed events and back. Pure: it never touches
//! a socket or a clock.
//!
//! ```text
//! bytes ─▶ frame ─▶ xml ─▶ message {response, event, error} ─▶ link ─▶ Output, Notice
//!                                                               │
//!        session ── devices (device, logins, terminal, observe, governor, resync) ── taps
//!                                                               │
//! bytes ◀─ frame ◀─ xml ◀───────────── request ◀─────────────── wire
//! ```
//!
//! Parsing follows one rule (dossier 0.3): match local names, take any order, skip what is not
//! known. What no source could settle is in `register`.

mod backoff;
pub mod config;
mod context;
mod device;
mod devices;
pub mod error;
pub mod event;
pub mod fields;
pub mod frame;
mod governor;
mod link;
mod logins;
pub mod message;
pub mod notice;
mod observe;
pub mod register;
pub mod request;
pub mod response;
mod resync;
mod session;
mod setup;
mod step;
mod taps;
mod terminal;
mod traffic;
mod wire;
pub mod xml;

#[cfg(test)]
mod tests;

pub use config::{Attachment, LinkConfig, PhantomConfig, Places, Secret};
pub use error::{CstaError, ErrorCategory};
pub use link::Link;
pub use notice::{Counters, DownCause, Fault, LostCause, Notice, Output};
pub use register::Dialect;
