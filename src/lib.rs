//! AstLogger.

pub mod command;
pub mod config;
pub mod daemon;
pub mod demo;
mod local;
pub mod metrics;
pub mod preflight;
pub mod users;
