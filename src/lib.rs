//! AstLogger: redundant call recording for call centres on Avaya Communication Manager.
//!
//! `daemon` builds a node from the crates below: `recorder` (the link to the AES, calls, media),
//! `storage` (capture journal, voice files, catalog), `cluster` (roles and duties). `node` is what
//! it says of itself, `group` what it says for its whole group, asking its `peers`: the `web` server
//! sees that, the `console` the node; `mirror` keeps what another node captures, `copies` the voice files
//! of other members; `hub` what becomes of everything the recorder tells. The map is in
//! `ARCHITECTURE.md`.

mod alarms;
mod archive;
pub mod audit;
pub mod audit_pages;
pub mod bridge;
mod catalog;
pub mod catalog_database;
mod catalog_walk;
mod certificates;
pub mod command;
pub mod completeness;
pub mod config;
pub mod console;
pub mod copies;
pub mod daemon;
mod deletion;
pub mod demo;
mod evidence;
mod exports;
pub mod group;
mod http_client;
mod hub;
mod local;
mod logging;
mod marks;
pub mod metrics;
pub mod mirror;
mod node;
pub mod peers;
pub mod preflight;
mod recording;
mod repair;
pub mod retention;
mod room;
pub mod scrub;
mod seen;
mod stamp;
mod syncs;
pub mod tidings;
mod tls_client;
pub mod users;
mod watchdog;
pub mod web;
mod wiring;
