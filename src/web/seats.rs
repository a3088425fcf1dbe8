//! How many connections there may be, in all and from one network: so that nobody who opens many keeps the others out.
//! When a connection ends is not decided here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::address::{network_of, speaks_for_many};

/// The seats.
pub struct Seats {
    all: usize,
    of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_network: BTreeMap<IpAddr, usize>,
}

/// One connection's; given back when it is dropped.
pub struct Place {
    seats: Arc<Seats>,
    network: IpAddr,
}

impl Seats {
    /// So many in all, and from one network.
    pub fn new(all: usize, of_one: usize) -> Arc<Self> {
        Arc::new(Self { all, of_one, taken: Mutex::default() })
    }

    /// A seat, unless there are too many taken. A proxy on this machine speaks for many, so of it only the
    /// whole is bounded.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let network = network_of(address);
        let mut taken = self.lock();
        let of_one = taken.by_network.get(&network).copied().unwrap_or(0);
        if taken.all >= self.all || (of_one >= self.of_one && !speaks_for_many(address)) {
            return None;
        }
        taken.all += 1;
        taken.by_network.insert(network, of_one + 1);
        Some(Place { seats: Arc::clone(self), network })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Counts change together: a panic elsewhere leaves them whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.seats.lock();
        taken.all -= 1;
        if let Some(count) = taken.by_network.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.by_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn one_network_leaves_seats_for_others() {
        let seats = Seats::new(5, 2);
        let take = |address: &str| seats.take(address.parse().unwrap());
        let first = take("10.0.0.1").unwrap();
        let _second = take("::ffff:10.0.0.1").unwrap();
        assert!(take("10.0.0.1").is_none());
        let _net = [take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap()];
        assert!(take("2001:db8::3").is_none(), "one subscriber");
        let last = take("10.0.0.2").unwrap();
        assert!(take("10.0.0.3").is_none(), "all are taken");
        drop(last);
        drop(first);
        assert!(take("10.0.0.1").is_some());
        assert_eq!(seats.lock().by_network.len(), 2, "forgotten with its last");
    }

    #[test]
    fn a_proxy_on_this_machine_speaks_for_many() {
        let seats = Seats::new(5, 1);
        let taken: Vec<_> = (0..6).filter_map(|_| seats.take(Ipv4Addr::LOCALHOST.into())).collect();
        assert_eq!(taken.len(), 5);
        drop(taken);
        let other = || seats.take("127.0.0.2".parse().unwrap());
        let _one = other();
        assert!(other().is_none());
    }
}
