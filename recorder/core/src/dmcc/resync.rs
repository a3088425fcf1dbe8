//! Knows when all calls have been asked for: after each (re)connect, and when the switch link or a
//! monitor came back, every station and phantom is asked once, and what could not be asked is
//! named; where agents are followed, the stations that the skills name, too. The asking itself is the business of `devices`.

use std::collections::BTreeSet;

use storage_core::Extension;

use super::device::DeviceKey;

#[derive(Debug, Default)]
pub(super) struct Resync {
    outstanding: BTreeSet<DeviceKey>,
    unseen: BTreeSet<Extension>,
    running: bool,
}

impl Resync {
    /// Begins, or begins again, with these devices. `true` if none was running.
    pub fn begin(&mut self, devices: impl Iterator<Item = DeviceKey>) -> bool {
        self.outstanding = devices.collect();
        self.unseen.clear();
        !std::mem::replace(&mut self.running, true)
    }

    /// One device has named another that is to be asked, too.
    pub fn also(&mut self, because: &DeviceKey, device: &DeviceKey) {
        if self.running && self.waits_for(because) {
            self.outstanding.insert(device.clone());
        }
    }

    /// The connection is gone: what began will not be finished.
    pub fn abandon(&mut self) {
        *self = Self::default();
    }

    pub fn waits_for(&self, device: &DeviceKey) -> bool {
        self.outstanding.contains(device)
    }

    /// A device is through, with all its calls seen or not.
    pub fn settled(&mut self, device: &DeviceKey, complete: bool) {
        if self.outstanding.remove(device) && !complete {
            self.unseen.insert(device.extension.clone());
        }
    }

    /// Who could not be asked, once everybody is through; told once.
    pub fn finish(&mut self) -> Option<Vec<Extension>> {
        if !self.running || !self.outstanding.is_empty() {
            return None;
        }
        self.running = false;
        Some(std::mem::take(&mut self.unseen).into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dmcc::device::Role;

    fn station(number: &str) -> DeviceKey {
        DeviceKey { role: Role::Station, extension: number.into() }
    }

    #[test]
    fn it_is_done_when_everybody_has_answered_or_could_not_be_asked() {
        let mut resync = Resync::default();
        assert_eq!(resync.finish(), None);
        assert!(resync.begin([station("1"), station("2")].into_iter()));
        resync.settled(&station("1"), true);
        assert_eq!(resync.finish(), None);
        resync.settled(&station("2"), false);
        assert_eq!(resync.finish(), Some(vec!["2".into()]));
        assert_eq!(resync.finish(), None);
    }

    #[test]
    fn with_nobody_to_ask_it_is_done_at_once() {
        let mut resync = Resync::default();
        assert!(resync.begin(std::iter::empty()));
        assert_eq!(resync.finish(), Some(vec![]));
    }

    #[test]
    fn it_may_begin_again_before_it_is_done() {
        let mut resync = Resync::default();
        resync.begin([station("1")].into_iter());
        assert!(!resync.begin([station("1"), station("2")].into_iter()));
        resync.settled(&station("1"), true);
        assert!(resync.waits_for(&station("2")) && resync.finish().is_none());
    }
}
