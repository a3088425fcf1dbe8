//! Has the node's manifest signed: looks whether a checkpoint is due as long as the node runs, and makes the last
//! one when it stops. When one is due is decided in [`storage_core::manifest`]. Other nodes sign it, too: [`countersign`].

pub mod countersign;
pub mod rounds;

use std::sync::Arc;
use std::time::Duration;

use storage::{Manifest, VoiceError};
use tokio::task::spawn_blocking;

use crate::alarms::Alarm;
use crate::hub::Hub;

const LOOK: Duration = Duration::from_secs(2);

/// Makes checkpoints until it is stopped.
pub async fn sign(manifest: Arc<Manifest>, hub: Arc<Hub>) {
    let mut beat = tokio::time::interval(LOOK);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beat.tick().await;
        let signing = Arc::clone(&manifest);
        let Ok(signed) = spawn_blocking(move || signing.look()).await else { return };
        let has_key = manifest.public_key().is_some();
        hub.alarms.set(signed.is_err(), not_signed(signed.err().as_ref(), has_key));
    }
}

/// Makes the last checkpoint of a node that stops.
pub async fn sign_last(manifest: Arc<Manifest>) {
    let signed = spawn_blocking(move || manifest.checkpoint()).await;
    if let Ok(Err(error)) = signed {
        tracing::warn!(%error, "the next start signs what was published last");
    }
}

fn not_signed(error: Option<&VoiceError>, has_key: bool) -> Alarm {
    let why = error.map(in_words).unwrap_or_default();
    let remedy = if has_key {
        "make room below al_datadir, or mend the disk; what is published meanwhile is signed then"
    } else {
        "bring manifest/signing.key below al_datadir back from a backup, readable by the service: it is used within \
         seconds, and signs what was published meanwhile. If it is lost for good, move manifest/node.der and what is left of \
         manifest/signing.key away: a new key is made then, which verify and the other nodes will name"
    };
    Alarm {
        name: "notsigned",
        subject: String::new(),
        message: format!("what is published is not signed: {why}"),
        remedy,
    }
}

/// An error with what is behind it.
fn in_words(error: &VoiceError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
