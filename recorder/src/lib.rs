//! The recorder's shells: the link to the AES, the media thread, the sealer.

pub mod clock;
mod journal_sync;
mod media_port;
pub mod media_stats;
pub mod media_thread;
pub mod rtp_socket;
