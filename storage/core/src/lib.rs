//! The words everybody speaks: identities, times, recordings, and the form in which captured
//! media is kept. Pure: nothing here reads a clock, a file, a socket or a random source.

pub mod archived;
pub mod audit;
pub mod chain;
pub mod cipher_file;
pub mod completeness;
pub mod countersign;
pub mod draft;
pub mod g711;
pub mod hex;
pub mod hold;
pub mod ids;
pub mod journal;
pub mod journal_block;
pub mod journal_cipher;
pub mod journal_scan;
pub mod key_file;
pub mod manifest;
pub mod marks;
pub mod mirror_wire;
pub mod naming;
pub mod query;
pub mod record;
pub mod redact;
pub mod role;
pub mod scope;
pub mod scorecard;
pub mod stretch;
pub mod terms;
pub mod time;
pub mod tombstone;
pub mod wrapped_key;

pub use draft::Draft;
pub use ids::{CallId, Extension, NodeId, RecordingId, SegmentId, Ucid};
pub use record::Recording;
pub use redact::Redacted;
pub use role::{Duty, Role};
pub use scope::Scope;
pub use time::{MonoTime, Now, WallTime};
