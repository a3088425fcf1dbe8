//! What is wrong now, by name: raised once, cleared once, told to watchers, the log, the metrics, and
//! whoever carries alarms out ([`tell`]). Who raises and clears what is the parts' matter.

pub mod known;
mod mail;
pub mod outbox;
mod smtp;
pub mod tell;
mod trap;
mod webhook;
pub mod whose;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use recorder::clock::Clock;
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

use crate::metrics::Metrics;
use crate::web::backend::{Event, Topic};
use outbox::Change;

/// More alarms than this at once say nothing more to anybody; further ones are only logged.
const RAISED_MAX: usize = 10_000;
/// Changes that whoever carries them out may be behind before he has to look at all.
const CHANGES_BEHIND_MAX: usize = 1024;

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Its stable name: lower case, words run together.
    pub name: &'static str,
    /// What it is about: a phantom, a call, a folder; empty if there is only one.
    pub subject: String,
    /// What is wrong, for people.
    pub message: String,
    /// What to do about it.
    pub remedy: &'static str,
}

/// All alarms that are raised.
pub struct Alarms {
    raised: Mutex<BTreeMap<(&'static str, String), Alarm>>,
    events: broadcast::Sender<Arc<Event>>,
    changes: broadcast::Sender<Arc<Change>>,
    metrics: Arc<Metrics>,
}

impl Alarms {
    /// None yet.
    #[must_use]
    pub fn new(events: broadcast::Sender<Arc<Event>>, metrics: Arc<Metrics>) -> Self {
        let (changes, _) = broadcast::channel(CHANGES_BEHIND_MAX);
        Self { raised: Mutex::default(), events, changes, metrics }
    }

    /// Whatever is raised and cleared from now on.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Arc<Change>> {
        self.changes.subscribe()
    }

    /// Raises an alarm; nothing happens if it is raised already and says the same.
    pub fn raise(&self, alarm: Alarm) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (alarm.name, alarm.subject.clone());
        if raised.get(&key) == Some(&alarm) {
            return;
        }
        tracing::warn!(alarm = alarm.name, "{}: {}", alarm.message, alarm.remedy);
        if raised.len() >= RAISED_MAX {
            return;
        }
        self.tell(true, &alarm);
        raised.insert(key, alarm);
        self.count(&raised);
    }

    /// Clears an alarm; nothing happens if it is not raised.
    pub fn clear(&self, name: &'static str, subject: &str) {
        let mut raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(alarm) = raised.remove(&(name, subject.to_owned())) {
            tracing::info!(alarm = name, "cleared: {}", alarm.message);
            self.tell(false, &alarm);
            self.count(&raised);
        }
    }

    /// Raises or clears, by whether it is so.
    pub fn set(&self, is_so: bool, alarm: Alarm) {
        if is_so {
            self.raise(alarm);
        } else {
            self.clear(alarm.name, &alarm.subject);
        }
    }

    /// Whether it is raised.
    #[must_use]
    pub fn is_raised(&self, name: &'static str, subject: &str) -> bool {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.contains_key(&(name, subject.to_owned()))
    }

    /// All of this name, as reasons for people, each with what to do about it.
    #[must_use]
    pub fn reasons(&self, name: &str) -> Vec<String> {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let named = raised.values().filter(|alarm| alarm.name == name);
        named.map(|alarm| format!("{}: {}", alarm.message, alarm.remedy)).collect()
    }

    /// Everything that is raised, by name and subject.
    #[must_use]
    pub fn list(&self) -> Vec<Alarm> {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.values().cloned().collect()
    }

    /// Everything that is raised, as programs read it.
    #[must_use]
    pub fn all(&self) -> Vec<Value> {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        raised.values().map(|alarm| Value::Object(body(alarm))).collect()
    }

    fn tell(&self, raised: bool, alarm: &Alarm) {
        let eventtype = if raised { "alarm" } else { "alarmcleared" };
        // Without watchers nobody needs to hear of it.
        drop(self.events.send(Arc::new(Event::new(
            Topic::Alarms,
            eventtype,
            Vec::new(),
            body(alarm),
        ))));
        drop(self.changes.send(Arc::new(Change {
            raised,
            alarm: alarm.clone(),
            at: Clock::wall(),
        })));
    }

    fn count(&self, raised: &BTreeMap<(&'static str, String), Alarm>) {
        for kind in known::ALL {
            let count = raised.keys().filter(|(name, _)| *name == kind.name).count();
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.metrics.alarms.with_label_values(&[kind.name]).set(count);
        }
    }
}

fn body(alarm: &Alarm) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("alarm".to_owned(), json!(alarm.name));
    body.insert("subject".to_owned(), json!(alarm.subject));
    body.insert("message".to_owned(), json!(alarm.message));
    body.insert("remedy".to_owned(), json!(alarm.remedy));
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_told_once_until_it_is_cleared() {
        let (events, mut heard) = broadcast::channel(8);
        let alarms = Alarms::new(events, Arc::new(Metrics::new()));
        let alarm = Alarm {
            name: "aesdown",
            subject: String::new(),
            message: "no session".to_owned(),
            remedy: "look at the AES",
        };
        alarms.raise(alarm.clone());
        alarms.raise(alarm);
        assert_eq!(alarms.reasons("aesdown"), ["no session: look at the AES"]);
        alarms.clear("aesdown", "");
        alarms.clear("aesdown", "");
        assert!(alarms.all().is_empty());
        assert!(heard.try_recv().unwrap().text().contains("\"alarm\""));
        assert!(heard.try_recv().unwrap().text().contains("\"alarmcleared\""));
        assert!(heard.try_recv().is_err());
    }
}
