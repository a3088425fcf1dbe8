//! Sign-ins that have begun here and have not come back from the provider: pure, and bounded in time and number. Each
//! comes back once at the most.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use storage_core::MonoTime;

use crate::web::address::network_of;

/// So long somebody may take to sign in at the provider.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
/// From one network; of more the oldest gives way.
const OF_ONE_MAX: usize = 32;
/// In all; beyond it nobody else begins.
const ALL_MAX: usize = 4096;

/// What is remembered of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Begun {
    /// Goes to the provider and stands in what it signs: an older token is no answer to this.
    pub(super) nonce: String,
    /// Proves to the provider that whoever brings the code has begun this (RFC 7636).
    pub(super) verifier: String,
    /// Where the browser was sent back to.
    pub(super) redirect: String,
    /// The page to go on with.
    pub(super) page: &'static str,
}

struct Entry {
    begun: Begun,
    network: IpAddr,
    at: MonoTime,
}

/// All of them, by their `state`.
#[derive(Default)]
pub(super) struct Pending(BTreeMap<String, Entry>);

impl Pending {
    /// Remembers one. False if there are too many.
    pub(super) fn begin(
        &mut self,
        now: MonoTime,
        address: IpAddr,
        state: String,
        begun: Begun,
    ) -> bool {
        self.0.retain(|_, entry| now.since(entry.at) < PATIENCE);
        let network = network_of(address);
        let of_one = self.0.iter().filter(|(_, entry)| entry.network == network);
        let oldest = of_one.clone().min_by_key(|(_, entry)| entry.at).map(|(state, _)| state);
        if let (Some(oldest), true) = (oldest.cloned(), of_one.count() >= OF_ONE_MAX) {
            self.0.remove(&oldest);
        }
        if self.0.len() >= ALL_MAX {
            return false;
        }
        self.0.insert(state, Entry { begun, network, at: now });
        true
    }

    /// Takes the one of this `state` out, if it is not too old.
    pub(super) fn take(&mut self, now: MonoTime, state: &str) -> Option<Begun> {
        let entry = self.0.remove(state)?;
        (now.since(entry.at) < PATIENCE).then_some(entry.begun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> MonoTime {
        MonoTime::from_millis(seconds * 1000)
    }

    fn begun() -> Begun {
        let (nonce, verifier, redirect) = ("n".into(), "v".into(), "r".into());
        Begun { nonce, verifier, redirect, page: "/" }
    }

    fn network(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    #[test]
    fn each_comes_back_once_and_in_time() {
        let mut pending = Pending::default();
        for state in ["a", "b"] {
            assert!(pending.begin(at(0), network(1), state.to_owned(), begun()));
        }
        assert_eq!(pending.take(at(599), "a"), Some(begun()));
        assert_eq!(pending.take(at(599), "a"), None, "a second time");
        assert_eq!(pending.take(at(600), "b"), None, "too late");
        assert_eq!(pending.take(at(0), ""), None);
    }

    #[test]
    fn nobody_fills_it_for_others() {
        let mut pending = Pending::default();
        assert!(pending.begin(at(0), network(1), "mine".to_owned(), begun()));
        for n in 0..2 * OF_ONE_MAX as u64 {
            assert!(pending.begin(at(n), network(2), format!("his{n}"), begun()));
        }
        assert_eq!(pending.0.len(), OF_ONE_MAX + 1);
        assert!(pending.take(at(0), "his0").is_none(), "the oldest gave way");
        assert!(pending.take(at(0), "mine").is_some());
        for n in 0..ALL_MAX as u32 {
            let _ = pending.begin(at(64), network(1000 + n), format!("all{n}"), begun());
        }
        assert_eq!(pending.0.len(), ALL_MAX);
        assert!(!pending.begin(at(64), network(3), "late".to_owned(), begun()));
        assert!(pending.begin(at(64 + 600), network(3), "late".to_owned(), begun()), "forgotten");
    }
}
