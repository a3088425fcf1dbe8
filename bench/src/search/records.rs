//! Made-up recordings of a call centre, each the same in every run: who calls whom when, for how long,
//! and what people write about it. Pure.

use std::sync::LazyLock;

use serde_json::json;
use storage_core::marks::{Note, Score, Stamp};
use storage_core::query::Query;
use storage_core::record::{Direction, Party, Segment};
use storage_core::scope::Scope;
use storage_core::{Extension, NodeId, Recording, RecordingId, Ucid, WallTime};

const DAY_MS: u64 = 24 * 3_600_000;
/// A Monday.
const FIRST: &str = "2024-01-01T00:00:00.000Z";
const FIRST_MS: i64 = 1_704_067_200_000;
/// Over so many days they are spread, whatever their number.
const DAYS: u64 = 730;
const TAGS: [&str; 12] = [
    "complaint",
    "sale",
    "coaching",
    "refund",
    "escalated",
    "callback",
    "contract",
    "praise",
    "fraud",
    "address",
    "delivery",
    "follow-up",
];
const WORDS: [&str; 24] = [
    "customer", "asked", "about", "the", "invoice", "of", "march", "and", "wants", "a", "refund",
    "agent", "was", "polite", "forgot", "to", "confirm", "identity", "please", "review", "with",
    "team", "delivery", "late",
];

/// What all of them have in common.
static BLANK: LazyLock<Recording> = LazyLock::new(|| {
    let blank = json!({
        "recordingid": "00000000-0000-7000-8000-000000000000", "callids": [], "extension": "", "agentid": "",
        "calling": "", "called": "", "direction": "inbound", "trunkgroup": "", "trunkmember": "",
        "vdn": "", "split": "", "userdata": "", "parties": [], "started": FIRST, "ended": FIRST,
        "durationms": 0, "scope": "station", "trigger": "rule", "rule": "all calls", "copy": 1,
        "node": 1, "segments": [], "gaps": [], "pauses": [], "complete": true,
        "quality": {"lossratio": 0.0, "jitterms": 1.5, "clockdriftppm": 0.0},
        "format": "wavg711", "bytes": 0, "sha256": "", "tags": [], "notes": [], "hold": false
    });
    serde_json::from_value(blank).expect("it is a record")
});

/// A source of numbers that is the same in every run (SplitMix64).
#[derive(Clone, Debug)]
pub struct Draw(u64);

impl Draw {
    /// One for each seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.any() % end
    }

    /// Below `end`, small ones far more often: a quarter of all draws falls on its first sixteenth.
    pub fn skewed(&mut self, end: u64) -> u64 {
        let share = self.share();
        ((share * share) * end as f64) as u64
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        (self.any() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True once in `of` times.
    pub fn once_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.skewed(words.len() as u64) as usize]
    }
}

/// The recording with this number, of `of` in order of time.
pub fn recording(number: u64, of: u64) -> Recording {
    let mut draw = Draw::new(number);
    let started = WallTime::from_millis(FIRST_MS + begin_ms(number, of, &mut draw).cast_signed());
    let duration_ms = duration_ms(&mut draw);
    let place = draw.skewed(2000);
    let direction = match draw.below(20) {
        0..13 => Direction::Inbound,
        13..18 => Direction::Outbound,
        _ => Direction::Internal,
    };
    let extension = (20_000 + place).to_string();
    let outside = format!("852{:08}", 20_000_000 + draw.skewed(4_000_000) * 7);
    let inside = format!("{}", 20_000 + draw.below(2000));
    let vdn = if direction == Direction::Inbound { 3000 + draw.skewed(60) } else { 0 };
    let (calling, called) = match direction {
        Direction::Inbound => (outside.clone(), vdn.to_string()),
        Direction::Outbound => (extension.clone(), outside.clone()),
        Direction::Internal => (extension.clone(), inside.clone()),
    };
    let internal = direction == Direction::Internal;
    let other = if internal { inside } else { outside };
    let known = |known: bool, value: String| if known { value } else { String::new() };
    let party = |who: String| Party { who, fromms: 0, toms: duration_ms, holds: Vec::new() };
    Recording {
        recordingid: id(number, started),
        ucid: ucid(number),
        formerucids: if draw.once_in(20) {
            ucid(number + (1 << 40)).into_iter().collect()
        } else {
            Vec::new()
        },
        callids: vec![(number % 9999).to_string()],
        extension: Extension::new(extension.clone()),
        agentid: known(!draw.once_in(10), (40_000 + place + draw.below(2) * 2000).to_string()),
        calling,
        called,
        direction,
        trunkgroup: known(!internal, (1 + draw.skewed(12)).to_string()),
        trunkmember: known(!internal, (1 + draw.below(30)).to_string()),
        vdn: known(vdn > 0, vdn.to_string()),
        split: known(vdn > 0, (500 + vdn % 40).to_string()),
        userdata: known(draw.once_in(3), format!("order {:07}", draw.below(10_000_000))),
        parties: vec![party(extension), party(other)],
        started,
        ended: started + std::time::Duration::from_millis(duration_ms),
        durationms: duration_ms,
        segments: vec![segment(duration_ms, &mut draw)],
        complete: !draw.once_in(200),
        bytes: 58 + duration_ms * 8,
        sha256: (0..4).map(|_| format!("{:016x}", draw.any())).collect(),
        tags: tags(&mut draw),
        notes: notes(&mut draw, started),
        scores: scores(&mut draw, started),
        ..BLANK.clone()
    }
}

/// Calls come by day, fewer at the weekend; the order is that of the numbers, seconds apart.
fn begin_ms(number: u64, of: u64, draw: &mut Draw) -> u64 {
    // Five working days and one for both of the weekend make a week of six equal shares.
    let shares = DAYS * 6 / 7;
    let (share, within) = (number * shares / of, number * shares % of);
    let day = (share / 6) * 7 + share % 6;
    let open_ms = 12 * 3_600_000;
    let step = (open_ms * shares / of).max(1);
    day * DAY_MS + 8 * 3_600_000 + within * open_ms / of + draw.below(step)
}

/// Four minutes on average, few of them long.
fn duration_ms(draw: &mut Draw) -> u64 {
    (-(1.0 - draw.share()).ln() * 240_000.0) as u64 + 500
}

/// The name that a recording gets whose call begins then.
fn id(number: u64, started: WallTime) -> RecordingId {
    let mut entropy = [0; 10];
    entropy[..8].copy_from_slice(&Draw::new(!number).any().to_be_bytes());
    RecordingId::new(started, entropy)
}

fn ucid(number: u64) -> Option<Ucid> {
    format!("{:020}", 100_000_000_000_000_000 + number).parse().ok()
}

fn segment(duration_ms: u64, draw: &mut Draw) -> Segment {
    Segment {
        node: NodeId(1),
        phantom: Extension::new((78_000 + draw.below(200)).to_string()),
        startms: 0,
        endms: duration_ms,
        codec: "g711a".to_owned(),
        packets: duration_ms / 20,
        lost: 0,
        late: 0,
        duplicate: 0,
        ssrcs: vec![format!("{:08x}", draw.any() >> 32)],
        clockoffsetms: None,
        side: None,
    }
}

fn tags(draw: &mut Draw) -> Vec<String> {
    let mut tags = Vec::new();
    if draw.once_in(7) {
        tags.push(draw.pick(&TAGS).to_owned());
    }
    if draw.once_in(50_000) {
        tags.push("litigation".to_owned());
    }
    tags
}

fn notes(draw: &mut Draw, at: WallTime) -> Vec<Note> {
    let mut notes = Vec::new();
    if draw.once_in(25) {
        let words: Vec<_> = (0..6 + draw.below(12)).map(|_| draw.pick(&WORDS)).collect();
        notes.push(words.join(" "));
    }
    if draw.once_in(100_000) {
        notes.push("heard at the tribunal".to_owned());
    }
    let note = |(text, number)| Note {
        text,
        by: "anna".to_owned(),
        stamp: Stamp { at: at + std::time::Duration::from_millis(number), node: NodeId(1) },
    };
    notes.into_iter().zip(0..).map(note).collect()
}

/// One in ten is judged, one in a hundred by the second form, too.
fn scores(draw: &mut Draw, at: WallTime) -> Vec<Score> {
    let mut scores = Vec::new();
    let mut judge = |scorecard: &str, once_in, draw: &mut Draw| {
        if draw.once_in(once_in) {
            scores.push(Score {
                scorecard: scorecard.to_owned(),
                percent: 100.0 - draw.skewed(1000) as f64 / 10.0,
                answers: std::iter::once(("greeting".to_owned(), json!(draw.below(6)))).collect(),
                comment: String::new(),
                by: "anna".to_owned(),
                stamp: Stamp { at, node: NodeId(1) },
            });
        }
    };
    judge("service", 10, draw);
    judge("sales", 100, draw);
    scores
}

/// Stations of a team, and how many teams there are.
const TEAM: u64 = 200;
const TEAMS: u64 = 10;

/// The filters of a query, and the scope of one who searches.
pub const FILTERS: [&str; 18] = [
    "from",
    "to",
    "extension",
    "agentid",
    "party",
    "ucid",
    "direction",
    "trunkgroup",
    "vdn",
    "split",
    "tag",
    "mindurationms",
    "incomplete",
    "scorecard",
    "minscore",
    "maxscore",
    "team",
    "text",
];

/// Narrows a query by one filter, as somebody would who looks for this recording.
pub fn narrow(query: &mut Query, filter: &str, like: &Recording, draw: &mut Draw) {
    // The server takes an empty value for an absent one.
    let filled = |value: &str| Some(value.to_owned()).filter(|value| !value.is_empty());
    let day = std::time::Duration::from_millis(DAY_MS * (1 + draw.skewed(60)));
    match filter {
        "from" => query.from = Some(like.started - day),
        "to" => query.to = Some(like.started + day),
        "extension" => query.extension = Some(like.extension.to_string()),
        "agentid" => query.agentid = filled(&like.agentid),
        "party" => query.party = Some(like.calling.clone()),
        "ucid" => query.ucid.clone_from(&like.ucid),
        "direction" => query.direction = Some(like.direction),
        "trunkgroup" => query.trunkgroup = filled(&like.trunkgroup),
        "vdn" => query.vdn = filled(&like.vdn),
        "split" => query.split = filled(&like.split),
        "tag" => query.tag = Some(like.tags.first().cloned().unwrap_or("litigation".to_owned())),
        "mindurationms" => query.mindurationms = Some(like.durationms),
        "incomplete" => query.incomplete = Some(like.lacks_audio() ^ draw.once_in(2)),
        "scorecard" => query.scorecard = Some(like_score(like).0),
        // From a question with an open end to a narrow one.
        "minscore" => query.minscore = Some(like_score(like).1),
        "maxscore" => query.maxscore = Some(like_score(like).1.saturating_add(1).min(100)),
        "team" => query.scope = team(like),
        _ => query.text = Some(text(like, draw)),
    }
}

/// A form and a whole percent: of what is judged its own.
fn like_score(like: &Recording) -> (String, u8) {
    like.scores.first().map_or_else(
        || ("sales".to_owned(), 20),
        |score| (score.scorecard.clone(), score.percent.floor() as u8),
    )
}

/// What whoever leads this station's team may see.
fn team(like: &Recording) -> Scope {
    let station: u64 = like.extension.as_str().parse().unwrap_or_default();
    let team = station.saturating_sub(20_000) / TEAM % TEAMS;
    let first = 20_000 + team * TEAM;
    Scope::of((first..first + TEAM).map(|number| Extension::new(number.to_string())).collect())
}

/// What somebody types: a word, a part of a number, a letter or two.
fn text(like: &Recording, draw: &mut Draw) -> String {
    let number = like.calling.clone();
    match draw.below(8) {
        0 => "tribunal".to_owned(),
        1 => "nowhere".to_owned(),
        2 => like.agentid.chars().take(2).collect(),
        3 => like.notes.first().map_or("e".to_owned(), |note| note.text.clone()),
        4 => draw.pick(&WORDS).to_owned(),
        5 => number.chars().skip(5).collect(),
        6 => format!("{} {}", draw.pick(&WORDS), draw.pick(&WORDS)),
        _ => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_the_same_in_every_run_and_in_order() {
        assert_eq!(recording(7, 1000), recording(7, 1000));
        let begins: Vec<_> = (0..1000).map(|n| recording(n, 1000).started).collect();
        assert!(begins.is_sorted());
        assert!(begins[999] > begins[0] + std::time::Duration::from_millis(DAY_MS * (DAYS - 10)));
    }

    #[test]
    fn who_looks_for_a_recording_by_all_but_text_and_completeness_finds_it() {
        for number in 0..200 {
            let like = recording(number, 1000);
            let mut query = Query::default();
            for filter in FILTERS {
                let absent = filter == "tag" && like.tags.is_empty()
                    || filter.contains("score") && like.scores.is_empty();
                if !matches!(filter, "text" | "incomplete") && !absent {
                    narrow(&mut query, filter, &like, &mut Draw::new(number));
                }
            }
            assert!(query.matches(&like), "{query:?} {like:?}");
        }
    }
}
