//! Logs whose lines are each bound to the line before by a hash, whatever the lines say: how a line is made
//! and read, and what is wrong with lines that were changed. Where lines are kept, and when they last, is
//! `storage::chain_log`'s matter.
//!
//! ```text
//! {"seq":7,"at":…,…,"chain":"<64 hex digits>"}
//!  chain = SHA-256(the chain of the line before, 32 bytes; of the first line 32 zeros
//!                  ‖ the line without `,"chain":"…"`)
//! ```

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{WallTime, hex};

const OPENING: &str = ",\"chain\":\"";
const CLOSING: &str = "\"}";
const SEAL_BYTES: usize = OPENING.len() + 64 + CLOSING.len();

/// What the lines of a log say.
pub trait Chained: Serialize + DeserializeOwned + Clone {
    /// What such a log is called, with its article.
    const LOG: &'static str;
    /// Its folder, below the data folder.
    const FOLDER: &'static str;

    /// When it was, which tells the file it goes to.
    fn at(&self) -> WallTime;
}

/// An entry with its number, from 1 on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Numbered<E> {
    /// Its number.
    pub seq: u64,
    /// The entry.
    #[serde(flatten)]
    pub entry: E,
}

/// The end of a chain: how many lines there are, and the hash of the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Lines.
    pub count: u64,
    /// The last one's hash.
    pub hash: [u8; 32],
}

impl Head {
    /// The line of the next entry, without its end, and the chain with it.
    ///
    /// # Errors
    /// None that is known: every entry has a form in JSON.
    pub fn line<E: Chained>(self, entry: &E) -> Result<(String, Self), serde_json::Error> {
        let seq = self.count + 1;
        let body = serde_json::to_string(&Numbered { seq, entry: entry.clone() })?;
        let hash = link(&self.hash, body.as_bytes());
        let open = body.strip_suffix('}').unwrap_or(&body);
        let line = format!("{open}{OPENING}{}{CLOSING}", hex::encode(&hash));
        Ok((line, Self { count: seq, hash }))
    }

    /// The chain up to a line, as the line itself has it; none if it is no line of such a log.
    #[must_use]
    pub fn stated<E: Chained>(line: &str) -> Option<Self> {
        let (numbered, hash) = parse::<E>(line)?;
        Some(Self { count: numbered.seq, hash })
    }

    /// The one-line form in which the head is kept beside the log.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:020} {}\n", self.count, hex::encode(&self.hash))
    }

    /// Reads that form.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (count, hash) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Self { count: count.parse().ok()?, hash: hex::decode(hash)? })
    }
}

/// Reads a line, whether or not it is bound to the one before.
#[must_use]
pub fn entry<E: Chained>(line: &str) -> Option<Numbered<E>> {
    parse(line).map(|(numbered, _)| numbered)
}

fn parse<E: Chained>(line: &str) -> Option<(Numbered<E>, [u8; 32])> {
    let (open, seal) = line.split_at_checked(line.len().checked_sub(SEAL_BYTES)?)?;
    let digits = seal.strip_prefix(OPENING)?.strip_suffix(CLOSING)?;
    // In other letters it would be the same number, and a change that goes unseen.
    let hash = hex::decode(digits).filter(|hash| hex::encode(hash) == digits)?;
    Some((serde_json::from_str(&format!("{open}}}")).ok()?, hash))
}

fn follows<E: Chained>(line: &str, before: &[u8; 32]) -> bool {
    let Some(cut) = line.len().checked_sub(SEAL_BYTES) else { return false };
    let (Some((_, hash)), Some(open)) = (parse::<E>(line), line.get(..cut)) else { return false };
    link(before, format!("{open}}}").as_bytes()) == hash
}

fn link(before: &[u8; 32], body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(before).chain_update(body).finalize().into()
}

/// Goes through all lines of a log in their order and says what is wrong with them.
#[derive(Debug)]
pub struct Verifier<E> {
    head: Head,
    /// A line that does not follow; the next tells whether it was altered or inserted.
    doubtful: Option<Head>,
    passed: Option<bool>,
    kept: Option<Head>,
    lines: PhantomData<E>,
}

impl<E: Chained> Verifier<E> {
    /// With the head that was kept beside the log, if there is one.
    #[must_use]
    pub fn new(kept: Option<Head>) -> Self {
        Self { head: Head::default(), doubtful: None, passed: None, kept, lines: PhantomData }
    }

    /// The chain up to the last line that is in order.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Lines that are in order so far, or stand for one that was.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.doubtful.map_or(self.head.count, |head| head.count)
    }

    /// Takes the next line, without its end. What is wrong with it, or with the one before, in words.
    pub fn line(&mut self, line: &str) -> Option<String> {
        let stated = Head::stated::<E>(line);
        let doubtful = self.doubtful.take();
        // A line that was put in leaves the one behind it following the one before it.
        if doubtful.is_some() && !follows::<E>(line, &self.head.hash) {
            self.head = doubtful.unwrap_or(self.head);
        }
        let expected = self.head.count + 1;
        let fault = match stated {
            None => {
                // Its hash is not known, so the next line can only be believed.
                self.doubtful = Some(Head { count: expected, hash: [0; 32] });
                self.passed = None;
                return Some(format!("was altered or inserted: it is no line of {}", E::LOG));
            }
            Some(stated) if follows::<E>(line, &self.head.hash) && stated.count == expected => None,
            Some(stated) if stated.count > expected => {
                let last = stated.count - 1;
                Some(format!("comes after lines that were removed: numbers {expected} to {last}"))
            }
            Some(stated) if stated.count < expected => {
                return Some(format!(
                    "was inserted, or moved here: it bears number {}, and {expected} is due",
                    stated.count
                ));
            }
            Some(stated) => {
                if self.unknown_before() {
                    None
                } else {
                    self.doubtful = Some(stated);
                    return Some(format!(
                        "was altered or inserted: its hash is wrong (number {expected})"
                    ));
                }
            }
        };
        self.head = stated.unwrap_or(self.head);
        self.check();
        fault
    }

    /// After the last line: what is missing at the end.
    #[must_use]
    pub fn end(self) -> Option<String> {
        let kept = self.kept?;
        let count = self.count();
        if count < kept.count {
            return Some(format!(
                "was cut: {count} lines are there, and {} were written",
                kept.count
            ));
        }
        (self.passed == Some(false))
            .then(|| format!("was written anew: line {} is not the one that was kept", kept.count))
    }

    fn unknown_before(&self) -> bool {
        self.head.count > 0 && self.head.hash == [0; 32]
    }

    fn check(&mut self) {
        if let Some(kept) = self.kept.filter(|kept| kept.count == self.head.count) {
            self.passed = Some(kept.hash == self.head.hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::NodeId;
    use crate::audit::Entry;

    fn entry_of(number: usize) -> Entry {
        Entry {
            at: WallTime::from_millis(1_700_000_000_000),
            node: NodeId(1),
            user: format!("user {number}"),
            role: Some("qa".to_owned()),
            address: "127.0.0.1".to_owned(),
            action: "listrecordings".to_owned(),
            recordingid: None,
            arguments: serde_json::json!({ "party": "85212345678", "text": "a\n\"b\"" }),
            outcome: "success".to_owned(),
        }
    }

    fn log(count: usize) -> (Vec<String>, Head) {
        let mut head = Head::default();
        let mut lines = Vec::new();
        for number in 0..count {
            let (line, next) = head.line(&entry_of(number)).unwrap();
            lines.push(line);
            head = next;
        }
        (lines, head)
    }

    /// The faults by index of line; the end's is the last index.
    fn faults(lines: &[String], kept: Head) -> Vec<(usize, String)> {
        let mut verifier = Verifier::<Entry>::new(Some(kept));
        let mut found: Vec<_> = lines
            .iter()
            .enumerate()
            .filter_map(|(index, line)| verifier.line(line).map(|what| (index, what)))
            .collect();
        found.extend(verifier.end().map(|what| (lines.len(), what)));
        found
    }

    fn only(lines: &[String], kept: Head, index: usize, word: &str) {
        let found = faults(lines, kept);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].0 == index && found[0].1.contains(word), "{found:?}");
    }

    #[test]
    fn a_whole_chain_is_in_order_and_readable() {
        let (lines, head) = log(5);
        assert_eq!(faults(&lines, head), []);
        assert_eq!(entry::<Entry>(&lines[2]), Some(Numbered { seq: 3, entry: entry_of(2) }));
        assert_eq!(Head::from_text(&head.text()), Some(head));
    }

    #[test]
    fn each_change_is_named() {
        let (lines, head) = log(6);
        let mut altered = lines.clone();
        altered[2] = altered[2].replace("user 2", "user 9");
        only(&altered, head, 2, "altered");
        let mut broken = lines.clone();
        broken[2] = "{}".to_owned();
        only(&broken, head, 2, "altered");
        let mut removed = lines.clone();
        removed.drain(2..4);
        only(&removed, head, 2, "numbers 3 to 4");
        let mut twice = lines.clone();
        twice.insert(3, lines[1].clone());
        only(&twice, head, 3, "inserted");
        let mut forged = lines.clone();
        forged.insert(3, lines[3].replace("user 3", "user 8"));
        only(&forged, head, 3, "inserted");
        only(&lines[..4], head, 4, "cut: 4 lines");
        only(&lines[2..], head, 0, "numbers 1 to 2");
    }

    #[test]
    fn a_log_that_was_written_anew_is_not_the_one_that_was_kept() {
        let (lines, _) = log(6);
        let other = Head { count: 6, hash: [7; 32] };
        only(&lines, other, 6, "written anew");
    }

    #[test]
    fn a_hash_in_capital_letters_is_another_one() {
        let (mut lines, head) = log(3);
        let begin = lines[1].len() - SEAL_BYTES + OPENING.len();
        let digits = begin..lines[1].len() - CLOSING.len();
        let capital = lines[1][digits.clone()].to_uppercase();
        lines[1].replace_range(digits, &capital);
        assert!(!faults(&lines, head).is_empty());
    }

    proptest! {
        #[test]
        fn no_single_change_goes_unseen(at in 0usize..8, place in 0usize..1000, byte in b' '..b'~') {
            let (mut lines, head) = log(8);
            let place = place % lines[at].len();
            let mut bytes = lines[at].clone().into_bytes();
            prop_assume!(bytes[place] != byte);
            bytes[place] = byte;
            lines[at] = String::from_utf8(bytes).unwrap();
            prop_assert!(!faults(&lines, head).is_empty());
        }

        #[test]
        fn nothing_panics(lines in proptest::collection::vec("\\PC{0,200}", 0..4)) {
            let mut verifier = Verifier::<Entry>::new(None);
            for line in &lines {
                prop_assert!(verifier.line(line).is_some());
            }
        }
    }
}
