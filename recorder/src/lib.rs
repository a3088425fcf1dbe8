//! The recorder's shells: the link to the AES, the media thread, the sealer.

pub mod aes_link;
pub mod clock;
pub mod control_task;
pub mod decode;
mod excerpts;
mod journal_sync;
pub mod levels;
pub mod listening;
pub mod login_probe;
mod media_port;
mod media_ring;
pub mod media_stats;
mod media_tap;
pub mod media_thread;
mod media_worker;
pub mod mirror_keeper;
pub mod mirrored;
mod offsets;
#[cfg(feature = "opus")]
pub mod opus_file;
#[cfg(feature = "opus")]
mod opus_read;
#[cfg(feature = "opus")]
mod opus_wav;
pub mod playback;
mod published_file;
pub mod pulled;
pub mod recovery;
pub mod repairing;
pub mod rtp_socket;
pub mod seal_queue;
pub mod sealer;
pub mod sealing;
mod voice_sink;
#[cfg(feature = "opus")]
mod wav_opus;
