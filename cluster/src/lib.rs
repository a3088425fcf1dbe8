//! The group as this node sees it, behind a handle that the rest of the program watches and asks.
//! It holds no telephony and no media. What the group decides is `cluster-core`'s; here are its
//! disk, its network, its clock and its thread.
//!
//! ```text
//!   links ──messages, resets──▶ driver (a thread) ──▶ log file, synced
//!     ▲                           │        │
//!     └────────messages───────────┘        ├──▶ watch: duty, view, alarms
//!                                          ├──▶ changes of the ledger, in order
//!   Group ──proposals─────────▶ driver     └──▶ a copy of the state for readers
//! ```

mod accept;
mod alarm;
mod alone;
mod begin;
mod cadence;
mod clock;
mod config;
mod dial;
mod driver;
mod frame;
mod frame_file;
mod gate;
mod group;
mod hello;
pub mod identity;
mod links;
mod log_store;
mod marker;
mod request;
mod tls;

pub use alarm::{GroupAlarm, GroupFailure};
pub use config::{ConfigError, GroupConfig};
pub use group::{Group, JoinError, ProposeFailure};
pub use hello::{PROTOCOL_VERSION, speaker};
pub use links::Counters;
pub use log_store::LogError;
pub use marker::{ClusterId, MarkerError};
pub use request::{CHUNK_MAX, Ears, REQUEST_MAX, Reply, RequestError, Response, Talk};
pub use tls::{TlsError, TlsFiles};
