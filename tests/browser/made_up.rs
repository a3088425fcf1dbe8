//! Recordings that no simulated call would make in a minute: of everything that can happen to one, and by
//! hostile callers. They are laid down as a recorder lays them down, before the node starts.

use std::f64::consts::TAU;
use std::path::Path;

use serde_json::{Value, json};
use storage::wav::{Channels, pcm_header};
use storage_core::{RecordingId, WallTime};

/// What somebody calls himself who wants his caller number to be run as a program.
pub const HOSTILE: &str = "<img src=x onerror=alert(1)>";
/// And his tag.
pub const HOSTILE_TAG: &str = "<script>document.title='run'</script>";
/// Samples of a second.
const RATE: usize = 8_000;

/// The name of a recording by its number.
pub fn id(number: u64) -> String {
    RecordingId::new(began(number), [7; 10]).to_string()
}

/// Each begins a minute after the one before.
fn began(number: u64) -> WallTime {
    WallTime::from_millis(1_790_000_000_000 + 60_000 * i64::try_from(number).expect("small"))
}

/// Lays down a recording: its number, its audio, and what in its record is not plain.
pub fn lay(data: &Path, number: u64, audio: &[Vec<i16>], special: &Value) {
    let length = audio[0].len();
    let channels = if audio.len() == 2 { Channels::Stereo } else { Channels::Mono };
    let samples = u32::try_from(length).expect("short");
    let mut file = pcm_header(channels, samples).to_vec();
    for at in 0..length {
        file.extend(audio.iter().flat_map(|channel| channel[at].to_le_bytes()));
    }
    let lengthms = u64::try_from(length * 1000 / RATE).expect("short");
    let started = began(number);
    let mut record = json!({
        "recordingid": id(number), "ucid": format!("{:020}", 10_000 + number), "callids": ["1"],
        "extension": "31001", "agentid": "7001", "calling": format!("555000{number:04}"),
        "called": "3000", "direction": "inbound", "trunkgroup": "12", "trunkmember": "1", "vdn": "3000",
        "split": "500", "userdata": "", "parties": [], "started": started,
        "ended": WallTime::from_millis(started.as_millis() + i64::try_from(lengthms).expect("short")),
        "durationms": lengthms, "scope": "station", "trigger": "rule", "rule": "all", "copy": 1, "node": 1,
        "segments": [], "gaps": [], "pauses": [], "complete": true,
        "quality": { "lossratio": 0.0, "jitterms": 1.5, "mos": 4.3, "clockdriftppm": 0.0 },
        "format": "wav", "bytes": file.len(), "sha256": "0".repeat(64), "tags": [], "notes": [], "hold": false,
    });
    for (name, value) in special.as_object().expect("an object") {
        record[name] = value.clone();
    }
    let day: String = started.to_string().chars().take(10).collect();
    let folder = data.join("voice").join(day.replace('-', "/"));
    std::fs::create_dir_all(&folder).expect("writable");
    std::fs::write(folder.join(format!("{}.wav", id(number))), file).expect("writable");
    std::fs::write(folder.join(format!("{}.json", id(number))), record.to_string())
        .expect("writable");
}

/// A tone of so many hertz and seconds, silent between two seconds.
pub fn tone(hertz: f64, seconds: usize, silent: std::ops::Range<usize>) -> Vec<i16> {
    let sample = |at: usize| {
        if silent.contains(&(at / RATE)) {
            return 0;
        }
        ((at as f64 * hertz * TAU / RATE as f64).sin() * 12_000.0) as i16
    };
    (0..seconds * RATE).map(sample).collect()
}

/// A minute to which everything has happened.
pub fn wounded() -> Value {
    let lost: Vec<Value> = (41_000..47_000)
        .step_by(1_000)
        .map(|at| json!({ "startms": at, "endms": at + 20, "cause": "loss" }))
        .chain([json!({ "startms": 46_980, "endms": 47_000, "cause": "loss" })])
        .collect();
    let mut gaps = vec![
        json!({ "startms": 10_000, "endms": 11_200, "cause": "takeover" }),
        json!({ "startms": 20_000, "endms": 25_000, "cause": "paused" }),
    ];
    gaps.extend(lost);
    json!({
        "calling": HOSTILE, "tags": [HOSTILE_TAG], "complete": false,
        "gaps": gaps, "pauses": [{ "startms": 20_000, "endms": 25_000, "by": "susan" }],
        "seams": [{ "atms": 11_200, "from": 1, "to": 2, "method": "content", "shiftms": 4.0, "confidence": 0.9 }],
        "parties": [
            { "who": "31001", "fromms": 0, "toms": 60_000, "holds": [{ "startms": 30_000, "endms": 33_000 }] },
            { "who": HOSTILE, "fromms": 0, "toms": 60_000 },
            { "who": "31002", "fromms": 15_000, "toms": 45_000 },
        ],
        "quality": { "lossratio": 0.02, "jitterms": 44.0, "mos": 3.3, "clockdriftppm": 0.0, "oneway": false,
            "deadairms": 8_000 },
    })
}

/// The record of a file of two channels.
pub fn two_channels() -> Value {
    let segment = |side: &str, phantom: &str| {
        json!({ "node": 1, "phantom": phantom, "startms": 0, "endms": 6000, "codec": "g711a", "packets": 300,
            "lost": 0, "late": 0, "duplicate": 0, "ssrcs": ["00000001"], "side": side })
    };
    json!({ "segments": [segment("agent", "31001"), segment("others", "31001")], "calling": "5552222" })
}
