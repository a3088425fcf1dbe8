//! When the next attempt to sign in is heard: pure, and bounded in memory. Attempts are counted
//! when they begin, so that many at once are no way around.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use storage_core::MonoTime;

use super::address::{network_of, speaks_for_many};

/// Attempts that are heard without waiting.
const FREE: u32 = 5;
/// The first wait; it doubles with every attempt after it.
const FIRST_LOCK: Duration = Duration::from_secs(30);
const LONGEST_LOCK: Duration = Duration::from_secs(15 * 60);
/// After so long without an attempt all is forgotten.
const FORGET: Duration = Duration::from_secs(30 * 60);
/// What one address may fail at once whatever the names, and how long it then takes for each more: who tries a
/// common password on all users is slow, and an office behind one address is not shut out by its clumsiest.
const OF_ADDRESS: Allowance = Allowance { at_once: 50, each: Duration::from_secs(10) };
/// What may be failed on one user from wherever. Only somebody with hundreds of addresses comes to its end, and the
/// one whom he shuts out by that is one whose password he was about to find.
const OF_USER: Allowance = Allowance { at_once: 200, each: Duration::from_secs(5) };
/// Users and addresses remembered; beyond it the one quiet for longest is forgotten. To push
/// itself out an attacker must make as many attempts, each as slow as a password hash.
const ENTRIES_MAX: usize = 4096;

struct Entry {
    attempts: u32,
    last: MonoTime,
}

/// So many at once; each comes back after this time.
struct Allowance {
    at_once: u32,
    each: Duration,
}

/// What was used up of allowances, as the time at which all of it has come back.
struct Used<K>(BTreeMap<K, MonoTime>);

impl<K> Default for Used<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone> Used<K> {
    /// How long the next must wait.
    fn wait(&self, now: MonoTime, key: &K, allowance: &Allowance) -> Duration {
        let back = self.0.get(key).map_or(Duration::ZERO, |back| back.since(now));
        (back + allowance.each).saturating_sub(allowance.each * allowance.at_once)
    }

    fn take(&mut self, now: MonoTime, key: K, allowance: &Allowance) {
        self.0.retain(|_, back| *back > now);
        if !self.0.contains_key(&key) && self.0.len() >= ENTRIES_MAX {
            let least = self.0.iter().min_by_key(|(_, back)| **back).map(|(key, _)| key.clone());
            least.map(|least| self.0.remove(&least));
        }
        let back = self.0.entry(key).or_insert(now);
        *back = *back + allowance.each;
    }

    fn give_back(&mut self, now: MonoTime, key: &K, allowance: &Allowance) {
        if let Some(back) = self.0.get_mut(key) {
            *back = now + back.since(now).saturating_sub(allowance.each);
        }
    }
}

/// Attempts by user name and address.
#[derive(Default)]
pub struct Throttle {
    entries: BTreeMap<(String, IpAddr), Entry>,
    addresses: Used<IpAddr>,
    users: Used<String>,
}

impl Throttle {
    /// Counts an attempt that begins, or says how long the next must wait. Waiting attempts do not
    /// count.
    ///
    /// # Errors
    /// The time to wait.
    pub fn begin(&mut self, now: MonoTime, user: &str, address: IpAddr) -> Result<(), Duration> {
        let network = network_of(address);
        // A proxy on this machine speaks for all.
        let of_address = if speaks_for_many(address) {
            Duration::ZERO
        } else {
            self.addresses.wait(now, &network, &OF_ADDRESS)
        };
        let user = user.to_owned();
        let wait = of_address.max(self.users.wait(now, &user, &OF_USER));
        if wait > Duration::ZERO {
            return Err(wait);
        }
        let key = (user.clone(), network);
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
        self.addresses.take(now, network, &OF_ADDRESS);
        self.users.take(now, user, &OF_USER);
        Ok(())
    }

    /// Forgets the attempts of one who has signed in; of the others at his address, and on his name from
    /// elsewhere, only this attempt.
    pub fn succeeded(&mut self, now: MonoTime, user: &str, address: IpAddr) {
        let (user, network) = (user.to_owned(), network_of(address));
        self.addresses.give_back(now, &network, &OF_ADDRESS);
        self.users.give_back(now, &user, &OF_USER);
        self.entries.remove(&(user, network));
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
            throttle.succeeded(at(0), "anna", HERE);
        }
    }

    #[test]
    fn who_tries_all_users_from_one_address_is_slow() {
        let mut throttle = Throttle::default();
        let there: IpAddr = "10.0.0.1".parse().unwrap();
        for n in 0..OF_ADDRESS.at_once {
            assert_eq!(throttle.begin(at(0), &format!("user{n}"), there), Ok(()));
        }
        assert_eq!(throttle.begin(at(0), "next", there), Err(OF_ADDRESS.each));
        assert_eq!(throttle.begin(at(9), "next", there), Err(Duration::from_secs(1)));
        assert_eq!(throttle.begin(at(10), "next", there), Ok(()));
        assert_eq!(throttle.begin(at(10), "other", there), Err(OF_ADDRESS.each));
        let elsewhere = "10.0.0.2".parse().unwrap();
        assert_eq!(throttle.begin(at(10), "other", elsewhere), Ok(()));
        for n in 0..3 * OF_ADDRESS.at_once {
            assert_eq!(throttle.begin(at(10), &format!("more{n}"), HERE), Ok(()), "a proxy");
        }
    }

    #[test]
    fn an_office_that_signs_in_is_not_slow() {
        let mut throttle = Throttle::default();
        let office: IpAddr = "10.0.0.1".parse().unwrap();
        for n in 0..5 * OF_ADDRESS.at_once {
            let user = format!("user{n}");
            assert_eq!(throttle.begin(at(0), &user, office), Ok(()), "{n}");
            throttle.succeeded(at(0), &user, office);
        }
    }

    #[test]
    fn one_user_is_guarded_against_many_addresses() {
        let mut throttle = Throttle::default();
        let address = |n: u32| IpAddr::V4((0x0a00_0000 + n).into());
        for n in 0..OF_USER.at_once {
            assert_eq!(throttle.begin(at(0), "anna", address(n)), Ok(()));
        }
        assert_eq!(throttle.begin(at(0), "anna", address(999)), Err(OF_USER.each));
        assert_eq!(throttle.begin(at(0), "bert", address(999)), Ok(()));
        assert_eq!(throttle.begin(at(5), "anna", address(999)), Ok(()));
    }

    #[test]
    fn memory_and_waits_are_bounded() {
        let mut throttle = Throttle::default();
        for i in 0..ENTRIES_MAX as u64 + 100 {
            let address = IpAddr::V4((0x0a00_0000 + i as u32).into());
            let _ = throttle.begin(at(0), &format!("user{i}"), address);
        }
        assert_eq!(throttle.entries.len(), ENTRIES_MAX);
        assert!(throttle.addresses.0.len() <= ENTRIES_MAX);
        assert!(throttle.users.0.len() <= ENTRIES_MAX);
        assert_eq!(lock_after(u32::MAX), LONGEST_LOCK);
    }
}
