//! Service observing: a softphone that goes off-hook, dials a feature access code and a station, and is
//! bridged to that station's calls from then on. What it hears follows the station: the call that the
//! station has on hold is on hold for the observer, too.
//!
//! An observer takes a place in each call. Where no place or no right to observe is left, it waits.

use super::{
    Body, CallId, ConnectionState, Device, Direction, Extension, Number, Participation, Party,
    Refusal, StationKind, Switch,
};
use crate::time::Time;

/// A softphone's receiver and keypad.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Keypad {
    digits: String,
    /// When a button was pressed last, or the receiver lifted.
    pressed: Time,
    /// The call that dialling is, until the feature has taken over.
    call: Option<CallId>,
    /// The station that is observed.
    target: Option<Extension>,
}

impl Switch {
    /// Lifts a softphone's receiver or puts it down, which ends what it observes.
    ///
    /// # Errors
    /// It is not registered, or busy.
    pub fn set_hookswitch(
        &mut self,
        now: Time,
        phantom: &Extension,
        off: bool,
    ) -> Result<(), Refusal> {
        self.now = now;
        if self.main_registration(phantom).is_none() {
            return Err(Refusal::OutOfService(phantom.clone()));
        }
        if !off {
            self.stop_observing(phantom);
            return Ok(());
        }
        if self.keypads.contains_key(phantom) {
            return Ok(());
        }
        self.check_free(phantom)?;
        let number = Number(phantom.as_str().to_owned());
        let id = self.new_call(Direction::Internal, number.clone(), Number(String::new()));
        let device = Device::Extension(phantom.clone());
        let state = ConnectionState::Initiated;
        let party = Party { recorder: true, ..Party::person(device, number, state) };
        self.add_party(id, party);
        self.emit(id, Body::ServiceInitiated { device: phantom.clone(), cause: "makeCall" });
        let keypad = Keypad { digits: String::new(), pressed: now, call: Some(id), target: None };
        self.keypads.insert(phantom.clone(), keypad);
        Ok(())
    }

    /// Presses a button. One that follows the last too fast is lost, and nobody is told.
    ///
    /// # Errors
    /// The receiver is down.
    pub fn press(&mut self, now: Time, phantom: &Extension, digit: char) -> Result<(), Refusal> {
        self.now = now;
        let codes = &self.switches.observe_codes;
        let (pace, feature) = (self.switches.button_pace_ms, self.switches.feature_pace_ms);
        let Some(keypad) = self.keypads.get_mut(phantom) else {
            return Err(Refusal::WrongState(phantom.as_str().to_owned()));
        };
        let pace = if codes.contains(&keypad.digits) { feature } else { pace };
        let since = now.since(std::mem::replace(&mut keypad.pressed, now));
        if keypad.target.is_some() || since.as_millis() < u128::from(pace) {
            return Ok(());
        }
        keypad.digits.push(digit);
        let digits = keypad.digits.clone();
        let begun = codes.iter().any(|code| code.starts_with(&digits));
        let behind = codes.iter().find_map(|code| digits.strip_prefix(code.as_str()));
        let target = behind.map(Extension::from);
        match target {
            _ if begun => {}
            Some(target) if self.stations.contains_key(&target) => {
                self.begin_observing(phantom, &target);
            }
            Some(target) if self.is_begin_of_station(&target) => {}
            _ => self.refuse_observing(phantom, &digits),
        }
        Ok(())
    }

    /// Ends what a softphone observes, as the switch does on its own: nobody is told but by its leaving.
    pub fn end_observing(&mut self, now: Time, phantom: &Extension) {
        self.now = now;
        self.stop_observing(phantom);
    }

    /// Which station a softphone observes.
    #[must_use]
    pub fn observed_by(&self, phantom: &Extension) -> Option<&Extension> {
        self.keypads.get(phantom)?.target.as_ref()
    }

    /// Brings the observers into the calls of their stations and out again. To be called after every
    /// change of the switch.
    pub fn settle_observers(&mut self, now: Time) {
        self.now = now;
        let all: Vec<_> = self
            .keypads
            .iter()
            .filter_map(|(phantom, keypad)| Some((phantom.clone(), keypad.target.clone()?)))
            .collect();
        for (phantom, target) in &all {
            for id in self.calls_at(phantom).to_vec() {
                if self.calls.get(&id).is_some_and(|call| call.at(target).is_none()) {
                    let _ = self.leave(id, &Device::Extension(phantom.clone()), "normalClearing");
                }
            }
        }
        for (phantom, target) in &all {
            for id in self.calls_at(target).to_vec() {
                self.observe_call(id, phantom, target);
            }
        }
    }

    /// How many observers are in a call.
    pub(super) fn observers_in(&self, id: CallId) -> usize {
        let parties = self.calls.get(&id).map_or(&[][..], |call| call.parties.as_slice());
        let extensions = parties.iter().filter_map(|party| party.device.extension());
        extensions.filter(|extension| self.observed_by(extension).is_some()).count()
    }

    /// A softphone's registration is gone, and with it its receiver.
    pub(super) fn forget_keypad(&mut self, phantom: &Extension) {
        self.keypads.remove(phantom);
    }

    fn observe_call(&mut self, id: CallId, phantom: &Extension, target: &Extension) {
        let Some(call) = self.calls.get(&id) else { return };
        let Some(state) = call.at(target).map(|party| party.state) else { return };
        let talks = matches!(state, ConnectionState::Connected | ConnectionState::Held);
        if call.established.is_none() || !talks {
            return;
        }
        let device = Device::Extension(phantom.clone());
        match call.at(phantom).map(|party| party.state) {
            Some(own) if own == state => {}
            Some(_) => {
                self.set_state(id, phantom, state);
                self.touched.insert(phantom.clone());
            }
            None => {
                let full = call.parties.len() >= self.max_parties;
                if full || self.observers_in(id) >= self.switches.observers_max {
                    return;
                }
                let participation = Participation::Silent;
                let number = Number(phantom.as_str().to_owned());
                let party = Party::person(device.clone(), number, ConnectionState::Connected);
                let joined_as = Some(participation);
                self.add_party(id, Party { joined_as, recorder: true, ..party });
                self.connect(id, &device, "silentParticipation", Some(participation));
                self.set_state(id, phantom, state);
            }
        }
    }

    fn begin_observing(&mut self, phantom: &Extension, target: &Extension) {
        let others =
            self.keypads.values().filter(|pad| pad.target.as_ref() == Some(target)).count();
        let barred = self.switches.not_observable.iter().any(|barred| barred == target.as_str());
        let telephone = self.station_kind(target) == Some(StationKind::Telephone);
        if barred || !telephone || others >= self.switches.observers_max {
            return self.refuse_observing(phantom, target.as_str());
        }
        let Some(keypad) = self.keypads.get_mut(phantom) else { return };
        keypad.target = Some(target.clone());
        let dialled = keypad.call.take();
        if let Some(id) = dialled {
            let _ = self.leave(id, &Device::Extension(phantom.clone()), "normalClearing");
        }
    }

    /// The switch gives the intercept tone.
    fn refuse_observing(&mut self, phantom: &Extension, dialled: &str) {
        let Some(id) = self.keypads.get(phantom).and_then(|keypad| keypad.call) else { return };
        self.set_state(id, phantom, ConnectionState::Failed);
        let failing = Number(dialled.to_owned());
        self.emit(id, Body::Failed { device: phantom.clone(), failing, cause: "blocked" });
    }

    fn stop_observing(&mut self, phantom: &Extension) {
        if self.keypads.remove(phantom).is_none() {
            return;
        }
        for id in self.calls_at(phantom).to_vec() {
            // It is in each of them, so leaving cannot be refused.
            let _ = self.leave(id, &Device::Extension(phantom.clone()), "normalClearing");
        }
    }

    fn is_begin_of_station(&self, digits: &Extension) -> bool {
        self.stations.keys().any(|station| station.as_str().starts_with(digits.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SiteConfig;
    use crate::switch::{Content, Dependency, MediaMode, Owner, Registration, Serial};

    /// A switch with telephones 31001 to 31006 and registered softphones.
    struct Desk {
        switch: Switch,
        now: Time,
    }

    fn ext(text: &str) -> Extension {
        Extension::from(text)
    }

    impl Desk {
        fn new(observers_max: usize) -> Self {
            let mut config = SiteConfig::demo(6, 1);
            config.switches.observers_max = observers_max;
            config.switches.not_observable = vec!["31006".to_owned()];
            let switch = Switch::new(&config, 0).unwrap();
            let mut desk = Self { switch, now: Time::from_millis(1000) };
            ["78001", "78002", "78003"].into_iter().for_each(|phantom| desk.register(phantom));
            desk
        }

        fn register(&mut self, phantom: &str) {
            let registration = Registration {
                owner: Owner { aes: 0, session: 0 },
                dependency: Dependency::Main,
                mode: MediaMode::Client,
                content: Content::Full,
                media: None,
            };
            let key = (ext(phantom), 0);
            self.switch.register(self.now, &key, "123456", true, registration).unwrap();
        }

        /// Off-hook, then all digits: so many milliseconds between two, and behind the code.
        fn dial(&mut self, phantom: &str, station: &str, pace: u64, feature: u64) {
            self.switch.set_hookswitch(self.now, &ext(phantom), true).unwrap();
            for (number, digit) in format!("*55{station}").chars().enumerate() {
                let wait = if number == 3 { feature } else { pace };
                self.now = self.now.after_millis(wait);
                self.switch.press(self.now, &ext(phantom), digit).unwrap();
            }
            self.settle();
        }

        fn observe(&mut self, phantom: &str, station: &str) {
            self.dial(phantom, station, 200, 500);
            assert_eq!(self.switch.observed_by(&ext(phantom)), Some(&ext(station)));
        }

        fn settle(&mut self) {
            self.switch.settle_observers(self.now);
        }

        fn talk(&mut self, station: &str) -> Serial {
            let serial = self.switch.inbound(self.now, "5551230001", station, b"").unwrap();
            self.switch.answer(self.now, &ext(station)).unwrap();
            self.settle();
            serial
        }

        fn parties(&self, serial: Serial) -> Vec<String> {
            let call = self.switch.call_of(serial).unwrap();
            call.parties.iter().map(|party| party.number.0.clone()).collect()
        }

        fn hears(&self, phantom: &str) -> Option<Serial> {
            self.switch.heard_at(&ext(phantom)).map(|call| call.serial)
        }
    }

    #[test]
    fn an_observer_hears_what_its_station_talks_in() {
        let mut desk = Desk::new(1);
        desk.observe("78001", "31001");
        assert!(desk.switch.calls().is_empty(), "dialling was a call, and is over");
        let first = desk.talk("31001");
        assert_eq!(desk.parties(first), ["5551230001", "31001", "78001"]);
        assert_eq!(desk.hears("78001"), Some(first));
        let second = desk.switch.consult(desk.now, &ext("31001"), None, "31002").unwrap();
        desk.settle();
        assert_eq!(desk.hears("78001"), None, "the held call is on hold, the other only rings");
        desk.switch.answer(desk.now, &ext("31002")).unwrap();
        desk.settle();
        assert_eq!(desk.hears("78001"), Some(second));
        desk.switch.transfer(desk.now, &ext("31001"), None).unwrap();
        desk.settle();
        assert_eq!(desk.parties(first), ["5551230001", "31002"], "it leaves with its station");
    }

    #[test]
    fn digits_that_come_too_fast_are_lost_without_a_word() {
        for (pace, feature) in [(100, 500), (200, 300)] {
            let mut desk = Desk::new(1);
            desk.dial("78001", "31001", pace, feature);
            assert_eq!(desk.switch.observed_by(&ext("78001")), None, "{pace} {feature}");
        }
    }

    #[test]
    fn who_may_not_be_observed_is_refused_with_a_failed_call() {
        // Barred by its restrictions; observed already; no telephone; no code at all.
        for dialled in ["*5531006", "*5531001", "*5578003", "*1"] {
            let mut desk = Desk::new(1);
            desk.observe("78001", "31001");
            while desk.switch.poll_event().is_some() {}
            desk.switch.set_hookswitch(desk.now, &ext("78002"), true).unwrap();
            for digit in dialled.chars() {
                desk.now = desk.now.after_millis(600);
                desk.switch.press(desk.now, &ext("78002"), digit).unwrap();
            }
            assert_eq!(desk.switch.observed_by(&ext("78002")), None, "{dialled}");
            let failed = std::iter::from_fn(|| desk.switch.poll_event())
                .any(|event| matches!(event.body, Body::Failed { .. }));
            assert!(failed, "{dialled}");
            desk.switch.set_hookswitch(desk.now, &ext("78002"), false).unwrap();
            assert!(desk.switch.calls_at(&ext("78002")).is_empty(), "{dialled}");
        }
    }

    #[test]
    fn a_call_takes_so_many_observers_and_the_others_wait() {
        for (observers_max, expected) in [(1, 3), (2, 4)] {
            let mut desk = Desk::new(observers_max);
            desk.observe("78001", "31001");
            desk.observe("78002", "31002");
            let serial = desk.switch.originate(desk.now, &ext("31001"), "31002", b"").unwrap();
            desk.switch.answer(desk.now, &ext("31002")).unwrap();
            desk.settle();
            assert_eq!(desk.parties(serial).len(), expected, "{:?}", desk.parties(serial));
            desk.switch.set_hookswitch(desk.now, &ext("78001"), false).unwrap();
            desk.settle();
            assert_eq!(desk.parties(serial), ["31001", "31002", "78002"]);
        }
    }

    #[test]
    fn an_observed_conference_of_six_is_denied() {
        for (people, denied) in [(4, false), (5, true)] {
            let mut desk = Desk::new(1);
            desk.observe("78001", "31001");
            let first = desk.talk("31001");
            for station in ["31002", "31003", "31004"].iter().take(people - 2) {
                desk.switch.consult(desk.now, &ext("31001"), None, station).unwrap();
                desk.switch.answer(desk.now, &ext(station)).unwrap();
                desk.settle();
                let last = desk.parties(first).len() + 1 == 6;
                let outcome = desk.switch.conference(desk.now, &ext("31001"), None);
                desk.settle();
                assert_eq!(outcome.is_err(), denied && last, "{people} {station}");
            }
        }
    }

    #[test]
    fn a_new_registration_ends_the_observation() {
        let mut desk = Desk::new(1);
        desk.observe("78001", "31001");
        let serial = desk.talk("31001");
        desk.switch.unregister(desk.now, &(ext("78001"), 0));
        desk.register("78001");
        desk.settle();
        assert_eq!(desk.parties(serial), ["5551230001", "31001"]);
        assert_eq!(desk.switch.observed_by(&ext("78001")), None);
    }
}
