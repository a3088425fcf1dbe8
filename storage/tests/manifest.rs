//! The manifest on a disk that loses power at any sync and fails at any operation: nothing is published without a
//! line, and what was stated lasts. And what it costs: who comes at the same time waits for one sync.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{dir, recording};
use storage::chain_log::ChainLog;
use storage::testing::{FaultDisk, Survivors};
use storage::wav::Channels;
use storage::{Manifest, Staged, VoiceForm, VoiceStore};
use storage_core::g711::Law;
use storage_core::manifest::{Deed, Entry};
use storage_core::{NodeId, RecordingId, chain};

/// Opens everything as a start does.
fn start(disk: &FaultDisk) -> Option<(VoiceStore, Arc<Manifest>)> {
    let manifest = Arc::new(Manifest::open_on(&disk.shared(), dir(), NodeId(1)).ok()?);
    let store = VoiceStore::open_on(disk.shared(), dir()).ok()?;
    let store = store.with_manifest(Arc::clone(&manifest));
    store.finish().ok()?;
    Some((store, manifest))
}

fn stage(store: &VoiceStore, number: u64) -> Option<Staged> {
    let record = recording(number, 1_700_000_000_000);
    let form = VoiceForm::G711(Law::A);
    let mut writer = store.write(record.recordingid, form, Channels::Mono, 8).ok()?;
    writer.write_g711(Law::A, &[1; 8]).ok()?;
    store.stage(writer.finish().ok()?, record).ok()
}

fn publish(store: &VoiceStore, number: u64) -> bool {
    stage(store, number).is_some_and(|staged| store.publish_staged(&staged).is_ok())
}

/// The recordings that the manifest states, in order; its chain is in order.
fn stated(disk: &FaultDisk) -> Vec<RecordingId> {
    let mut found = Vec::new();
    let (_, faults) = ChainLog::<Entry>::on(disk.shared(), dir())
        .each(|line, _| {
            if let Some(chain::Numbered {
                entry: Entry { deed: Deed::Published(it), .. }, ..
            }) = chain::entry(line)
            {
                found.push(it.recordingid);
            }
            None
        })
        .unwrap();
    assert_eq!(faults, []);
    found
}

#[test]
fn wherever_power_fails_what_is_published_is_stated() {
    for sync in 1.. {
        let disk = FaultDisk::new();
        disk.off_at_sync(sync);
        let mut done = 0;
        if let Some((store, manifest)) = start(&disk) {
            done = (1..=3).take_while(|number| publish(&store, *number)).count();
            if done == 3 && manifest.checkpoint().is_ok() {
                assert!(sync > 20, "the power never failed");
                return;
            }
        }
        for seed in 0..8 {
            let left = disk.power_cut(Survivors::of(seed));
            let (store, manifest) = start(&left).expect("it starts again");
            manifest.checkpoint().unwrap();
            let stated = stated(&left);
            for number in 1..=3 {
                let id = recording(number, 1_700_000_000_000).recordingid;
                let published = store.published(id).unwrap().is_some();
                assert!(published || number > done as u64, "off at {sync}: {number} is lost");
                assert!(
                    !published || stated.contains(&id),
                    "off at {sync}: {number} is not stated"
                );
            }
        }
    }
}

#[test]
fn a_disk_that_fails_once_has_it_published_and_stated_at_the_next_try() {
    let mut refused = 0;
    for operation in 1.. {
        let disk = FaultDisk::new();
        let (store, _) = start(&disk).unwrap();
        let staged = stage(&store, 1).unwrap();
        let before = disk.operations();
        disk.fail_at(before + operation);
        let first = store.publish_staged(&staged);
        refused += usize::from(first.is_err());
        if disk.operations() < before + operation {
            assert!(refused > 10, "{refused}");
            return;
        }
        store.publish_staged(&staged).unwrap();
        assert_eq!(stated(&disk).first(), Some(&staged.record().recordingid));
    }
}

#[test]
fn who_comes_meanwhile_is_written_with_one_sync() {
    const COUNT: u64 = 16;
    let disk = FaultDisk::new();
    let (_, manifest) = start(&disk).unwrap();
    manifest.checkpoint().unwrap();
    disk.set_sync_delay(Duration::from_millis(30));
    let before = disk.syncs();
    std::thread::scope(|scope| {
        for number in 0..COUNT {
            let (manifest, disk) = (&manifest, &disk);
            scope.spawn(move || {
                let record = recording(number, 1_700_000_000_000);
                manifest.published(&record).unwrap();
                // It lasts once that has returned.
                let cut = disk.power_cut(Survivors::None);
                assert!(stated(&cut).contains(&record.recordingid));
            });
        }
    });
    assert_eq!(stated(&disk).len() as u64, COUNT);
    let syncs = disk.syncs() - before;
    assert!(syncs < COUNT, "{syncs} syncs for {COUNT} lines");
}
