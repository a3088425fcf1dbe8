//! AstLogger: redundant call recording for call centres on Avaya Communication Manager.
//!
//! `daemon` builds a node from the crates below: `recorder` (the link to the AES, calls, media),
//! `storage` (capture journal, voice files, catalog), `cluster` (roles and duties). `node` is what
//! the `web` server sees of it, `hub` what becomes of everything the recorder tells. The map is in
//! `ARCHITECTURE.md`.

mod alarms;
pub mod command;
pub mod config;
pub mod daemon;
pub mod demo;
mod hub;
mod local;
pub mod metrics;
mod node;
pub mod preflight;
mod sealing_alone;
pub mod users;
pub mod web;
mod wiring;
