//! What people write about a recording is in its record whole or not at all, whenever the power fails; and
//! who is still to hear of it is not forgotten.

mod common;

use common::{dir, recording, recording_id};
use storage::testing::{FaultDisk, Survivors};
use storage::wav::Channels;
use storage::{Owed, VoiceForm, VoiceStore};
use storage_core::g711::Law;
use storage_core::marks::Marking;
use storage_core::{NodeId, Recording};

const STARTED: i64 = 1_795_000_000_000;

fn published(store: &VoiceStore) -> Recording {
    let mut writer =
        store.write(recording_id(1), VoiceForm::G711(Law::A), Channels::Mono, 4).unwrap();
    writer.write_g711(Law::A, &[1, 2, 3, 4]).unwrap();
    let staged = store.stage(writer.finish().unwrap(), recording(1, STARTED)).unwrap();
    store.publish_staged(&staged).unwrap()
}

fn tagged(record: &Recording) -> Recording {
    let mut tagged = record.clone();
    let marking = Marking::new(vec!["vip".to_owned()], Vec::new(), Some("call back".to_owned()));
    let now = record.ended;
    assert_eq!(marking.unwrap().apply(&mut tagged, "anna", now, NodeId(1)), Ok(true));
    tagged
}

#[test]
fn a_record_is_the_old_one_or_the_new_one_at_any_power_cut() {
    let mut sync = 0;
    let (mut olds, mut news) = (0, 0);
    loop {
        let disk = FaultDisk::new();
        let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
        let before = published(&store);
        let after = tagged(&before);
        disk.off_at_sync(disk.syncs() + sync);
        let done = store.mark(&after).is_ok();
        for survivors in (0..6).map(Survivors::of) {
            let disk = disk.power_cut(survivors);
            let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
            store.finish().unwrap();
            let lying = store.record(before.recordingid, before.started).unwrap();
            assert!(lying == before || lying == after, "sync {sync}: {lying:?}");
            assert!(!done || lying == after, "what was written down is gone");
            store.verify(&lying).unwrap();
            (olds, news) = (olds + u32::from(lying == before), news + u32::from(lying == after));
        }
        if done {
            break;
        }
        sync += 1;
    }
    assert!(olds > 0 && news > 0 && sync > 1, "{olds} {news} {sync}");
}

#[test]
fn what_is_not_here_cannot_be_written_and_what_is_there_already_is_not_written() {
    let disk = FaultDisk::new();
    let store = VoiceStore::open_on(disk.shared(), dir()).unwrap();
    let record = recording(1, STARTED);
    assert!(!store.mark(&tagged(&record)).unwrap());
    let record = published(&store);
    assert!(store.mark(&tagged(&record)).unwrap());
    let before = disk.syncs();
    assert!(store.mark(&tagged(&record)).unwrap());
    let lying = store.record(record.recordingid, record.started).unwrap();
    assert_eq!(lying.tags, ["vip"]);
    assert_eq!(disk.syncs(), before, "it was written again");
    // One that knows less takes nothing away.
    assert!(store.mark(&record).unwrap());
    assert_eq!(store.record(record.recordingid, record.started).unwrap(), lying);
}

#[test]
fn a_debt_outlasts_a_power_cut_and_is_paid_once_as_it_is() {
    let disk = FaultDisk::new();
    let owed = Owed::open_on(disk.shared(), dir()).unwrap();
    let (one, two) = (NodeId(1), NodeId(2));
    owed.owe(recording_id(1), [one, two]).unwrap();
    owed.owe(recording_id(2), [two]).unwrap();
    let owed = Owed::open_on(disk.power_cut(Survivors::None).shared(), dir()).unwrap();
    assert_eq!(owed.nodes(), [one, two]);
    let to_two = owed.to(two);
    assert_eq!(
        to_two.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [recording_id(1), recording_id(2)]
    );
    // Something more was written between the telling and its end.
    owed.owe(recording_id(1), [two]).unwrap();
    for (id, mark) in to_two {
        owed.told(two, id, mark).unwrap();
    }
    let left = owed.to(two);
    assert_eq!(left.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [recording_id(1)]);
    owed.told(two, left[0].0, left[0].1).unwrap();
    assert!(owed.to(two).is_empty());
    assert_eq!(owed.nodes(), [one]);
}
