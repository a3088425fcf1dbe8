//! Encrypted media: from what came on a phantom's port to plain RTP and RTCP (RFC 3711).
//!
//! [`Decryptor`] is what the media thread uses: it knows which terms hold on a port, opens what can
//! be opened and keeps for a while what cannot yet. [`MediaKeys`] is what the switch tells.
//!
//! | file | decides |
//! |---|---|
//! | `keys` | what keys and ciphers are; how they are kept from logs |
//! | `transform` | the cryptography: derivation, key stream, tags; the only file that names its library |
//! | `window` | packet indices: rollover counter, replays |
//! | `context` | one key: is this packet authentic, and what does it say |
//! | `decryptor` | which key for which packet, and what waits for a key |

mod context;
mod decryptor;
mod keys;
#[cfg(test)]
pub(super) mod sender;
#[cfg(test)]
mod tests;
mod transform;
mod window;

pub use context::{ROC_GUESS_MAX, Refusal};
pub use decryptor::{Arrival, Decryptor, HELD_FOR, HELD_MAX, OLD_KEY_GRACE};
pub use keys::{KEY_BYTES, KeyFault, MediaKeys, Protection, SALT_BYTES, SessionKeys, Suite};
