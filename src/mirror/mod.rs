//! Mirrored capture: each recorder keeps what another one captures as that captures it, so that the loss
//! of one node takes no more with it than what was on its way. Who keeps whose is decided in
//! [`cluster_core::mirror`], what is done with it when a recording is sealed in [`crate::bridge`]; here
//! nodes give and take.
//!
//! ```text
//! owner   media thread ──▶ capture journal ──JournalTail──▶ Outlet ══ peer link ══▶ fetch ──▶ MirrorKeeper   mirror
//!                                                             ▲══════ so far taken ═══╯           │
//!                                                            lag                         mirror/NODE/capture
//! ```

mod fetch;
mod forget;
mod lag;
mod outlet;
mod store;

pub use fetch::keep;
pub use lag::Lag;
pub use outlet::{Feed, Outlet};
pub use store::MirrorStore;
