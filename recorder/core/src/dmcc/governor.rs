//! The registration governor (dossier 8.1): bounds open registration requests and, if asked, their
//! rate, and never lets two be open for one device. Whether a device should be registered at all
//! is not decided here.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use storage_core::MonoTime;

use super::device::DeviceKey;

/// A gate that devices queue at, first come, first served.
#[derive(Debug)]
pub(super) struct Governor {
    window: usize,
    /// Time between two admissions; zero for no limit. A bucket of one token: a burst gains
    /// nothing where the switch wants an even pace.
    pace: Duration,
    next_token: MonoTime,
    open: BTreeSet<DeviceKey>,
    queue: VecDeque<DeviceKey>,
    queued: BTreeSet<DeviceKey>,
}

impl Governor {
    /// A window of 0 would never let anybody through and is taken as 1.
    pub fn new(window: usize, per_second: u32) -> Self {
        let pace = match per_second {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1) / rate,
        };
        Self {
            window: window.max(1),
            pace,
            next_token: MonoTime::default(),
            open: BTreeSet::new(),
            queue: VecDeque::new(),
            queued: BTreeSet::new(),
        }
    }

    /// Takes new limits; who is in or waits stays.
    pub fn set_limits(&mut self, window: usize, per_second: u32) {
        let new = Self::new(window, per_second);
        (self.window, self.pace) = (new.window, new.pace);
    }

    /// Queues a device, once.
    pub fn request(&mut self, device: &DeviceKey) {
        if !self.open.contains(device) && self.queued.insert(device.clone()) {
            self.queue.push_back(device.clone());
        }
    }

    /// The next device that may be registered now; it counts as open until `done`.
    pub fn admit(&mut self, now: MonoTime) -> Option<DeviceKey> {
        if self.open.len() >= self.window || now < self.next_token {
            return None;
        }
        let device = self.queue.pop_front()?;
        self.queued.remove(&device);
        self.open.insert(device.clone());
        self.next_token = now + self.pace;
        Some(device)
    }

    /// The device's request is answered, given up, or was not sent after all.
    pub fn done(&mut self, device: &DeviceKey) {
        self.open.remove(device);
    }

    /// Forgets everybody: the connection is gone.
    pub fn clear(&mut self) {
        self.open.clear();
        self.queue.clear();
        self.queued.clear();
    }

    /// When `admit` may succeed without a `done` before.
    pub fn next_time(&self) -> Option<MonoTime> {
        (self.open.len() < self.window && !self.queue.is_empty()).then_some(self.next_token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage_core::Extension;
    use storage_core::record::Side;

    use super::*;
    use crate::dmcc::device::Role;

    /// Each number is two registrations on one station.
    fn device(number: usize) -> DeviceKey {
        let side = Side::ALL[number % 2];
        let extension = Extension::new((number / 2).to_string());
        DeviceKey { role: Role::Further(Some(side)), extension }
    }

    #[test]
    fn the_window_bounds_what_is_open() {
        let mut governor = Governor::new(2, 0);
        let now = MonoTime::default();
        (0..4).for_each(|number| governor.request(&device(number)));
        assert_eq!(governor.admit(now), Some(device(0)));
        assert_eq!(governor.admit(now), Some(device(1)));
        assert_eq!(governor.admit(now), None);
        assert_eq!(governor.next_time(), None);
        governor.done(&device(0));
        assert_eq!(governor.admit(now), Some(device(2)));
    }

    #[test]
    fn the_rate_spaces_admissions() {
        let mut governor = Governor::new(20, 2);
        (0..3).for_each(|number| governor.request(&device(number)));
        let mut times = Vec::new();
        let mut now = MonoTime::from_millis(100);
        while let Some(at) = governor.next_time() {
            now = now.max(at);
            assert!(governor.admit(now).is_some());
            times.push(now.as_micros() / 1000);
        }
        assert_eq!(times, [100, 600, 1100]);
    }

    proptest! {
        #[test]
        fn never_two_for_one_device_and_never_more_than_the_window(
            steps in prop::collection::vec((0_u8..3, 0_usize..8), 0..200),
            window in 1_usize..5,
        ) {
            let mut governor = Governor::new(window, 0);
            let mut open = BTreeSet::new();
            for (step, number) in steps {
                match step {
                    0 => governor.request(&device(number)),
                    1 => {
                        if let Some(admitted) = governor.admit(MonoTime::default()) {
                            prop_assert!(open.insert(admitted));
                        }
                    }
                    _ => {
                        open.remove(&device(number));
                        governor.done(&device(number));
                    }
                }
                prop_assert!(open.len() <= window);
            }
        }
    }
}
