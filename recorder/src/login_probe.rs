//! Tries the login at an AES, asks what it calls a number at the switch, and ends the session again, for preflight. No
//! device is registered or watched, so nothing on the switch changes.

use std::time::Duration;

use recorder_core::dmcc::{CstaError, ErrorCategory, Link, LinkConfig, Notice, Output};
use storage_core::Extension;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::aes_link::{AesEndpoint, AesLink, SocketEvent};
use crate::clock::Clock;

/// Time for all of it.
const LIMIT: Duration = Duration::from_secs(5);

/// Why the AES did not take the login.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// No connection.
    #[error(transparent)]
    Connect(std::io::Error),
    /// User or password is wrong.
    #[error("the login is refused: {0}")]
    Refused(String),
    /// The AES has a reason of its own.
    #[error("no session is given: {0}")]
    NoSession(String),
    /// It does not speak DMCC, or not in time.
    #[error("no answer to the login within {} s", LIMIT.as_secs())]
    NoAnswer,
    /// The login is taken; what a number at this switch is called is not told.
    #[error(transparent)]
    NoName(CstaError),
}

/// Logs in with the configuration's user and password, asks for the name of this number, and logs out again.
///
/// # Errors
/// [`LoginError`].
pub async fn login(
    endpoint: AesEndpoint,
    config: &LinkConfig,
    number: &Extension,
) -> Result<(), LoginError> {
    let mut watched = LinkConfig::new(&config.switch_name, &config.user, config.password.clone());
    watched.application_id.clone_from(&config.application_id);
    // Nothing is left behind if this process ends in the middle.
    watched.cleanup_seconds = 5;
    let mut probe = Probe {
        link: Link::new(watched),
        socket: AesLink::new(endpoint),
        clock: Clock::start(),
        deadline: Instant::now() + LIMIT,
    };
    probe.link.start(probe.clock.mono());
    probe.drive().await?;
    probe.link.name(probe.clock.mono(), number);
    let named = match probe.drive().await {
        Err(LoginError::NoAnswer) => {
            let words = "no answer in time";
            Err(LoginError::NoName(CstaError::new(ErrorCategory::Unanswered, words)))
        }
        named => named,
    };
    probe.deadline = Instant::now() + LIMIT;
    probe.link.stop(probe.clock.mono());
    // The session is known to be good; whether its end is confirmed does not matter.
    let _ = probe.drive().await;
    named
}

struct Probe {
    link: Link,
    socket: AesLink,
    clock: Clock,
    deadline: Instant,
}

impl Probe {
    /// Until there is a session, or no hope of one, or the number's name is told or not, or the session has ended.
    async fn drive(&mut self) -> Result<(), LoginError> {
        loop {
            while let Some(output) = self.link.poll_output() {
                if let Some(outcome) = self.take(output) {
                    return outcome;
                }
            }
            if self.link.is_stopped() {
                return Ok(());
            }
            let now = self.clock.mono();
            let due = self.link.poll_timeout().map(|due| Instant::now() + due.since(now));
            tokio::select! {
                event = timeout_at(self.deadline, self.socket.event()) => {
                    self.take_event(event.map_err(|_| LoginError::NoAnswer)?)?;
                }
                () = sleep_until(due.unwrap_or(self.deadline)) => {
                    self.link.handle_timeout(self.clock.mono());
                }
            }
        }
    }

    fn take(&mut self, output: Output) -> Option<Result<(), LoginError>> {
        match output {
            Output::Connect => self.socket.connect(),
            Output::Close => self.socket.close(),
            Output::Send(bytes) => drop(self.socket.send(bytes)),
            Output::Notice(Notice::SessionUp { .. } | Notice::Named) => return Some(Ok(())),
            Output::Notice(Notice::NameRefused { error }) => {
                return Some(Err(LoginError::NoName(error)));
            }
            Output::Notice(Notice::CredentialsRefused { detail }) => {
                return Some(Err(LoginError::Refused(detail)));
            }
            Output::Notice(Notice::SessionRefused { detail }) => {
                return Some(Err(LoginError::NoSession(detail)));
            }
            Output::Notice(_) => {}
        }
        None
    }

    fn take_event(&mut self, event: SocketEvent) -> Result<(), LoginError> {
        let now = self.clock.mono();
        match event {
            SocketEvent::Connected => self.link.handle_connected(now, 0),
            SocketEvent::Bytes(bytes) => self.link.handle_bytes(now, &bytes),
            SocketEvent::ConnectFailed(error) | SocketEvent::Closed(error) => {
                return Err(LoginError::Connect(error));
            }
        }
        Ok(())
    }
}
