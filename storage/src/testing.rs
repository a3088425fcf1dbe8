//! A disk in memory that fails on request, for tests: it knows what was synced and what was not,
//! so it can show what a power cut leaves; it can be full, fail at any operation, and be slow.
//!
//! Fair faults are those a sound file system on a sound device may show: what was not synced may
//! be lost in any part, in any order; a rename is never half done; what was synced stays.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use crate::disk::{Disk, DiskFile, Listed};

/// What survives a power cut beyond what was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// Nothing.
    None,
    /// Everything, as after the end of a process.
    All,
    /// Pages and names drawn from this seed.
    Seed(u64),
}

impl Survivors {
    /// The `number`th of many: nothing, everything, and then some by chance.
    #[must_use]
    pub const fn of(number: u64) -> Self {
        match number {
            0 => Self::None,
            1 => Self::All,
            seed => Self::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
        }
    }
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct FaultDisk(Arc<Mutex<State>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Folder,
    File(u64),
}

/// A change of names that a sync of `folder` makes last; done as a whole or not at all.
#[derive(Clone, Debug)]
struct NameChange {
    folder: PathBuf,
    link: Option<(PathBuf, Name)>,
    unlink: Option<PathBuf>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    allocated: usize,
    /// Reads that touch this byte fail.
    bad: Option<usize>,
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, Name>,
    durable_names: BTreeMap<PathBuf, Name>,
    unsynced_names: Vec<NameChange>,
    capacity: Option<usize>,
    operations: u64,
    fail_at: Option<u64>,
    syncs: u64,
    off_at_sync: Option<u64>,
    sync_delay: Duration,
}

const PAGE: usize = 4096;

impl Default for FaultDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultDisk {
    /// An empty disk that does not fail.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(State::default())))
    }

    /// As the code under test takes it.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// From now on the files together take no more than this.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.state().capacity = bytes;
    }

    /// Bytes that the files take.
    #[must_use]
    pub fn used(&self) -> usize {
        self.state().used()
    }

    /// The operation with this number (see [`FaultDisk::operations`]) fails with `EIO`.
    pub fn fail_at(&self, operation: u64) {
        self.state().fail_at = Some(operation);
    }

    /// How many operations that change something there were.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The power goes off at the sync with this number: it and all that follows fails.
    pub fn off_at_sync(&self, sync: u64) {
        self.state().off_at_sync = Some(sync);
    }

    /// How many syncs of files and folders there were.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Each sync takes so long.
    pub fn set_sync_delay(&self, delay: Duration) {
        self.state().sync_delay = delay;
    }

    /// Changes a byte of a file behind everybody's back.
    pub fn rot(&self, path: &Path, offset: usize, mask: u8) {
        let mut state = self.state();
        let Some(Name::File(number)) = state.names.get(path).copied() else { return };
        if let Some(inode) = state.inodes.get_mut(&number) {
            for bytes in [&mut inode.content, &mut inode.durable] {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte ^= mask;
                }
            }
        }
    }

    /// From now on a byte of a file, and whatever is read together with it, cannot be read; `None`
    /// heals the file.
    pub fn set_bad(&self, path: &Path, offset: Option<usize>) {
        let mut state = self.state();
        let Some(Name::File(number)) = state.names.get(path).copied() else { return };
        if let Some(inode) = state.inodes.get_mut(&number) {
            inode.bad = offset;
        }
    }

    /// The disk as it is found after a power cut now; it does not fail any more.
    #[must_use]
    pub fn power_cut(&self, survivors: Survivors) -> Self {
        let state = self.state();
        let mut dice = Dice(match survivors {
            Survivors::Seed(seed) => seed | 1,
            _ => 1,
        });
        let survives = |dice: &mut Dice| match survivors {
            Survivors::None => false,
            Survivors::All => true,
            Survivors::Seed(_) => dice.roll(2) == 0,
        };
        let mut names = state.durable_names.clone();
        for change in &state.unsynced_names {
            if survives(&mut dice) {
                change.apply(&mut names);
            }
        }
        let mut inodes = BTreeMap::new();
        for (number, inode) in &state.inodes {
            let content = inode.after_cut(survives, &mut dice);
            let durable = content.clone();
            inodes.insert(*number, Inode { content, durable, ..*inode });
        }
        let durable_names = names.clone();
        let next = State { inodes, names, durable_names, ..State::default() };
        Self(Arc::new(Mutex::new(next)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A small generator: tests must be the same each time, and need no better one.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap_or(0) % sides
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, Name>) {
        if let Some((path, name)) = &self.link {
            names.insert(path.clone(), *name);
        }
        if let Some(path) = &self.unlink {
            names.remove(path);
        }
    }
}

impl Inode {
    /// Synced pages stay; of the others each is the old one, the new one, or (where the file has
    /// grown) zeros. The new length may have come through with or without them.
    fn after_cut(&self, survives: impl Fn(&mut Dice) -> bool, dice: &mut Dice) -> Vec<u8> {
        if self.content == self.durable {
            return self.durable.clone();
        }
        let mut left = self.durable.clone();
        if survives(dice) {
            let longer = self.content.len().max(self.durable.len());
            let shorter = self.content.len().min(self.durable.len());
            let torn = shorter + dice.roll(longer - shorter + 1);
            left.resize(if survives(dice) { self.content.len() } else { torn }, 0);
        }
        for start in (0..left.len()).step_by(PAGE) {
            let end = (start + PAGE).min(left.len()).min(self.content.len());
            if start < end && survives(dice) {
                left[start..end].copy_from_slice(&self.content[start..end]);
            }
        }
        left
    }
}

impl State {
    fn used(&self) -> usize {
        let named = self.names.values().filter_map(|name| match name {
            Name::File(number) => self.inodes.get(number),
            Name::Folder => None,
        });
        named.map(|inode| inode.content.len().max(inode.allocated)).sum()
    }

    fn free(&self) -> usize {
        self.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(self.used()))
    }

    /// Counts an operation, and fails the one that is to fail.
    fn operate(&mut self) -> io::Result<()> {
        self.powered()?;
        self.operations += 1;
        if self.fail_at == Some(self.operations) {
            return Err(Errno::EIO.into());
        }
        Ok(())
    }

    fn powered(&self) -> io::Result<()> {
        let off = self.off_at_sync.is_some_and(|sync| self.syncs >= sync);
        if off { Err(Errno::EIO.into()) } else { Ok(()) }
    }

    fn sync_begins(&mut self) -> io::Result<()> {
        self.operate()?;
        self.syncs += 1;
        self.powered()
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        match self.names.get(path) {
            Some(Name::File(number)) => Ok(*number),
            Some(Name::Folder) => Err(Errno::EISDIR.into()),
            None => Err(Errno::ENOENT.into()),
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
    }
}

fn folder_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

impl Disk for FaultDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.operate()?;
        if !state.names.contains_key(&folder_of(path)) {
            return Err(Errno::ENOENT.into());
        }
        let number = if let Ok(number) = state.file(path) {
            number
        } else {
            let number = state.inodes.len() as u64;
            let link = Some((path.to_owned(), Name::File(number)));
            state.change(NameChange { folder: folder_of(path), link, unlink: None });
            number
        };
        let inode = state.inodes.entry(number).or_default();
        inode.content.clear();
        inode.allocated = 0;
        drop(state);
        Ok(Arc::new(FaultFile { disk: self.clone(), number }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        state.powered()?;
        let number = state.file(path)?;
        drop(state);
        Ok(Arc::new(FaultFile { disk: self.clone(), number }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        let number = state.file(from)?;
        let link = Some((to.to_owned(), Name::File(number)));
        state.change(NameChange { folder: folder_of(to), link, unlink: Some(from.to_owned()) });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        state.file(path)?;
        let unlink = Some(path.to_owned());
        state.change(NameChange { folder: folder_of(path), link: None, unlink });
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        for folder in path.ancestors() {
            if !state.names.contains_key(folder) {
                state.operate()?;
                state.syncs += 1;
                state.powered()?;
                state.names.insert(folder.to_owned(), Name::Folder);
                state.durable_names.insert(folder.to_owned(), Name::Folder);
            }
        }
        Ok(())
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.sync_begins()?;
        let changes = std::mem::take(&mut state.unsynced_names);
        let (synced, left) = changes.into_iter().partition(|change| change.folder == path);
        state.unsynced_names = left;
        let synced: Vec<NameChange> = synced;
        for change in synced {
            change.apply(&mut state.durable_names);
        }
        let delay = state.sync_delay;
        drop(state);
        std::thread::sleep(delay);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Listed>> {
        let state = self.state();
        state.powered()?;
        if state.names.get(path) != Some(&Name::Folder) {
            return Err(Errno::ENOENT.into());
        }
        let inside = state.names.iter().filter(|(name, _)| name.parent() == Some(path));
        let listed = inside.filter_map(|(name, what)| {
            let name = name.file_name()?.to_str()?.to_owned();
            Some(Listed { name, folder: *what == Name::Folder })
        });
        Ok(listed.collect())
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.state().free() as u64)
    }
}

#[derive(Debug)]
struct FaultFile {
    disk: FaultDisk,
    number: u64,
}

impl FaultFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, &mut Inode) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        let mut inode = state.inodes.remove(&self.number).unwrap_or_default();
        let outcome = act(&mut state, &mut inode);
        state.inodes.insert(self.number, inode);
        outcome
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| Errno::EFBIG.into())
}

impl DiskFile for FaultFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let offset = position(offset)?;
        let mut state = self.disk.state();
        let free = state.free();
        state.operate()?;
        let inode = state.inodes.entry(self.number).or_default();
        let room = inode.content.len().max(inode.allocated).saturating_add(free);
        let count = bytes.len().min(room.saturating_sub(offset));
        if count == 0 && !bytes.is_empty() {
            return Err(Errno::ENOSPC.into());
        }
        if inode.content.len() < offset + count {
            inode.content.resize(offset + count, 0);
        }
        inode.content[offset..offset + count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = position(offset)?;
        self.with(|state, inode| {
            state.powered()?;
            let left = inode.content.get(offset..).unwrap_or_default();
            let count = left.len().min(bytes.len());
            if inode.bad.is_some_and(|bad| (offset..offset + count).contains(&bad)) {
                return Err(Errno::EIO.into());
            }
            bytes[..count].copy_from_slice(&left[..count]);
            Ok(count)
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let length = position(length)?;
        self.with(|state, inode| {
            state.operate()?;
            inode.content.resize(length, 0);
            inode.allocated = inode.allocated.min(length);
            Ok(())
        })
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let length = position(length)?;
        let mut state = self.disk.state();
        let free = state.free();
        state.operate()?;
        let inode = state.inodes.entry(self.number).or_default();
        if length > inode.content.len().max(inode.allocated).saturating_add(free) {
            return Err(Errno::ENOSPC.into());
        }
        inode.allocated = inode.allocated.max(length);
        inode.content.resize(inode.content.len().max(length), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let delay = self.with(|state, inode| {
            state.sync_begins()?;
            inode.durable.clone_from(&inode.content);
            Ok(state.sync_delay)
        })?;
        std::thread::sleep(delay);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        self.with(|state, inode| {
            state.powered()?;
            Ok(inode.content.len() as u64)
        })
    }
}
