//! Carries alarms to webhook, mail and traps: one task for each, which waits for changes and for the moment
//! that its outbox names. Recording never waits for any of them: what is raised goes into a bounded
//! channel, and whoever is slow loses the oldest and looks at what is raised now instead.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cluster::Group;
use recorder::clock::Clock;
use storage_core::NodeId;
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::outbox::{Change, Notice, Outbox, Pace};
use super::whose::Sight;
use super::{Alarm, known, mail, smtp, trap, webhook};
use crate::config::{AlarmsOut, Mail, Trap, Webhook};
use crate::hub::Hub;
use crate::tls_client::TlsFailure;

/// How often the group is looked at for what was another member's to tell.
const LOOK: Duration = Duration::from_secs(1);
/// Longest time for one delivery.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);
/// Nobody reads more mails than this; what comes meanwhile is in the next.
const MAIL_PACE: Pace = Pace { at_once: 100, rest: Duration::from_secs(30) };
const ONE_BY_ONE: Pace = Pace { at_once: 1, rest: Duration::ZERO };
const NAME: &str = "alarmnotsent";

/// Why a notice has not arrived, as far as is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSent {
    /// No connection, or it broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The receiver does not take it.
    #[error("{0}")]
    Refused(String),
    /// The certificates do not do.
    #[error("TLS: {0}")]
    Tls(#[from] TlsFailure),
    /// Nothing came back.
    #[error("no answer within {} s", DELIVERY_TIMEOUT.as_secs())]
    Late,
}

/// A way out.
enum Channel {
    Webhook(Webhook),
    Mail(Mail),
    Trap(Trap),
}

impl Channel {
    /// The parameter that names it, and the subject of the alarm that it does not work.
    fn key(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "al_alarmwebhook",
            Self::Mail(_) => "al_alarmmail",
            Self::Trap(_) => "al_alarmtrap",
        }
    }

    fn pace(&self) -> Pace {
        match self {
            Self::Mail(_) => MAIL_PACE,
            Self::Webhook(_) | Self::Trap(_) => ONE_BY_ONE,
        }
    }

    async fn deliver(&self, sender: &Sender, notices: &[Notice]) -> Result<(), NotSent> {
        match self {
            Self::Mail(to) => {
                smtp::send(to, &mail::message(to, sender.node, Clock::wall(), notices)).await
            }
            Self::Webhook(to) => {
                for notice in notices {
                    webhook::post(to, &webhook::body(sender.node, notice)).await?;
                }
                Ok(())
            }
            Self::Trap(to) => {
                for notice in notices {
                    send_trap(to, sender, notice).await?;
                }
                Ok(())
            }
        }
    }
}

/// Who tells.
struct Sender {
    node: NodeId,
    clock: Clock,
}

/// A trap is not answered: sent is all that is ever known, but for a name that cannot be resolved.
async fn send_trap(to: &Trap, sender: &Sender, notice: &Notice) -> Result<(), NotSent> {
    let mut found = lookup_host((to.to.host.as_str(), to.to.port)).await?;
    let place = found.next().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let any: SocketAddr = match place {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let up = Duration::from_micros(sender.clock.mono().as_micros());
    let severity = known::severity(notice.change.alarm.name);
    let message = trap::message(to.community.expose(), sender.node, severity, up, notice);
    UdpSocket::bind(any).await?.send_to(&message, place).await?;
    Ok(())
}

/// Starts whatever is configured.
#[must_use]
pub fn start(out: &AlarmsOut, hub: &Arc<Hub>, group: &Group) -> Vec<JoinHandle<()>> {
    let channels = [
        out.webhook.clone().map(Channel::Webhook),
        out.mail.clone().map(Channel::Mail),
        out.trap.clone().map(Channel::Trap),
    ];
    let started = channels.into_iter().flatten().map(|channel| {
        let teller = Teller {
            outbox: Outbox::new(channel.pace()),
            channel,
            sender: Sender { node: group.node(), clock: Clock::start() },
            hub: Arc::clone(hub),
            group: group.clone(),
            why: String::new(),
        };
        tokio::spawn(teller.run(hub.alarms.changes()))
    });
    started.collect()
}

struct Teller {
    channel: Channel,
    outbox: Outbox,
    sender: Sender,
    hub: Arc<Hub>,
    group: Group,
    /// Why the last delivery failed.
    why: String,
}

impl Teller {
    async fn run(mut self, mut changes: broadcast::Receiver<Arc<Change>>) {
        let mut look = interval(LOOK);
        let origin = (Instant::now(), self.sender.clock.mono());
        // What was raised before this began.
        self.compare();
        loop {
            let due = self.outbox.due().map(|due| origin.0 + due.since(origin.1));
            tokio::select! {
                change = changes.recv() => match change {
                    Ok(change) => self.change(&change),
                    Err(RecvError::Lagged(_)) => self.compare(),
                    Err(RecvError::Closed) => return,
                },
                () = sleep_until(due.unwrap_or(origin.0)), if due.is_some() => self.deliver().await,
                _ = look.tick() => self.outbox.look(&Sight::of(&self.group.view())),
            }
        }
    }

    /// That it does not work is for the other channels to tell.
    fn is_about_itself(&self, alarm: &Alarm) -> bool {
        alarm.name == NAME && alarm.subject == self.channel.key()
    }

    fn change(&mut self, change: &Change) {
        if !self.is_about_itself(&change.alarm) {
            self.outbox.change(change.clone(), &Sight::of(&self.group.view()));
        }
    }

    fn compare(&mut self) {
        let mut raised = self.hub.alarms.list();
        raised.retain(|alarm| !self.is_about_itself(alarm));
        self.outbox.compare(raised, Clock::wall(), &Sight::of(&self.group.view()));
    }

    async fn deliver(&mut self) {
        let notices = self.outbox.take(self.sender.clock.mono());
        if notices.is_empty() {
            return;
        }
        let delivery = self.channel.deliver(&self.sender, &notices);
        let outcome = timeout(DELIVERY_TIMEOUT, delivery).await.unwrap_or(Err(NotSent::Late));
        let now = self.sender.clock.mono();
        match outcome {
            Ok(()) => self.outbox.delivered(now),
            Err(why) => {
                self.outbox.failed(now);
                self.why = why.to_string();
                let waiting = self.outbox.waiting();
                let channel = self.channel.key();
                tracing::debug!(channel, waiting, error = self.why, "an alarm was not sent");
            }
        }
        self.hub.alarms.set(self.outbox.in_trouble(), self.not_sent());
    }

    fn not_sent(&self) -> Alarm {
        let key = self.channel.key();
        let lost = match self.outbox.lost() {
            0 => String::new(),
            lost => format!("; {lost} were given up so far"),
        };
        Alarm {
            name: "alarmnotsent",
            subject: key.to_owned(),
            message: format!("alarms do not get through by {key}: {}{lost}", self.why),
            remedy: "look at the receiver and at the parameter; it is tried again, at last every minute, and what \
                     waits is bounded",
        }
    }
}
