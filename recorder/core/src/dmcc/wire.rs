//! The way out: gives requests their invoke IDs, remembers what is open and until when, and
//! collects outputs for the shell. What an answer means is not known here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use storage_core::MonoTime;

use super::error::{CstaError, ErrorCategory};
use super::frame;
use super::notice::{Counters, Fault, Notice, Output};
use super::register::Dialect;
use super::request::Request;

/// Invoke IDs that clients use (dossier 1.3).
const INVOKE_MAX: u16 = 9998;

/// A request that waits for its answer.
#[derive(Debug)]
struct Open<P> {
    purpose: P,
    deadline: MonoTime,
}

/// Outputs and open requests; `P` says what a request is for.
#[derive(Debug)]
pub(super) struct Wire<P> {
    pub dialect: Dialect,
    /// Protocol version of the session.
    pub version: Option<String>,
    /// When something was sent last.
    pub last_sent: Option<MonoTime>,
    pub counters: Counters,
    open: BTreeMap<u16, Open<P>>,
    deadlines: BTreeSet<(MonoTime, u16)>,
    last_invoke: u16,
    outputs: VecDeque<Output>,
}

impl<P> Wire<P> {
    pub fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            version: None,
            last_sent: None,
            counters: Counters::default(),
            open: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            last_invoke: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Sends a request and waits `patience` for its answer.
    pub fn send(
        &mut self,
        now: MonoTime,
        request: &Request,
        patience: Duration,
        purpose: P,
    ) -> Result<(), CstaError> {
        let invoke = self.free_invoke().ok_or_else(|| {
            CstaError::new(ErrorCategory::NotSent, "too many requests are open on this link")
        })?;
        let xml = request.to_xml(&self.dialect, self.version.as_deref());
        let frame = frame::encode(invoke, &xml).map_err(|error| {
            self.fault(Fault::RequestTooLong, &error.to_string());
            CstaError::new(ErrorCategory::NotSent, &error.to_string())
        })?;
        self.last_invoke = invoke;
        self.last_sent = Some(now);
        self.counters.requests += 1;
        self.wait_for(invoke, purpose, now + patience);
        self.outputs.push_back(Output::Send(frame));
        Ok(())
    }

    /// Waits (again) for the answer to `invoke`.
    pub fn wait_for(&mut self, invoke: u16, purpose: P, deadline: MonoTime) {
        self.deadlines.insert((deadline, invoke));
        self.open.insert(invoke, Open { purpose, deadline });
    }

    /// The next number that no open request has.
    fn free_invoke(&self) -> Option<u16> {
        let after = self.last_invoke + 1..=INVOKE_MAX;
        let mut numbers = after.chain(1..=self.last_invoke);
        numbers.find(|number| !self.open.contains_key(number))
    }

    /// What the answer to `invoke` is for.
    pub fn answered(&mut self, invoke: u16) -> Option<P> {
        let open = self.open.remove(&invoke)?;
        self.deadlines.remove(&(open.deadline, invoke));
        Some(open.purpose)
    }

    /// A request whose time is over.
    pub fn overdue(&mut self, now: MonoTime) -> Option<(u16, P)> {
        let (deadline, invoke) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.answered(invoke).map(|purpose| (invoke, purpose))
    }

    /// Gives up all open requests, because their answers cannot come any more.
    pub fn abandon(&mut self) -> Vec<P> {
        self.deadlines.clear();
        std::mem::take(&mut self.open).into_values().map(|open| open.purpose).collect()
    }

    pub fn next_deadline(&self) -> Option<MonoTime> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    pub fn connect(&mut self) {
        self.counters.connects += 1;
        self.outputs.push_back(Output::Connect);
    }

    pub fn close(&mut self) {
        self.outputs.push_back(Output::Close);
    }

    pub fn tell(&mut self, notice: Notice) {
        self.outputs.push_back(Output::Notice(notice));
    }

    /// Counts a message that could not be used, and tells of the 1st, 2nd, 4th, 8th … of a kind.
    pub fn fault(&mut self, what: Fault, detail: &str) {
        let count = self.counters.faults.entry(what).or_default();
        *count += 1;
        let counted = *count;
        if counted.is_power_of_two() {
            self.tell(Notice::ProtocolError { what, counted, detail: detail.to_owned() });
        }
    }

    pub fn count_error(&mut self, error: &CstaError) {
        *self.counters.errors.entry(error.category).or_default() += 1;
    }

    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn send(wire: &mut Wire<u16>, purpose: u16) -> Result<(), CstaError> {
        let request = Request::StopSession { session: "S" };
        wire.send(MonoTime::default(), &request, PATIENCE, purpose)
    }

    #[test]
    fn an_invoke_id_is_not_used_again_while_it_is_open() {
        let mut wire = Wire::new(Dialect::default());
        send(&mut wire, 1).unwrap();
        for purpose in 2..=INVOKE_MAX {
            send(&mut wire, purpose).unwrap();
            assert_eq!(wire.answered(purpose), Some(purpose));
        }
        // The count has come round, and 1 is still open.
        send(&mut wire, 7).unwrap();
        assert_eq!(wire.answered(2), Some(7));
        assert_eq!(wire.answered(1), Some(1));
    }

    #[test]
    fn a_full_table_refuses_and_does_not_forget() {
        let mut wire = Wire::new(Dialect::default());
        for purpose in 1..=INVOKE_MAX {
            send(&mut wire, purpose).unwrap();
        }
        assert_eq!(send(&mut wire, 0).unwrap_err().category, ErrorCategory::NotSent);
        assert_eq!(wire.answered(5000), Some(5000));
        send(&mut wire, 0).unwrap();
        assert_eq!(wire.answered(5000), Some(0));
    }

    #[test]
    fn deadlines_come_in_their_order() {
        let mut wire = Wire::new(Dialect::default());
        send(&mut wire, 1).unwrap();
        wire.answered(1);
        wire.wait_for(8, 80, MonoTime::from_millis(20));
        wire.wait_for(9, 90, MonoTime::from_millis(10));
        assert_eq!(wire.next_deadline(), Some(MonoTime::from_millis(10)));
        assert_eq!(wire.overdue(MonoTime::from_millis(9)), None);
        assert_eq!(wire.overdue(MonoTime::from_millis(30)), Some((9, 90)));
        assert_eq!(wire.overdue(MonoTime::from_millis(30)), Some((8, 80)));
        assert_eq!(wire.overdue(MonoTime::from_millis(30)), None);
    }

    #[test]
    fn faults_are_told_ever_more_rarely() {
        let mut wire: Wire<u16> = Wire::new(Dialect::default());
        for _ in 0..100 {
            wire.fault(Fault::NotXml, "");
        }
        assert_eq!(std::iter::from_fn(|| wire.poll()).count(), 7);
        assert_eq!(wire.counters.faults[&Fault::NotXml], 100);
    }
}
