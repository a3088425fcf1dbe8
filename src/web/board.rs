//! The numbers of what runs on one WebSocket and is told by number: fetches, and calls that are listened to. It
//! decides how many of each may run, and that a number means one thing only; what is sent under it is `fetch`'s and
//! `listen`'s matter.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::backend::{Code, Failure};

/// Fetches at once on one socket.
const FETCHES_MAX: usize = 16;
/// Calls that are listened to at once on one socket.
const LISTENS_MAX: usize = 4;

/// What runs under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A fetch.
    Fetch,
    /// A call that is listened to.
    Listen,
}

impl Kind {
    const fn most(self) -> usize {
        match self {
            Self::Fetch => FETCHES_MAX,
            Self::Listen => LISTENS_MAX,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Listen => "listen",
        }
    }
}

/// The numbers of one socket.
#[derive(Default)]
pub struct Board {
    numbers: Mutex<Numbers>,
    ended: Notify,
}

#[derive(Default)]
struct Numbers {
    last: u32,
    /// What was ended keeps its place until it is put away.
    places: BTreeMap<u32, Running>,
}

struct Running {
    kind: Kind,
    ended: bool,
}

impl Board {
    /// A number for something new.
    ///
    /// # Errors
    /// `busy` when this socket runs too many.
    pub fn enter(self: &Arc<Self>, kind: Kind) -> Result<Place, Failure> {
        let mut numbers = self.lock();
        if numbers.places.values().filter(|running| running.kind == kind).count() >= kind.most() {
            let (most, word) = (kind.most(), kind.word());
            let message = format!("{most} of `{word}` run on this socket; wait for one, or end it");
            return Err(Failure::new(Code::Busy, message));
        }
        // Twenty at most are taken, so this ends.
        while {
            numbers.last = numbers.last.wrapping_add(1);
            numbers.places.contains_key(&numbers.last)
        } {}
        let number = numbers.last;
        numbers.places.insert(number, Running { kind, ended: false });
        Ok(Place { number, board: Arc::clone(self) })
    }

    /// Ends what runs under a number: no frame of it is sent from now on.
    ///
    /// # Errors
    /// `notfound` if nothing of this kind runs under it, or no longer.
    pub fn end(&self, kind: Kind, number: u32) -> Result<(), Failure> {
        let mut numbers = self.lock();
        match numbers.places.get_mut(&number) {
            Some(running) if running.kind == kind && !running.ended => running.ended = true,
            _ => {
                let message = format!("no `{}` {number} runs on this socket", kind.word());
                return Err(Failure::new(Code::NotFound, message));
            }
        }
        drop(numbers);
        self.ended.notify_waiters();
        Ok(())
    }

    /// Ends all of a kind.
    pub fn end_all(&self, kind: Kind) {
        for running in self.lock().places.values_mut().filter(|running| running.kind == kind) {
            running.ended = true;
        }
        self.ended.notify_waiters();
    }

    /// Whether somebody has ended what runs under a number.
    pub fn is_ended(&self, number: u32) -> bool {
        self.lock().places.get(&number).is_some_and(|running| running.ended)
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place on the board, given back when what it is for is over.
pub struct Place {
    number: u32,
    board: Arc<Board>,
}

impl Place {
    /// The number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Whether somebody has ended it.
    pub fn is_ended(&self) -> bool {
        self.board.is_ended(self.number)
    }

    /// Ready when somebody has ended it.
    pub async fn ended(&self) {
        loop {
            let told = self.board.ended.notified();
            if self.is_ended() {
                return;
            }
            told.await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.board.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shared_and_mean_one_thing() {
        let board = Arc::new(Board::default());
        let (fetch, listen) =
            (board.enter(Kind::Fetch).unwrap(), board.enter(Kind::Listen).unwrap());
        assert_eq!((fetch.number(), listen.number()), (1, 2));
        for (kind, number) in [(Kind::Listen, 1), (Kind::Fetch, 2), (Kind::Fetch, 3)] {
            assert_eq!(board.end(kind, number).unwrap_err().code, Code::NotFound);
        }
        assert_eq!(board.end(Kind::Listen, 2), Ok(()));
        assert!(listen.is_ended() && !fetch.is_ended());
        assert_eq!(board.end(Kind::Listen, 2).unwrap_err().code, Code::NotFound);
        drop(listen);
        assert!(!board.is_ended(2), "put away");
    }

    #[test]
    fn there_are_so_many_places_of_each_kind() {
        let board = Arc::new(Board::default());
        for kind in [Kind::Fetch, Kind::Listen] {
            let mut places: Vec<_> = (0..kind.most()).map(|_| board.enter(kind).unwrap()).collect();
            assert_eq!(board.enter(kind).err().map(|failure| failure.code), Some(Code::Busy));
            board.end_all(kind);
            assert!(places.iter().all(Place::is_ended));
            assert!(board.enter(kind).is_err(), "ended is not gone");
            places.pop();
            assert!(board.enter(kind).is_ok());
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_an_end_hears_of_it() {
        let board = Arc::new(Board::default());
        let (one, two) = (board.enter(Kind::Listen).unwrap(), board.enter(Kind::Listen).unwrap());
        let end = async {
            tokio::task::yield_now().await;
            board.end(Kind::Listen, two.number()).unwrap();
        };
        tokio::join!(two.ended(), end);
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(20), one.ended());
        assert!(waiting.await.is_err());
    }
}
