//! Has the node's manifest signed: looks whether a checkpoint is due as long as the node runs, and makes the last
//! one when it stops. When one is due is decided in [`storage_core::manifest`].

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
        hub.alarms.set(signed.is_err(), not_signed(signed.err().as_ref()));
    }
}

/// Makes the last checkpoint of a node that stops.
pub async fn sign_last(manifest: Arc<Manifest>) {
    let signed = spawn_blocking(move || manifest.checkpoint()).await;
    if let Ok(Err(error)) = signed {
        tracing::warn!(%error, "the next start signs what was published last");
    }
}

fn not_signed(error: Option<&VoiceError>) -> Alarm {
    let why = error.map(ToString::to_string).unwrap_or_default();
    Alarm {
        name: "notsigned",
        subject: String::new(),
        message: format!("what is published is not signed: {why}"),
        remedy: "make room below al_datadir, or mend the disk; what is published meanwhile is signed then",
    }
}
