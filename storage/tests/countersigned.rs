//! Two nodes that sign each other's checkpoints: what they keep over restarts and power cuts, and what they find when a
//! manifest was put back to an earlier state, was cut and has grown again, or is signed by somebody else.

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use common::{dir, recording};
use storage::countersigned::{Answer, folder_of, witnessed};
use storage::disk::{Disk, RealDisk};
use storage::testing::{FaultDisk, Survivors};
use storage::{Countersigned, Manifest};
use storage_core::NodeId;
use storage_core::countersign::{Breach, Vouched};
use tempfile::TempDir;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

/// A node as far as it signs.
struct Node {
    manifest: Arc<Manifest>,
    kept: Countersigned,
}

impl Node {
    fn start(disk: &Arc<dyn Disk>, dir: &Path, node: NodeId) -> Self {
        let manifest = Arc::new(Manifest::open_on(disk, dir, node).unwrap());
        let kept = Countersigned::open(Arc::clone(disk), dir, Arc::clone(&manifest), |path| {
            panic!("{} cannot be read", path.display());
        });
        Self { manifest, kept: kept.unwrap() }
    }

    fn on(dir: &TempDir, node: NodeId) -> Self {
        Self::start(&RealDisk::shared(), dir.path(), node)
    }

    /// A checkpoint over some more lines.
    fn checkpoint(&self, lines: u64) -> Vouched {
        for number in 0..lines {
            self.manifest.published(&recording(number, 1_700_000_000_000)).unwrap();
        }
        assert!(self.manifest.checkpoint().unwrap());
        self.manifest.last_checkpoint().unwrap()
    }

    /// Signs another's checkpoint, which stands at this place of the log.
    fn sign(&mut self, index: u64, of: Vouched, lacks: bool) -> Answer {
        assert!(self.kept.checkpoint(index, of.signed.node, of, lacks));
        self.kept.settle().unwrap()[0]
    }

    fn hears(&mut self, answer: &Answer) {
        assert!(self.kept.countersigned(answer.signed, answer.before).unwrap());
        assert_eq!(self.kept.settle().unwrap(), []);
    }

    fn breach_of(&self, node: NodeId) -> Option<Breach> {
        self.kept.breaches().find(|(of, ..)| *of == node).map(|(_, breach, _)| breach)
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn what_was_signed_is_known_after_a_restart() {
    let (one_dir, two_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut one, mut two) = (Node::on(&one_dir, ONE), Node::on(&two_dir, TWO));
    let others = [TWO, NodeId(3)].into();
    let first = one.checkpoint(2);
    assert_eq!(one.kept.missing(&first, &others), others);
    let answer = two.sign(5, first, false);
    assert_eq!((answer.signed.of, answer.signed.by, answer.before), (first, TWO, None));
    one.hears(&answer);
    assert_eq!(one.kept.missing(&first, &others), [NodeId(3)].into());

    let (mut one, mut two) = (Node::on(&one_dir, ONE), Node::on(&two_dir, TWO));
    assert_eq!(one.kept.missing(&first, &others), [NodeId(3)].into());
    // The end of the log is gone through again, and asks for nothing.
    assert!(two.kept.checkpoint(5, ONE, first, false));
    assert_eq!(two.kept.settle().unwrap(), []);
    let second = one.checkpoint(1);
    let answer = two.sign(9, second, false);
    assert_eq!(answer.before.map(|before| before.of), Some(first));
    one.hears(&answer);
    assert_eq!((one.kept.lack(), two.breach_of(ONE)), (None, None));
    let seen = witnessed(&*RealDisk::shared(), two_dir.path()).unwrap();
    assert_eq!(seen[&ONE].seen.last, second);
    assert_eq!(seen[&ONE].by.map(|by| by.by), Some(TWO));
}

#[test]
fn a_node_that_was_put_back_is_found_out_by_the_other_and_by_itself() {
    let (one_dir, two_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut one, mut two) = (Node::on(&one_dir, ONE), Node::on(&two_dir, TWO));
    let backup = TempDir::new().unwrap();
    let early = one.checkpoint(1);
    one.hears(&two.sign(1, early, false));
    copy_folder(one_dir.path(), backup.path());
    let late = one.checkpoint(9);
    one.hears(&two.sign(2, late, false));
    fs::remove_dir_all(one_dir.path().join("manifest")).unwrap();
    copy_folder(backup.path(), one_dir.path());

    let mut one = Node::on(&one_dir, ONE);
    assert_eq!(one.kept.lack(), None, "by itself it cannot know");
    let back = one.checkpoint(2);
    let answer = two.sign(3, back, false);
    assert_eq!(two.breach_of(ONE), Some(Breach::Shorter));
    assert_eq!(answer.signed.of, late, "it says what it has seen, and signs nothing newer");
    one.hears(&answer);
    assert_eq!(one.kept.lack().map(|lack| lack.of), Some(late.signed));
    // However much is added.
    let grown = one.checkpoint(50);
    assert_eq!(two.sign(4, grown, true).signed.of, late);
    // Neither forgets it.
    let (mut one, mut two) = (Node::on(&one_dir, ONE), Node::on(&two_dir, TWO));
    assert!(one.kept.lack().is_some());
    assert_eq!(two.breach_of(ONE), Some(Breach::Shorter));

    // Somebody has looked at it and moves the proofs away.
    fs::rename(folder_of(one_dir.path()), backup.path().join("one")).unwrap();
    fs::rename(folder_of(two_dir.path()).join("seen-1.json"), backup.path().join("two")).unwrap();
    assert_eq!((one.kept.settle().unwrap(), two.kept.settle().unwrap()), (vec![], vec![]));
    assert_eq!((one.kept.lack(), two.breach_of(ONE)), (None, None));
    let anew = one.checkpoint(1);
    one.hears(&two.sign(5, anew, false));
    assert_eq!((one.kept.lack(), two.breach_of(ONE)), (None, None));
}

#[test]
fn a_manifest_that_was_cut_and_has_grown_again_is_found_out() {
    let (one_dir, two_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut one, mut two) = (Node::on(&one_dir, ONE), Node::on(&two_dir, TWO));
    let backup = TempDir::new().unwrap();
    one.checkpoint(1);
    copy_folder(one_dir.path(), backup.path());
    let late = one.checkpoint(3);
    one.hears(&two.sign(2, late, false));
    // With the node's key, while it did not run.
    fs::remove_dir_all(one_dir.path().join("manifest")).unwrap();
    copy_folder(backup.path(), one_dir.path());
    let mut one = Node::on(&one_dir, ONE);
    let forged = one.checkpoint(30);
    let answer = two.sign(3, forged, false);
    assert_eq!(two.breach_of(ONE), None, "from outside it goes on");
    one.hears(&answer);
    assert_eq!(one.kept.lack().map(|lack| lack.of), Some(late.signed));
    two.sign(4, one.manifest.last_checkpoint().unwrap(), true);
    assert_eq!(two.breach_of(ONE), Some(Breach::Lacks));
    let seen = witnessed(&*RealDisk::shared(), two_dir.path()).unwrap();
    assert_eq!(seen[&ONE].seen.before, Some(late), "the proof is kept");
    assert!(Node::on(&one_dir, ONE).kept.lack().is_some());
}

#[test]
fn an_answer_that_did_not_get_through_is_given_again_with_what_was_signed_before() {
    let (one_dir, two_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (one, mut two) = (Node::on(&one_dir, ONE), Node::on(&two_dir, TWO));
    let first = one.checkpoint(1);
    two.sign(1, first, false);
    let second = one.checkpoint(1);
    let lost = two.sign(2, second, false);
    two.kept.not_said(&lost);
    assert_eq!(two.kept.settle().unwrap(), [lost]);
    assert_eq!(lost.before.map(|before| before.of), Some(first));
}

#[test]
fn what_its_node_has_not_signed_is_not_taken() {
    let (one_dir, two_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut one, mut two) = (Node::on(&one_dir, ONE), Node::on(&two_dir, TWO));
    let sound = one.checkpoint(1);
    let mut forged = sound;
    forged.signed.manifest.count += 1;
    assert!(!two.kept.checkpoint(1, ONE, forged, false));
    assert!(!two.kept.checkpoint(1, NodeId(3), sound, false), "of another node");
    assert_eq!(two.kept.settle().unwrap(), []);
    let answer = two.sign(2, sound, false);
    let mut altered = answer.signed;
    altered.signature[3] ^= 1;
    assert!(!one.kept.countersigned(altered, None).unwrap());
    // With a key of its own somebody says that there were more lines.
    let other_dir = TempDir::new().unwrap();
    let other = Node::on(&other_dir, ONE);
    let claimed = two.manifest.countersign(other.checkpoint(9)).unwrap();
    assert!(!one.kept.countersigned(claimed, None).unwrap());
    one.hears(&Answer { before: Some(claimed), ..answer });
    assert_eq!(one.kept.lack(), None);
    // The other takes it for the same node with another key.
    two.sign(3, other.checkpoint(1), false);
    assert_eq!(two.breach_of(ONE), Some(Breach::Key));
}

#[test]
fn without_its_key_a_node_writes_down_what_it_sees_and_signs_it_later() {
    let (one_dir, two_dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (one, _) = (Node::on(&one_dir, ONE), Node::on(&two_dir, TWO));
    let key = two_dir.path().join("manifest/signing.key");
    let kept_key = fs::read(&key).unwrap();
    fs::write(&key, "no key").unwrap();
    let mut two = Node::on(&two_dir, TWO);
    assert_eq!(two.manifest.public_key(), None);
    two.manifest.published(&recording(1, 1_700_000_000_000)).expect("it goes on without");
    let error = two.manifest.look().unwrap_err();
    assert!(format!("{error:?}").contains("is no signing key"), "{error:?}");
    let first = one.checkpoint(1);
    assert!(two.kept.checkpoint(1, ONE, first, false));
    assert_eq!(two.kept.settle().unwrap(), []);
    let seen = witnessed(&*RealDisk::shared(), two_dir.path()).unwrap();
    assert_eq!((seen[&ONE].seen.last, seen[&ONE].by), (first, None));
    fs::write(&key, kept_key).unwrap();
    assert!(two.manifest.look().unwrap(), "it is signed now, without a restart");
    assert_eq!(two.kept.settle().unwrap()[0].signed.of, first);
}

#[test]
fn wherever_power_fails_what_was_handed_out_is_known_again() {
    let one_dir = TempDir::new().unwrap();
    let one = Node::on(&one_dir, ONE);
    let checkpoints = [one.checkpoint(1), one.checkpoint(1), one.checkpoint(1)];
    for sync in 1.. {
        let disk = FaultDisk::new();
        disk.off_at_sync(sync);
        let manifest = Arc::new(Manifest::open_on(&disk.shared(), dir(), TWO).unwrap());
        let opened = Countersigned::open(disk.shared(), dir(), manifest, |_| {});
        let mut handed_out = None;
        let mut all = false;
        if let Ok(mut kept) = opened {
            for (index, checkpoint) in (1..).zip(&checkpoints) {
                assert!(kept.checkpoint(index, ONE, *checkpoint, false));
                let Ok(answers) = kept.settle() else { break };
                handed_out = answers.first().map(|answer| answer.signed.of).or(handed_out);
                all = handed_out == Some(checkpoints[2]);
            }
        }
        for seed in 0..8 {
            let left = disk.power_cut(Survivors::of(seed));
            let node = Node::start(&left.shared(), dir(), TWO);
            drop(node);
            let seen = witnessed(&*left.shared(), dir()).unwrap();
            let lines = |of: &Vouched| of.signed.manifest.count;
            let known = seen.get(&ONE).map_or(0, |seen| lines(&seen.seen.last));
            let told = handed_out.as_ref().map_or(0, lines);
            assert!(known >= told, "off at {sync}: {known} lines are known of {told}");
        }
        if all {
            assert!(sync > 8, "the power never failed");
            return;
        }
    }
}
