//! What a node keeps of others' word for its manifest, and of its own look at theirs: below `manifest/countersigned`
//! `YYYY-MM-DD.jsonl`, a countersignature of an own checkpoint a line, by the day of the checkpoint; and `seen-N.json`,
//! what was last seen of node N with this node's signature, replaced as a whole. Whether a checkpoint continues what was seen
//! is [`storage_core::countersign`]'s matter, who is asked when its caller's.
//!
//! What was taken lasts once [`Countersigned::settle`] has returned; only then are this node's signatures handed out. What is
//! lost before is asked for again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use storage_core::countersign::{
    Breach, Countersignature, CountersignatureText, Seen, SeenText, Vouched,
};
use storage_core::manifest::Signed;
use storage_core::naming::{COUNTERSIGNED_FOLDER, MANIFEST_FOLDER};
use storage_core::{NodeId, WallTime};

use crate::disk::{Disk, DiskFile, RealDisk, read_whole, write_all_at};
use crate::manifest::Manifest;
use crate::signing::PublicKey;
use crate::voice_file::VoiceError;

const SEEN: &str = "seen-";
const SEEN_ENDING: &str = ".json";
const ENDING: &str = ".jsonl";
const NEW_FILE: &str = "seen.new";
/// A day's countersignatures; with a checkpoint each minute and ten members there are some 10 MB.
const FILE_BYTES_MAX: usize = 1 << 28;
/// Nodes of which something is kept: more than any group has, so that nobody fills the disk.
const NODES_MAX: usize = 256;

/// What another node's folder says of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// What was seen.
    pub seen: Seen,
    /// Who keeps it, with its signature of the last checkpoint.
    pub by: Option<Countersignature>,
}

/// This node's signature of another's checkpoint, to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the last checkpoint that continued the ones before.
    pub signed: Countersignature,
    /// Of the one that was signed before it.
    pub before: Option<Countersignature>,
}

/// The own manifest lacks what was countersigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lack {
    /// The checkpoint.
    pub of: Signed,
    /// A node that has signed it.
    pub by: NodeId,
}

/// What is kept below a data folder; one writer.
#[derive(Debug)]
pub struct Countersigned {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    manifest: Arc<Manifest>,
    seen: BTreeMap<NodeId, Seen>,
    /// The last checkpoint of each node that this one has signed.
    signed: BTreeMap<NodeId, Vouched>,
    /// Nodes whose file is older than what was seen of them.
    unsaved: BTreeSet<NodeId>,
    /// Nodes that wait for this node's signature.
    owed: BTreeSet<NodeId>,
    /// The newest countersignature of an own checkpoint, by who signed it.
    own: BTreeMap<NodeId, Countersignature>,
    /// Own ones that are not written down yet.
    unwritten: Vec<Countersignature>,
    lack: Option<Lack>,
}

impl Countersigned {
    /// Reads what is kept. A file that cannot be read is told of and left out; its node is then seen for the first
    /// time.
    ///
    /// # Errors
    /// [`VoiceError`] if the folder cannot be made or listed, or the manifest not be read.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        manifest: Arc<Manifest>,
        mut unreadable: impl FnMut(&Path),
    ) -> Result<Self, VoiceError> {
        let folder = folder_of(dir);
        let failed = |error| VoiceError::io("cannot open", &folder, error);
        disk.make_folder(&folder).map_err(failed)?;
        let names = disk.list(&folder).map_err(failed)?.into_iter().map(|entry| entry.name);
        let names: Vec<_> = names.collect();
        let mut seen = BTreeMap::new();
        for (node, name) in names.iter().filter_map(|name| Some((seen_node(name)?, name))) {
            let path = folder.join(name);
            match read_seen(&*disk, &path) {
                Some(read) => drop(seen.insert(node, read.seen)),
                None => unreadable(&path),
            }
        }
        let mut own: BTreeMap<NodeId, Countersignature> = BTreeMap::new();
        let mut all = Vec::new();
        for name in names.iter().rev().filter(|name| name.ends_with(ENDING)).take(OWN_DAYS) {
            let of_node = |signed: &Countersignature| signed.of.signed.node == manifest.node();
            let read = read_day(&*disk, &folder.join(name)).map_err(failed)?;
            all.extend(read.into_iter().filter(of_node));
        }
        for signed in &all {
            if own.get(&signed.by).is_none_or(|known| is_newer(signed, known)) {
                own.insert(signed.by, *signed);
            }
        }
        let (unsaved, owed) = (BTreeSet::new(), BTreeSet::new());
        let signed = seen.iter().map(|(node, seen): (_, &Seen)| (*node, seen.last)).collect();
        let (unwritten, lack) = (Vec::new(), None);
        let mut opened =
            Self { disk, folder, manifest, seen, signed, unsaved, owed, own, unwritten, lack };
        opened.lacks(&all)?;
        Ok(opened)
    }

    /// Takes another node's checkpoint, which stands in the group's log at `index`. What is not signed by the key that
    /// it names is passed over; whether it was taken.
    pub fn checkpoint(&mut self, index: u64, node: NodeId, new: Vouched, lacks: bool) -> bool {
        if new.signed.node != node || !is_signed(&new) {
            return false;
        }
        let is_full = self.seen.len() >= NODES_MAX;
        let fresh = match self.seen.entry(node) {
            Entry::Occupied(mut seen) => seen.get_mut().take(index, new, lacks),
            Entry::Vacant(_) if is_full => false,
            Entry::Vacant(seen) => {
                seen.insert(Seen::first(index, new, lacks));
                true
            }
        };
        if fresh {
            self.unsaved.insert(node);
            self.owed.insert(node);
        }
        true
    }

    /// Takes a countersignature of an own checkpoint, and the one that its signer gave before; whether it is one. One that
    /// is known is passed over.
    ///
    /// # Errors
    /// [`VoiceError`] if the manifest cannot be read.
    pub fn countersigned(
        &mut self,
        signed: Countersignature,
        before: Option<Countersignature>,
    ) -> Result<bool, VoiceError> {
        let is_full = !self.own.contains_key(&signed.by) && self.own.len() >= NODES_MAX;
        if is_full || !self.is_of_own(&signed) {
            return Ok(false);
        }
        if let Some(before) = before.filter(|before| self.is_of_own(before))
            && self.lack.is_none()
            && self.lacks(&[before])?
        {
            // It is the proof.
            self.unwritten.push(before);
        }
        if self.own.get(&signed.by).is_none_or(|known| is_newer(&signed, known)) {
            self.lacks(&[signed])?;
            self.own.insert(signed.by, signed);
            self.unwritten.push(signed);
        }
        Ok(true)
    }

    /// Whether it is another node's signature of a checkpoint that this node has signed with the key that it has.
    fn is_of_own(&self, signed: &Countersignature) -> bool {
        let (own, key) = (self.manifest.node(), self.manifest.public_key());
        signed.of.signed.node == own
            && signed.by != own
            && key == Some(PublicKey(signed.of.key))
            && is_sound(signed)
    }

    /// Makes what was taken last, and gives this node's signatures for the nodes that wait for one. While this node's key
    /// cannot be used there are none.
    ///
    /// # Errors
    /// [`VoiceError`]; it may be tried again.
    pub fn settle(&mut self) -> Result<Vec<Answer>, VoiceError> {
        self.forget()?;
        let folder = self.folder.clone();
        let failed = |error| VoiceError::io("cannot write to", &folder, error);
        while let Some(signed) = self.unwritten.last() {
            self.append(signed).map_err(failed)?;
            self.unwritten.pop();
        }
        let mut answers = Vec::new();
        for node in self.unsaved.union(&self.owed).copied().collect::<Vec<_>>() {
            let Some(seen) = self.seen.get_mut(&node) else { continue };
            let newer = |signed: &&Vouched| **signed != seen.last;
            if let Some(before) = self.signed.get(&node).filter(newer) {
                seen.before = Some(*before);
            }
            let seen = *seen;
            // What cannot be signed is kept all the same.
            let signed = self.manifest.countersign(seen.last).ok();
            if self.unsaved.contains(&node) {
                self.save(node, &seen, signed.as_ref()).map_err(failed)?;
                self.unsaved.remove(&node);
            }
            if let Some(signed) = signed.filter(|_| self.owed.contains(&node)) {
                let before = seen.before.and_then(|of| self.manifest.countersign(of).ok());
                self.owed.remove(&node);
                self.signed.insert(node, seen.last);
                answers.push(Answer { signed, before });
            }
        }
        Ok(answers)
    }

    /// An answer did not get through: its node is owed another one.
    pub fn not_said(&mut self, answer: &Answer) {
        let node = answer.signed.of.signed.node;
        if let Some(before) = answer.before {
            self.signed.insert(node, before.of);
        }
        self.owed.insert(node);
    }

    /// Where something is wrong, a person who has looked at it moves the files away: then this begins anew.
    fn forget(&mut self) -> Result<(), VoiceError> {
        let gone = |path: &Path| match self.disk.open(path) {
            Err(error) => error.kind() == io::ErrorKind::NotFound,
            Ok(_) => false,
        };
        let broken = self.seen.iter().filter(|(_, seen)| seen.breach.is_some());
        let settled = broken.filter(|(node, _)| !self.unsaved.contains(node));
        let looked_at: Vec<_> = settled
            .map(|(node, _)| *node)
            .filter(|node| gone(&self.folder.join(seen_file(*node))))
            .collect();
        for node in looked_at {
            self.seen.remove(&node);
            self.signed.remove(&node);
        }
        if self.lack.is_some() && self.unwritten.is_empty() {
            let failed = |error| VoiceError::io("cannot open", &self.folder, error);
            self.disk.make_folder(&self.folder).map_err(failed)?;
            let listed = self.disk.list(&self.folder).map_err(failed)?;
            if !listed.iter().any(|entry| entry.name.ends_with(ENDING)) {
                self.own.clear();
                self.lack = None;
            }
        }
        Ok(())
    }

    /// Which of these nodes have not signed this checkpoint, or a later one.
    #[must_use]
    pub fn missing(&self, of: &Vouched, nodes: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let has_signed = |node: &NodeId| {
            let known = self.own.get(node);
            known.is_some_and(|known| known.of.signed.manifest.count >= of.signed.manifest.count)
        };
        nodes.iter().filter(|node| !has_signed(node)).copied().collect()
    }

    /// What is wrong with other nodes' manifests, and since which checkpoint.
    pub fn breaches(&self) -> impl Iterator<Item = (NodeId, Breach, &Seen)> {
        self.seen.iter().filter_map(|(node, seen)| Some((*node, seen.breach?.0, seen)))
    }

    /// What the own manifest lacks.
    #[must_use]
    pub const fn lack(&self) -> Option<Lack> {
        self.lack
    }

    /// Whose it is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.manifest.node()
    }

    /// Whether the manifest lacks any of these; the last that it lacks is kept.
    fn lacks(&mut self, signed: &[Countersignature]) -> Result<bool, VoiceError> {
        let lacking = self.manifest.lacks(signed.iter().map(|signed| signed.of.signed.manifest))?;
        let last = signed
            .iter()
            .filter(|signed| lacking.contains(&signed.of.signed.manifest.count))
            .max_by_key(|signed| signed.of.signed.manifest.count);
        if let Some(signed) = last {
            self.lack.get_or_insert(Lack { of: signed.of.signed, by: signed.by });
        }
        Ok(last.is_some())
    }

    fn append(&self, signed: &Countersignature) -> io::Result<()> {
        let path = self.folder.join(day_file(signed.of.signed.at));
        let file = open_private(&*self.disk, &self.folder, &path)?;
        let mut line = serde_json::to_string(&signed.written())?;
        line.push('\n');
        let length = file.length()?;
        // A torn line is ended, so that it spoils no other.
        let mut last = [b'\n'];
        if length > 0 {
            file.read_at(&mut last, length - 1)?;
        }
        if last != [b'\n'] {
            line.insert(0, '\n');
        }
        if let Err((_, error)) = write_all_at(&*file, line.as_bytes(), length) {
            let _ = file.truncate(length);
            return Err(error);
        }
        file.sync()
    }

    fn save(&self, node: NodeId, seen: &Seen, signed: Option<&Countersignature>) -> io::Result<()> {
        let text = seen.written(signed);
        let new = self.folder.join(NEW_FILE);
        let file = self.disk.create_private(&new)?;
        write_all_at(&*file, &serde_json::to_vec(&text)?, 0).map_err(|(_, error)| error)?;
        file.sync()?;
        self.disk.rename(&new, &self.folder.join(seen_file(node)))?;
        self.disk.sync_folder(&self.folder)
    }
}

/// Days of own countersignatures that are gone through at a start.
const OWN_DAYS: usize = 8;

fn is_newer(signed: &Countersignature, known: &Countersignature) -> bool {
    let (new, old) = (&signed.of.signed, &known.of.signed);
    (new.manifest.count, new.at) > (old.manifest.count, old.at)
}

fn is_signed(vouched: &Vouched) -> bool {
    PublicKey(vouched.key).has_signed(&vouched.signed.text(), &vouched.signature)
}

/// Whether both signatures are right.
#[must_use]
pub fn is_sound(signed: &Countersignature) -> bool {
    is_signed(&signed.of) && is_countersigned(signed)
}

fn is_countersigned(signed: &Countersignature) -> bool {
    PublicKey(signed.key).has_signed(&signed.text(), &signed.signature)
}

fn open_private(disk: &dyn Disk, folder: &Path, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
    match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let file = disk.create_private(path)?;
            disk.sync_folder(folder)?;
            Ok(file)
        }
        file => file,
    }
}

/// The folder of a data folder.
#[must_use]
pub fn folder_of(dir: &Path) -> PathBuf {
    dir.join(MANIFEST_FOLDER).join(COUNTERSIGNED_FOLDER)
}

/// The file of a checkpoint's countersignatures.
#[must_use]
pub fn day_file(at: WallTime) -> String {
    let at = at.to_string();
    format!("{}{ENDING}", at.get(..10).unwrap_or("1970-01-01"))
}

fn seen_file(node: NodeId) -> String {
    format!("{SEEN}{node}{SEEN_ENDING}")
}

fn seen_node(name: &str) -> Option<NodeId> {
    name.strip_prefix(SEEN)?.strip_suffix(SEEN_ENDING)?.parse().ok().map(NodeId)
}

/// None if it cannot be read, or is not what its node has signed.
fn read_seen(disk: &dyn Disk, path: &Path) -> Option<Witnessed> {
    let bytes = read_whole(disk, path, FILE_BYTES_MAX).ok()?;
    let text: SeenText = serde_json::from_slice(&bytes).ok()?;
    let (seen, by) = Seen::read(&text)?;
    let sound = is_signed(&seen.last)
        && seen.before.as_ref().is_none_or(is_signed)
        && seen.breach.is_none_or(|(_, broken)| is_signed(&broken))
        && by.as_ref().is_none_or(is_countersigned);
    sound.then_some(Witnessed { seen, by })
}

/// The countersignatures in a file of a day, none if there is no such file. What is no such line is passed over, as a torn
/// one is: it vouches for nothing.
///
/// # Errors
/// If it cannot be read.
pub fn read_day(disk: &dyn Disk, path: &Path) -> io::Result<Vec<Countersignature>> {
    let bytes = match read_whole(disk, path, FILE_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        bytes => bytes?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let read = text.lines().filter_map(|line| {
        Countersignature::read(&serde_json::from_str::<CountersignatureText>(line).ok()?)
    });
    Ok(read.collect())
}

/// The countersignatures of a checkpoint that lie in a data folder, each by another node. What is not signed as it should
/// be is passed over.
#[derive(Debug)]
pub struct Lookup {
    folder: PathBuf,
    /// The file that was read last.
    day: Option<(String, Vec<Countersignature>)>,
}

impl Lookup {
    /// In this data folder.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { folder: folder_of(dir), day: None }
    }

    /// Those of one checkpoint, which is signed with `key`.
    ///
    /// # Errors
    /// If the file of its day cannot be read.
    pub fn of(&mut self, signed: &Signed, key: PublicKey) -> io::Result<Vec<Countersignature>> {
        let name = day_file(signed.at);
        if self.day.as_ref().is_none_or(|(day, _)| *day != name) {
            let read = read_day(&*RealDisk::shared(), &self.folder.join(&name))?;
            self.day = Some((name, read));
        }
        let read = self.day.iter().flat_map(|(_, read)| read);
        let of_it = read.filter(|of| of.of.signed == *signed && of.of.key == key.0);
        let sound = of_it.filter(|of| is_sound(of));
        let by_node: BTreeMap<_, _> = sound.map(|of| (of.by, *of)).collect();
        Ok(by_node.into_values().collect())
    }
}

/// The files of days in a data folder, oldest first.
///
/// # Errors
/// If the folder cannot be listed; it need not be there.
pub fn days(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = folder_of(dir);
    let listed = match disk.list(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let names = listed.into_iter().map(|entry| entry.name);
    Ok(names.filter(|name| name.ends_with(ENDING)).map(|name| folder.join(name)).collect())
}

/// What a data folder keeps of other nodes' manifests. Files that cannot be read are left out.
///
/// # Errors
/// If the folder cannot be listed.
pub fn witnessed(disk: &dyn Disk, dir: &Path) -> io::Result<BTreeMap<NodeId, Witnessed>> {
    let folder = folder_of(dir);
    let names = disk.list(&folder)?.into_iter().map(|entry| entry.name);
    let read =
        names.filter_map(|name| Some((seen_node(&name)?, read_seen(disk, &folder.join(&name))?)));
    Ok(read.collect())
}
