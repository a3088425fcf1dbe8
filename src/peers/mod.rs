//! What members ask each other outside the group's log: search, fetch, calls, start and stop, and
//! the captures of a recording. `protocol` has the words and their bounds, `server` answers for
//! this node, `client` asks, `audio` reads a peer's audio as if it lay here. Whom to ask, and what
//! to make of several answers, is decided in `group`.

mod audio;
mod client;
pub mod protocol;
mod server;

pub use audio::RemoteAudio;
pub use client::{PeerError, Peers, Stream};
pub use server::{CaptureChunks, PeerService, serve};
