//! When the next attempt to sign in is heard: pure, and bounded in memory. Attempts are counted
//! when they begin, so that many at once are no way around.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use storage_core::MonoTime;

/// Attempts that are heard without waiting.
const FREE: u32 = 5;
/// The first wait; it doubles with every attempt after it.
const FIRST_LOCK: Duration = Duration::from_secs(30);
const LONGEST_LOCK: Duration = Duration::from_secs(15 * 60);
/// After so long without an attempt all is forgotten.
const FORGET: Duration = Duration::from_secs(30 * 60);
/// Users and addresses remembered; beyond it the one quiet for longest is forgotten. To push
/// itself out an attacker must make as many attempts, each as slow as a password hash.
const ENTRIES_MAX: usize = 4096;

struct Entry {
    attempts: u32,
    last: MonoTime,
}

/// Attempts by user name and address.
#[derive(Default)]
pub struct Throttle {
    entries: BTreeMap<(String, IpAddr), Entry>,
}

impl Throttle {
    /// Counts an attempt that begins, or says how long the next must wait. Waiting attempts do not
    /// count.
    ///
    /// # Errors
    /// The time to wait.
    pub fn begin(&mut self, now: MonoTime, user: &str, address: IpAddr) -> Result<(), Duration> {
        let key = (user.to_owned(), network_of(address));
        if !self.entries.contains_key(&key) && self.entries.len() >= ENTRIES_MAX {
            self.forget_quietest();
        }
        let entry = self.entries.entry(key).or_insert(Entry { attempts: 0, last: now });
        let quiet = now.since(entry.last);
        if quiet >= FORGET {
            entry.attempts = 0;
        }
        let lock = lock_after(entry.attempts);
        if quiet < lock {
            return Err(lock - quiet);
        }
        entry.attempts += 1;
        entry.last = now;
        Ok(())
    }

    /// Forgets the attempts of one who has signed in.
    pub fn succeeded(&mut self, user: &str, address: IpAddr) {
        self.entries.remove(&(user.to_owned(), network_of(address)));
    }

    fn forget_quietest(&mut self) {
        let quietest = self.entries.iter().min_by_key(|(_, entry)| entry.last);
        if let Some(key) = quietest.map(|(key, _)| key.clone()) {
            self.entries.remove(&key);
        }
    }
}

fn lock_after(attempts: u32) -> Duration {
    match attempts.checked_sub(FREE) {
        None => Duration::ZERO,
        Some(more) => FIRST_LOCK.saturating_mul(1 << more.min(16)).min(LONGEST_LOCK),
    }
}

/// One subscriber has a whole IPv6 /64, so that is what counts as an address.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & (u128::MAX << 64)).into()),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_millis(seconds * 1000)
    }

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn waits_double_and_end() {
        let mut throttle = Throttle::default();
        for _ in 0..FREE {
            assert_eq!(throttle.begin(at(0), "anna", HERE), Ok(()));
        }
        assert_eq!(throttle.begin(at(0), "anna", HERE), Err(Duration::from_secs(30)));
        assert_eq!(throttle.begin(at(29), "anna", HERE), Err(Duration::from_secs(1)));
        assert_eq!(throttle.begin(at(30), "anna", HERE), Ok(()));
        assert_eq!(throttle.begin(at(31), "anna", HERE), Err(Duration::from_secs(59)));
        // Neither another user nor another address is harmed.
        assert_eq!(throttle.begin(at(31), "bert", HERE), Ok(()));
        assert_eq!(throttle.begin(at(31), "anna", "10.0.0.1".parse().unwrap()), Ok(()));
        assert_eq!(throttle.begin(at(30 + 1800), "anna", HERE), Ok(()));
        assert_eq!(throttle.begin(at(30 + 1800), "anna", HERE), Ok(()));
    }

    #[test]
    fn success_forgets() {
        let mut throttle = Throttle::default();
        for _ in 0..3 * FREE {
            assert_eq!(throttle.begin(at(0), "anna", HERE), Ok(()));
            throttle.succeeded("anna", HERE);
        }
    }

    #[test]
    fn memory_and_waits_are_bounded() {
        let mut throttle = Throttle::default();
        for i in 0..ENTRIES_MAX as u64 + 100 {
            let _ = throttle.begin(at(i), &format!("user{i}"), HERE);
        }
        assert_eq!(throttle.entries.len(), ENTRIES_MAX);
        assert_eq!(lock_after(u32::MAX), LONGEST_LOCK);
    }

    #[test]
    fn an_ipv6_network_is_one_address_and_mapped_ipv4_is_ipv4() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:10.0.0.1"), network("10.0.0.1"));
    }
}
