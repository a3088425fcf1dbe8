//! The judgement: from the voice files on the disks of all nodes and what the switch says it sent,
//! whether every 20 ms of every call is in a file or in a declared gap, and whether each call has its
//! recording, or one for each copy. It trusts nothing that a recorder says of itself but the gaps it
//! declares, and those are held against what is really missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use simulator::tone::Part;
use storage_core::Recording;
use storage_core::record::{GapCause, Seam};

use super::due::DueCall;
use super::voice::{FRAME_MS, PLACE_TOLERANCE_MS, Placed, Published, longest_run};

/// Holes of calls that begin within so long of each other are of one takeover.
const ONE_TAKEOVER_MS: i64 = 1_500;
/// A declared takeover may be so much longer than what is missing: two segments are placed by two
/// machines' receive times.
const HOLE_TOLERANCE_MS: u64 = PLACE_TOLERANCE_MS + 2 * FRAME_MS;

/// When a recording that declares no takeover went over to the node that ended it, milliseconds since
/// 1970; none if one node began and ended it.
fn handed_on_without_a_hole(recording: &Recording) -> Option<i64> {
    if recording.gaps.iter().any(|gap| gap.cause == GapCause::Takeover) {
        return None;
    }
    let (first, last) = (recording.segments.first()?.node, recording.segments.last()?.node);
    let into_last = |seam: &&Seam| seam.from != last && seam.to == last;
    let seam = recording.seams.iter().rfind(into_last).filter(|_| first != last)?;
    Some((recording.started + Duration::from_millis(seam.atms)).as_millis())
}

/// What was found, as `demo --json` prints it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Calls that should be recorded.
    pub calls: u64,
    /// Those of them of which there is a recording.
    pub calls_recorded: u64,
    /// Recordings on disk: the same one on two nodes is one.
    pub recordings_published: u64,
    /// Voice files on disk, by recording and copy.
    pub voice_files: u64,
    /// Calls without any recording.
    pub calls_missed: u64,
    /// Recordings beyond one for each call and copy.
    pub duplicate_recordings: u64,
    /// Frames that the switch sent for these calls, counted for each copy.
    pub packets_sent: u64,
    /// Frames found in files.
    pub packets_in_files: u64,
    /// Frames not in a file, where the record says that there is a gap.
    pub packets_in_declared_gaps: u64,
    /// Frames that are nowhere.
    pub packets_unaccounted: u64,
    /// Takeovers that left a hole, by when the holes began.
    pub takeovers: u64,
    /// The longest hole of a takeover in any call; what another copy holds is no hole.
    pub takeover_gap_ms_max: u64,
    /// How many voice files there should be.
    #[serde(skip)]
    pub voice_files_due: u64,
    /// What else is wrong, in words.
    #[serde(skip)]
    pub faults: Vec<String>,
}

/// Judges calls that should have one recording each.
///
/// # Errors
/// If a voice file cannot be read at all; a file that reads and is wrong is a fault instead.
pub fn judge(calls: &[DueCall], published: &[Published]) -> Result<Verdict> {
    judge_copies(calls, published, 1)
}

/// Judges calls that should have so many recordings each, `copy` 1, 2, ….
///
/// # Errors
/// If a voice file cannot be read at all; a file that reads and is wrong is a fault instead.
pub fn judge_copies(calls: &[DueCall], published: &[Published], copies: u8) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let by_ucid = serials_by_ucid(calls);
    let mut files: Vec<File<'_>> = Vec::new();
    for group in by_id(published).values() {
        verdict.recordings_published += 1;
        let copies_on_disk: BTreeSet<_> = group
            .iter()
            .filter(|(path, _)| path.is_file())
            .map(|(_, recording)| recording.copy)
            .collect();
        verdict.voice_files += copies_on_disk.len() as u64;
        let mut fullest: BTreeMap<Part, File<'_>> = BTreeMap::new();
        for (path, recording) in group {
            for placed in Placed::read(path, recording)? {
                let Some(file) = File::of_a_call(placed, &by_ucid) else {
                    let (path, ucid) = (path.display(), &recording.ucid);
                    verdict.faults.push(format!("{path}: no such call: {ucid:?}"));
                    continue;
                };
                let faults = file.placed.faults(&file.serials);
                let named = faults.iter().map(|fault| format!("{}: {fault}", path.display()));
                verdict.faults.extend(named);
                let part = file.placed.part;
                let fuller = |than: &File<'_>| file.placed.frames.len() > than.placed.frames.len();
                if fullest.get(&part).is_none_or(fuller) {
                    fullest.insert(part, file);
                }
            }
        }
        files.extend(fullest.into_values());
    }
    for call in calls.iter().filter(|call| call.due) {
        let with: Vec<_> =
            files.iter().filter(|file| file.serials.contains(&call.serial)).collect();
        verdict.add_call(call, &with, copies);
    }
    verdict.voice_files_due = verdict.calls_recorded * u64::from(copies);
    verdict.add_takeovers(&files, copies);
    Ok(verdict)
}

/// Files of one recording, on whichever nodes.
fn by_id(published: &[Published]) -> BTreeMap<String, Vec<&Published>> {
    let mut groups: BTreeMap<String, Vec<&Published>> = BTreeMap::new();
    for one in published {
        groups.entry(one.1.recordingid.to_string()).or_default().push(one);
    }
    groups
}

/// A consultation that was merged has a recording of its own, under its own UCID.
fn serials_by_ucid(calls: &[DueCall]) -> BTreeMap<&str, u32> {
    let mut by_ucid = BTreeMap::new();
    for position in 0..calls.iter().map(|call| call.ucids.len()).max().unwrap_or(0) {
        for call in calls {
            if let Some(ucid) = call.ucids.get(position) {
                by_ucid.entry(ucid.as_str()).or_insert(call.serial);
            }
        }
    }
    by_ucid
}

/// A channel of a voice file with the calls that it is of.
struct File<'a> {
    placed: Placed<'a>,
    /// The call that it is the recording of.
    serial: u32,
    /// All calls that it names.
    serials: BTreeSet<u32>,
}

impl<'a> File<'a> {
    fn of_a_call(placed: Placed<'a>, by_ucid: &BTreeMap<&str, u32>) -> Option<Self> {
        let recording = placed.recording;
        let serial = match &recording.ucid {
            Some(ucid) => by_ucid.get(ucid.as_str()).copied(),
            // A switch that sends no UCIDs: the call is the one that is heard.
            None => placed.frames.first().map(|(_, code)| code.serial),
        }?;
        // The time code follows the UCID that survives a merge, so a recording that goes on may
        // hold the frames of the other call, whose UCID it names then.
        let former = recording.formerucids.iter().filter_map(|ucid| by_ucid.get(ucid.as_str()));
        let mut serials: BTreeSet<u32> = former.copied().chain([serial]).collect();
        if recording.ucid.is_none() {
            serials.extend(placed.frames.iter().map(|(_, code)| code.serial));
        }
        Some(Self { placed, serial, serials })
    }

    const fn recording(&self) -> &'a Recording {
        self.placed.recording
    }

    fn phantoms(&self) -> impl Iterator<Item = &'a str> {
        self.recording().segments.iter().map(|segment| segment.phantom.as_str())
    }
}

impl Verdict {
    /// Sums up what was found in several sites.
    pub(super) fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        self.calls_recorded += other.calls_recorded;
        self.recordings_published += other.recordings_published;
        self.voice_files += other.voice_files;
        self.calls_missed += other.calls_missed;
        self.duplicate_recordings += other.duplicate_recordings;
        self.packets_sent += other.packets_sent;
        self.packets_in_files += other.packets_in_files;
        self.packets_in_declared_gaps += other.packets_in_declared_gaps;
        self.packets_unaccounted += other.packets_unaccounted;
        self.takeovers += other.takeovers;
        self.takeover_gap_ms_max = self.takeover_gap_ms_max.max(other.takeover_gap_ms_max);
        self.voice_files_due += other.voice_files_due;
        self.faults.extend_from_slice(&other.faults);
    }

    /// Judges a call by all files that name it.
    fn add_call(&mut self, call: &DueCall, files: &[&File<'_>], copies: u8) {
        self.calls += 1;
        let own: Vec<_> = files.iter().filter(|file| file.serial == call.serial).collect();
        if own.is_empty() {
            self.calls_missed += 1;
            self.faults.push(format!("call {} ({:?}) has no recording", call.serial, call.ucids));
        } else {
            self.calls_recorded += 1;
        }
        // One recording per UCID and copy: a call that came out of a merge has one for each of the
        // calls that went into it. Without UCIDs they are told apart by whom they begin with.
        let name = |recording: &Recording| match &recording.ucid {
            Some(ucid) => ucid.to_string(),
            None => format!("{} {}", recording.calling, recording.called),
        };
        // Each channel of a file is a file here.
        let which =
            |file: &File<'_>| (name(file.recording()), file.recording().copy, file.placed.part);
        let distinct: BTreeSet<_> = own.iter().map(|file| which(file)).collect();
        self.duplicate_recordings += (own.len() - distinct.len()) as u64;
        for copy in own.iter().map(|file| file.recording().copy).filter(|copy| *copy > copies) {
            self.faults.push(format!("call {} has a copy {copy}", call.serial));
        }
        for copy in 1..=copies {
            let of_copy = |file: &File<'_>| copies == 1 || file.recording().copy == copy;
            let with: Vec<_> = files.iter().filter(|file| of_copy(file)).copied().collect();
            if !own.is_empty() && !own.iter().any(|file| of_copy(file)) {
                self.faults.push(format!("call {} has no copy {copy}", call.serial));
            }
            self.add_copy(call, &with, copies);
        }
        // However few frames each copy was sent, together they must account for the whole call.
        if let Some((first, last)) = call.sent.filter(|_| copies > 1) {
            let account = Account::new(call.serial, files);
            let lost = (first..=last).find(|number| account.of(*number) == Fate::Nowhere);
            self.faults.extend(lost.map(|number| {
                format!("call {}: frame {number} of {first} to {last} is in no copy", call.serial)
            }));
        }
    }

    /// Accounts for all frames of one copy, on each channel by itself.
    fn add_copy(&mut self, call: &DueCall, files: &[&File<'_>], copies: u8) {
        let parts: BTreeSet<Part> = files.iter().map(|file| file.placed.part).collect();
        if parts.is_empty() {
            self.add_channel(call, Part::Whole, files, copies);
        }
        for part in parts {
            let of_part = files.iter().filter(|file| file.placed.part == part);
            self.add_channel(call, part, &of_part.copied().collect::<Vec<_>>(), copies);
        }
    }

    fn add_channel(&mut self, call: &DueCall, part: Part, files: &[&File<'_>], copies: u8) {
        let phantoms = files.iter().flat_map(|file| file.phantoms());
        let sent = match (part, copies) {
            (Part::Whole, 1) => call.sent,
            (Part::Whole, _) => call.sent_to(phantoms).or(call.sent),
            (Part::Station | Part::Others, _) => call.sent_of(part),
        };
        let Some((first, last)) = sent else { return };
        let account = Account::new(call.serial, files);
        let mut missing = None;
        for number in first..=last {
            self.packets_sent += 1;
            match account.of(number) {
                Fate::InFile => self.packets_in_files += 1,
                Fate::Declared => self.packets_in_declared_gaps += 1,
                Fate::Nowhere => {
                    self.packets_unaccounted += 1;
                    missing = missing.or(Some(number));
                }
            }
        }
        self.faults.extend(missing.map(|number| {
            let serial = call.serial;
            format!("call {serial}: frame {number} of {first} to {last} ({part:?}) is nowhere")
        }));
    }

    /// Counts takeovers by the holes that they left, and holds each against what is missing. One that
    /// was faster than a packet left no hole: it is counted by where another node's capture goes on.
    fn add_takeovers(&mut self, files: &[File<'_>], copies: u8) {
        let mut begins = Vec::new();
        for file in files {
            let recording = file.recording();
            begins.extend(handed_on_without_a_hole(recording));
            for gap in recording.gaps.iter().filter(|gap| gap.cause == GapCause::Takeover) {
                let hole = file.placed.hole(gap);
                begins.push(hole.at.as_millis());
                if let Some(missing) = hole.missing_ms
                    && hole.declared_ms > missing + HOLE_TOLERANCE_MS
                {
                    self.faults.push(format!(
                        "recording {}: a takeover of {} ms is declared at {} ms, {missing} ms are \
                         missing",
                        recording.recordingid, hole.declared_ms, gap.startms,
                    ));
                }
                let length = match file.placed.frames_due_in(gap).filter(|_| copies > 1) {
                    None => hole.declared_ms,
                    Some((serial, due)) => {
                        let found: BTreeSet<_> =
                            files.iter().flat_map(|file| file.placed.numbers(serial)).collect();
                        FRAME_MS * longest_run(due, |number| !found.contains(&number))
                    }
                };
                self.takeover_gap_ms_max = self.takeover_gap_ms_max.max(length);
            }
        }
        begins.sort_unstable();
        let far = |pair: &&[i64]| pair[1] - pair[0] > ONE_TAKEOVER_MS;
        let more = begins.windows(2).filter(far).count() as u64;
        self.takeovers = u64::from(!begins.is_empty()) + more;
    }

    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.faults.is_empty()
            && self.calls_missed == 0
            && self.duplicate_recordings == 0
            && self.packets_unaccounted == 0
            && self.voice_files == self.recordings_published
    }

    /// The same, and there is nothing but the recordings of these calls.
    #[must_use]
    pub fn is_exactly_right(&self) -> bool {
        self.is_right() && self.voice_files == self.voice_files_due
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    InFile,
    Declared,
    Nowhere,
}

/// Where the frames of one call are.
struct Account<'f, 'a> {
    serial: u32,
    files: &'f [&'f File<'a>],
    found: BTreeSet<u32>,
}

impl<'f, 'a> Account<'f, 'a> {
    fn new(serial: u32, files: &'f [&'f File<'a>]) -> Self {
        let found = files.iter().flat_map(|file| file.placed.numbers(serial)).collect();
        Self { serial, files, found }
    }

    fn of(&self, number: u32) -> Fate {
        let declared = |file: &&File<'_>| file.placed.declares_missing(self.serial, number);
        if self.found.contains(&number) {
            Fate::InFile
        } else if self.files.iter().any(declared) {
            Fate::Declared
        } else {
            Fate::Nowhere
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;
    use simulator::tone::{self, Law};
    use tempfile::TempDir;

    use super::super::due::Heard;
    use super::*;

    /// A call of 200 frames that both nodes were sent, from these frames on.
    fn call(first: [u32; 2]) -> DueCall {
        let heard =
            [("78001", 0, first[0]), ("78501", 1, first[1])].map(|(phantom, aes, first)| Heard {
                phantom: phantom.to_owned(),
                aes,
                part: Part::Whole,
                frames: (first, 199),
            });
        let sent = heard.iter().map(|heard| heard.frames.0).min().map(|first| (first, 199));
        let ucids = vec!["00001000010000000001".to_owned()];
        DueCall { serial: 1, ucids, sent, heard: heard.to_vec(), due: true }
    }

    /// A recording of that call, written as it is meant to be.
    struct Made {
        id: u32,
        copy: u8,
        phantom: &'static str,
        /// Frames that are in the file, up to the second of each pair; between them is silence.
        frames: Vec<(u32, u32)>,
        /// Takeovers that the record declares, as frames of the call.
        declared: Vec<(u32, u32)>,
        /// Where another node's capture goes on.
        seam: Option<u32>,
    }

    impl Made {
        fn whole() -> Self {
            Self {
                id: 1,
                copy: 1,
                phantom: "78001",
                frames: vec![(0, 200)],
                declared: Vec::new(),
                seam: None,
            }
        }

        fn write(&self, folder: &Path) -> Published {
            let (first, last) = (self.frames[0].0, self.frames.last().unwrap().1);
            let mut data = vec![0xd5; (last - first) as usize * 160];
            for number in self.frames.iter().flat_map(|(from, to)| *from..*to) {
                let at = (number - first) as usize * 160;
                data[at..at + 160].copy_from_slice(&tone::frame(Law::A, 1, number));
            }
            let path = folder.join(format!("{}.wav", self.id));
            std::fs::write(&path, wav(&data)).unwrap();
            let ms = |frame: u32| (frame - first) * 20;
            let gaps: Vec<_> = self
                .declared
                .iter()
                .map(|gap| json!({"startms": ms(gap.0), "endms": ms(gap.1), "cause": "takeover"}))
                .collect();
            let segment = |node: u32, phantom: &str, from: u32, to: u32| {
                json!({"node": node, "phantom": phantom, "startms": ms(from), "endms": ms(to),
                    "codec": "g711a", "packets": to - from, "lost": 0, "late": 0, "duplicate": 0,
                    "ssrcs": []})
            };
            let (segments, seams) = match self.seam {
                None => (vec![segment(1, self.phantom, first, last)], vec![]),
                Some(at) => (
                    vec![segment(1, self.phantom, first, at), segment(2, "78501", at, last)],
                    vec![
                        json!({"atms": ms(at), "from": 1, "to": 2, "method": "time", "shiftms": 0.0}),
                    ],
                ),
            };
            let record = json!({
                "recordingid": format!("01a21915-b2ca-782d-a3c8-{:012}", self.id),
                "ucid": "00001000010000000001", "callids": [], "extension": "31001",
                "agentid": "", "calling": "5551230001", "called": "31001",
                "direction": "inbound", "trunkgroup": "", "trunkmember": "", "vdn": "",
                "split": "", "userdata": "", "parties": [],
                "started": "2026-01-01T00:00:00.000Z", "ended": "2026-01-01T00:00:04.000Z",
                "durationms": 4000, "scope": "station", "trigger": "rule", "rule": "",
                "copy": self.copy, "node": 1,
                "segments": segments, "seams": seams,
                "gaps": gaps, "pauses": [], "complete": true,
                "quality": {"lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0},
                "format": "wavg711", "bytes": 0, "sha256": "", "tags": [], "notes": [],
                "hold": false,
            });
            (path, serde_json::from_value(record).unwrap())
        }
    }

    fn wav(data: &[u8]) -> Vec<u8> {
        let mut bytes = b"RIFF\0\0\0\0WAVEfmt \x02\0\0\0\x06\0data".to_vec();
        bytes.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn judged(call: &DueCall, made: &[Made], copies: u8) -> Verdict {
        let folders: Vec<_> = made.iter().map(|_| TempDir::new().unwrap()).collect();
        let published: Vec<_> =
            made.iter().zip(&folders).map(|(made, folder)| made.write(folder.path())).collect();
        judge_copies(std::slice::from_ref(call), &published, copies).unwrap()
    }

    #[test]
    fn a_takeover_is_right_if_its_hole_is_declared_as_long_as_it_is() {
        let taken_over = |declared: &[(u32, u32)]| {
            let frames = vec![(0, 80), (95, 200)];
            let made = Made { frames, declared: declared.to_vec(), ..Made::whole() };
            judged(&call([0, 95]), &[made], 1)
        };
        let right = taken_over(&[(80, 95)]);
        assert!(right.is_exactly_right(), "{right:?}");
        assert_eq!((right.takeovers, right.takeover_gap_ms_max), (1, 300));
        assert_eq!((right.packets_sent, right.packets_in_declared_gaps), (200, 15));
        let silent = taken_over(&[]);
        assert_eq!((silent.packets_unaccounted, silent.is_right()), (15, false));
        let generous = taken_over(&[(80, 120)]);
        assert!(generous.faults.iter().any(|fault| fault.contains("800 ms")), "{generous:?}");
        let stingy = taken_over(&[(80, 85)]);
        assert!(stingy.packets_unaccounted > 0, "{stingy:?}");
    }

    #[test]
    fn a_takeover_without_a_hole_is_one_all_the_same() {
        let faster_than_a_packet = Made { seam: Some(80), ..Made::whole() };
        let verdict = judged(&call([0, 80]), &[faster_than_a_packet], 1);
        assert!(verdict.is_exactly_right(), "{verdict:?}");
        assert_eq!((verdict.takeovers, verdict.takeover_gap_ms_max), (1, 0));
        assert_eq!(judged(&call([0, 0]), &[Made::whole()], 1).takeovers, 0);
    }

    #[test]
    fn one_recording_on_two_nodes_counts_once_and_two_recordings_are_one_too_many() {
        let copy_on_the_peer = Made { frames: vec![(0, 100)], ..Made::whole() };
        let verdict = judged(&call([0, 0]), &[copy_on_the_peer, Made::whole()], 1);
        assert!(verdict.is_exactly_right(), "{verdict:?}");
        assert_eq!((verdict.recordings_published, verdict.voice_files), (1, 1));
        let verdict = judged(&call([0, 0]), &[Made { id: 2, ..Made::whole() }, Made::whole()], 1);
        assert_eq!((verdict.duplicate_recordings, verdict.is_right()), (1, false));
    }

    #[test]
    fn a_call_that_nobody_recorded_to_its_end_is_not_right() {
        let verdict = judged(&call([0, 0]), &[Made { frames: vec![(0, 150)], ..Made::whole() }], 1);
        assert_eq!((verdict.packets_unaccounted, verdict.is_right()), (50, false));
    }

    #[test]
    fn each_copy_is_judged_from_the_first_frame_that_its_node_was_sent() {
        let second =
            || Made { id: 2, copy: 2, phantom: "78501", frames: vec![(10, 200)], ..Made::whole() };
        let verdict = judged(&call([0, 10]), &[Made::whole(), second()], 2);
        assert!(verdict.is_exactly_right(), "{verdict:?}");
        assert_eq!((verdict.voice_files, verdict.packets_sent), (2, 390));
        let verdict = judged(&call([0, 0]), &[Made::whole(), second()], 2);
        assert_eq!(verdict.packets_unaccounted, 10, "{verdict:?}");
        let verdict = judged(&call([0, 10]), &[Made::whole()], 2);
        assert!(verdict.faults.iter().any(|fault| fault.contains("no copy 2")), "{verdict:?}");
        assert!(!verdict.is_exactly_right());
    }

    #[test]
    fn what_the_other_copy_holds_is_no_hole() {
        let first =
            Made { frames: vec![(0, 80), (150, 200)], declared: vec![(80, 150)], ..Made::whole() };
        let second = Made { id: 2, copy: 2, phantom: "78501", ..Made::whole() };
        let verdict = judged(&call([0, 0]), &[first, second], 2);
        assert!(verdict.is_exactly_right(), "{verdict:?}");
        assert_eq!((verdict.takeovers, verdict.takeover_gap_ms_max), (1, 0));
    }
}
