//! Keeps what the recorder tells of calls that are over, off the control plane's way. It decides only when
//! what was written down is made to last: within a second.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use storage::{CallLog, CallLogError};
use storage_core::completeness::SeenCall;

use crate::alarms::Alarm;
use crate::hub::Hub;

/// Calls that wait to be written down; a disk that stands still for so many has other alarms, too.
const WAITING_MAX: usize = 65_536;
/// What is written down lasts within.
const SYNC: Duration = Duration::from_secs(1);

/// Where calls are told. Ends its thread when the last one is dropped.
#[derive(Clone, Debug)]
pub struct SeenCalls(SyncSender<SeenCall>);

/// Why nothing can be kept.
#[derive(Debug, thiserror::Error)]
pub enum SeenError {
    /// The folder.
    #[error(transparent)]
    Log(#[from] CallLogError),
    /// The system gives no thread.
    #[error("no thread for what is seen of calls")]
    Thread(#[from] io::Error),
}

impl SeenCalls {
    /// Begins to keep calls below a data folder.
    ///
    /// # Errors
    /// [`SeenError`].
    pub fn start(dir: &Path, hub: Arc<Hub>) -> Result<Self, SeenError> {
        let log = CallLog::open(dir)?;
        let (sender, calls) = sync_channel(WAITING_MAX);
        let builder = std::thread::Builder::new().name("calls".to_owned());
        builder.spawn(move || keep(log, &calls, &hub))?;
        Ok(Self(sender))
    }

    /// Has a call written down. Never waits.
    pub fn tell(&self, call: SeenCall) {
        if self.0.try_send(call).is_err() {
            tracing::error!("a call that is over could not be written down: too many wait");
        }
    }
}

fn keep(mut log: CallLog, calls: &Receiver<SeenCall>, hub: &Hub) {
    let mut sync_at: Option<Instant> = None;
    loop {
        let call = match sync_at {
            None => calls.recv().map_err(RecvTimeoutError::from),
            Some(at) => calls.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let done = match &call {
            Ok(call) => {
                sync_at.get_or_insert_with(|| Instant::now() + SYNC);
                log.append(call)
            }
            Err(_) => {
                sync_at = None;
                log.sync()
            }
        };
        told(hub, done.as_ref().err());
        if matches!(call, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
    }
}

fn told(hub: &Hub, error: Option<&CallLogError>) {
    let message = error.map(ToString::to_string).unwrap_or_default();
    hub.alarms.set(
        error.is_some(),
        Alarm {
            name: "calllog",
            subject: String::new(),
            message: format!("what was seen of a call is not written down: {message}"),
            remedy: "make room in al_datadir; the day's completeness lacks this call, its recording is kept",
        },
    );
}
