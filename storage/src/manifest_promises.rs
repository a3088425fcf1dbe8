//! What other nodes say that a manifest contains: the checkpoints that they countersigned, from the manifest's own folder and
//! from what they keep themselves. The manifest's lines are compared with it as they go by; what is left in the end
//! was there once, and is not now. Pure but for reading the folder.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use storage_core::countersign::{Countersignature, Vouched};
use storage_core::manifest::Signed;
use storage_core::{NodeId, WallTime};

use crate::countersigned::{Witnessed, days, is_sound, read_day};
use crate::disk::RealDisk;
use crate::signing::PublicKey;
use crate::verify::{Fault, FaultKind};

/// Where a promise is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The manifest's own folder.
    Folder,
    /// Another node's.
    Elsewhere,
}

/// A checkpoint that the manifest is to contain.
#[derive(Clone, Copy, Debug)]
struct Promise {
    of: NodeId,
    at: WallTime,
    by: Option<NodeId>,
    source: Source,
}

/// All of them, by lines and hash.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    waiting: BTreeMap<(u64, [u8; 32]), Promise>,
    signers: BTreeMap<NodeId, WallTime>,
    /// Files with countersignatures that are wrong, and how many.
    wrong: Vec<(PathBuf, usize)>,
}

impl Promises {
    /// What is left of countersignatures in the manifest's own data folder. Of checkpoints that were signed with another
    /// key than the node's nothing is believed.
    pub(crate) fn in_folder(dir: &Path, key: PublicKey) -> io::Result<Self> {
        let disk = RealDisk::shared();
        let mut promises = Self::default();
        for path in days(&*disk, dir)? {
            let mut wrong = 0;
            for signed in read_day(&*disk, &path)? {
                if is_sound(&signed) {
                    promises.signed(&signed, key);
                } else {
                    wrong += 1;
                }
            }
            if wrong > 0 {
                promises.wrong.push((path, wrong));
            }
        }
        Ok(promises)
    }

    fn signed(&mut self, signed: &Countersignature, key: PublicKey) {
        if signed.of.key != key.0 || signed.by == signed.of.signed.node {
            return;
        }
        let at = signed.of.signed.at;
        let last = self.signers.entry(signed.by).or_insert(at);
        *last = (*last).max(at);
        self.promised(&signed.of, Some(signed.by), Source::Folder);
    }

    /// What another node keeps of the nodes that it has seen.
    pub(crate) fn seen_by(&mut self, seen: &BTreeMap<NodeId, Witnessed>, key: PublicKey) {
        for Witnessed { seen, by } in seen.values() {
            let by = by.map(|signed| signed.by);
            for checkpoint in [Some(seen.last), seen.before].into_iter().flatten() {
                if checkpoint.key == key.0 {
                    self.promised(&checkpoint, by, Source::Elsewhere);
                }
            }
        }
    }

    fn promised(&mut self, vouched: &Vouched, by: Option<NodeId>, source: Source) {
        let Signed { node: of, at, manifest, .. } = vouched.signed;
        let promise = Promise { of, at, by, source };
        let known = self.waiting.entry((manifest.count, manifest.hash)).or_insert(promise);
        known.source = known.source.min(source);
    }

    /// The manifest has this checkpoint; who promised it, if anybody.
    pub(crate) fn kept(&mut self, signed: &Signed) -> Option<Source> {
        let key = (signed.manifest.count, signed.manifest.hash);
        self.waiting.remove(&key).map(|promise| promise.source)
    }

    /// Who has countersigned, and the last time that each did.
    pub(crate) const fn signers(&self) -> &BTreeMap<NodeId, WallTime> {
        &self.signers
    }

    /// What is wrong, after all lines have gone by. `node`: whose manifest it is, as far as it says.
    pub(crate) fn faults(
        self,
        folder: &Path,
        node: Option<NodeId>,
        against: &[(PathBuf, BTreeMap<NodeId, Witnessed>)],
    ) -> Vec<Fault> {
        let fault = |path: &Path, kind, what| Fault { kind, path: path.to_owned(), what };
        let mut faults: Vec<_> = self
            .wrong
            .iter()
            .map(|(path, count)| {
                let what =
                    format!("holds {count} countersignatures that are wrong: they were altered");
                fault(path, FaultKind::Altered, what)
            })
            .collect();
        let own =
            self.waiting.iter().filter(|(_, promise)| node.is_none_or(|own| own == promise.of));
        let lost: Vec<_> = own.collect();
        if let Some(((lines, _), Promise { at, by, .. })) = lost.last() {
            let by = by.map_or_else(|| "another node".to_owned(), |by| format!("node {by}"));
            let what = format!(
                "lacks {} checkpoints that other nodes have countersigned, the last of {at} over {lines} lines, by {by}: it was \
                 rolled back or written anew since; what was published until then is to be looked for on other members and \
                 in backups",
                lost.len()
            );
            faults.push(fault(folder, FaultKind::Altered, what));
        }
        let Some(node) = node else { return faults };
        for (path, seen) in against {
            let what = match seen.get(&node) {
                None => format!(
                    "keeps nothing of node {node}: whether that was rolled back cannot be told by it"
                ),
                Some(witnessed) => match witnessed.seen.breach {
                    None => continue,
                    Some((breach, broken)) => format!(
                        "says of node {node} that {breach}: the checkpoint of {} does not continue the one of {}",
                        broken.signed.at, witnessed.seen.last.signed.at
                    ),
                },
            };
            faults.push(fault(path, FaultKind::Altered, what));
        }
        faults
    }
}
