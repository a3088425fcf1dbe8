//! Hands log lines to systemd's journal, each as one datagram. It waits for nobody: where the
//! journal takes no more, lines are dropped, and counted in the next one that is taken.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::entry::{Line, Stamp};

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// The way to the journal.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    /// Named with each line, so that a journal that was started anew gets the next one.
    place: PathBuf,
    stamp: &'static Stamp,
    dropped: AtomicU64,
}

impl Journal {
    /// Opens it.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn open(place: &Path, stamp: &'static Stamp) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // Recording waits for no log.
        socket.set_nonblocking(true)?;
        // An empty entry is none; it only tells whether there is a journal.
        socket.send_to(&[], place)?;
        Ok(Self { socket, place: place.to_owned(), stamp, dropped: AtomicU64::new(0) })
    }

    fn send(&self, line: &Line, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut entry = line.entry(*metadata.level(), metadata.target(), self.stamp);
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            entry.extend_from_slice(format!("ASTLOGGER_DROPPED={dropped}\n").as_bytes());
        }
        if self.socket.send_to(&entry, &self.place).is_err() {
            self.dropped.fetch_add(dropped + 1, Ordering::Relaxed);
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        self.send(&line, event);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use storage_core::{NodeId, Redacted};
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    static STAMP: Stamp = Stamp::new();

    /// A journal of the test's own.
    struct Listener {
        socket: UnixDatagram,
        _dir: tempfile::TempDir,
    }

    impl Listener {
        fn new() -> (Self, Journal) {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let place = dir.path().join("socket");
            let socket = UnixDatagram::bind(&place).expect("a socket");
            let journal = Journal::open(&place, &STAMP).expect("it listens");
            let listener = Self { socket, _dir: dir };
            assert!(listener.next().is_empty(), "the first word is empty");
            (listener, journal)
        }

        /// The next entry, read as the protocol's documentation says.
        fn next(&self) -> BTreeMap<String, String> {
            let mut bytes = vec![0; 64 * 1024];
            let length = self.socket.recv(&mut bytes).expect("an entry");
            let mut rest = &bytes[..length];
            let mut fields = BTreeMap::new();
            while !rest.is_empty() {
                let end = rest.iter().position(|byte| *byte == b'\n').expect("a line");
                let line = std::str::from_utf8(&rest[..end]).expect("UTF-8");
                rest = &rest[end + 1..];
                let (name, value) = match line.split_once('=') {
                    Some((name, value)) => (name, value.to_owned()),
                    None => {
                        let (length, value) = rest.split_at(8);
                        let length = u64::from_le_bytes(length.try_into().expect("eight")) as usize;
                        let text = String::from_utf8(value[..length].to_vec()).expect("UTF-8");
                        rest = &value[length + 1..];
                        (line, text)
                    }
                };
                assert_eq!(fields.insert(name.to_owned(), value), None, "{name} twice");
            }
            fields
        }
    }

    #[test]
    fn a_line_reaches_the_journal_with_its_fields_its_node_and_its_epoch() {
        let (listener, journal) = Listener::new();
        STAMP.is_node(NodeId(2));
        STAMP.in_epoch(7);
        let subscriber = tracing_subscriber::registry().with(journal);
        tracing::subscriber::with_default(subscriber, || {
            let caller = "5551230001";
            tracing::info!(
                call = "00001000021701", recording = %"0189-1", calling = %Redacted(caller), gaps = 2,
                "published"
            );
            tracing::warn!(node = %NodeId(1), epoch = 9, "two\nlines");
            tracing::error!("{} is lost", "something");
            tracing::debug!("little");
        });
        let entry = listener.next();
        let text = "published call=00001000021701 recording=0189-1 calling=********01 gaps=2";
        for (name, value) in [
            ("MESSAGE", text),
            ("PRIORITY", "6"),
            ("SYSLOG_IDENTIFIER", "astlogger"),
            ("ASTLOGGER_CALL", "00001000021701"),
            ("ASTLOGGER_RECORDING", "0189-1"),
            ("ASTLOGGER_CALLING", "********01"),
            ("ASTLOGGER_GAPS", "2"),
            ("ASTLOGGER_NODE", "2"),
            ("ASTLOGGER_EPOCH", "7"),
        ] {
            assert_eq!(entry.get(name).map(String::as_str), Some(value), "{name} of {entry:?}");
        }
        let entry = listener.next();
        assert_eq!(entry["MESSAGE"], "two\nlines peer=1 epoch=9");
        assert_eq!((&*entry["ASTLOGGER_PEER"], &*entry["ASTLOGGER_NODE"]), ("1", "2"));
        assert_eq!((&*entry["ASTLOGGER_EPOCH"], &*entry["PRIORITY"]), ("9", "4"));
        let entry = listener.next();
        assert_eq!((&*entry["MESSAGE"], &*entry["PRIORITY"]), ("something is lost", "3"));
        assert_eq!(listener.next()["PRIORITY"], "7");
    }

    #[test]
    fn a_journal_that_takes_no_more_holds_nobody_up_and_hears_how_many_it_missed() {
        let (listener, journal) = Listener::new();
        let subscriber = tracing_subscriber::registry().with(journal);
        // More than any queue of datagrams holds; it ends, because nobody waits.
        let lines = 20_000;
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..lines {
                tracing::info!(number, "one of many");
            }
            listener.socket.set_nonblocking(true).expect("a mode");
            let mut taken = 0;
            while listener.socket.recv(&mut [0; 1024]).is_ok() {
                taken += 1;
            }
            assert!(taken < lines, "{taken}");
            tracing::info!("room again");
            let entry = listener.next();
            assert_eq!(entry["MESSAGE"], "room again");
            assert_eq!(entry["ASTLOGGER_DROPPED"], (lines - taken).to_string());
        });
    }

    #[test]
    fn where_nobody_listens_it_is_not_opened() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        assert!(Journal::open(&dir.path().join("socket"), &STAMP).is_err());
    }
}
