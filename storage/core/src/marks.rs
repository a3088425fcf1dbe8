//! What people write about a recording: its tags, notes and scores, and with them its legal hold
//! ([`crate::hold`]). It decides how long and how many they may
//! be, what a change does, and what becomes of changes that were made on two nodes at once: whatever
//! order they meet in, the outcome is the same. Who may write, and how one node's changes get to the
//! others, it does not decide.
//!
//! A tag's last change counts, where "last" is told by a [`Stamp`], and a removed tag is remembered as
//! removed. Notes are only ever added. Of scores the last one counts that somebody gave by a scorecard. So
//! all of them can be merged again and again without harm.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::archived::Archived;
use crate::hold::{self, HoldMark};
use crate::ids::{NodeId, RecordingId};
use crate::record::Recording;
use crate::scorecard::{Rated, is_prose};
use crate::time::WallTime;

/// Longest tag, characters.
pub const TAG_CHARS_MAX: usize = 64;
/// Tags on one recording.
pub const TAGS_MAX: usize = 32;
/// Tags that one recording ever had, removed ones included.
pub const TAGS_EVER_MAX: usize = 128;
/// Longest note, bytes of UTF-8.
pub const NOTE_BYTES_MAX: usize = 1000;
/// Notes on one recording.
pub const NOTES_MAX: usize = 64;
/// Scores of one recording: people times scorecards.
pub const SCORES_MAX: usize = 8;
/// Scorecard, answers and comment of one score, bytes of their JSON.
pub const SCORE_BYTES_MAX: usize = 8 * 1024;

/// When and where something was written. No two changes of one recording have the same one: a node
/// makes each later than all that it knows of, whatever its clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// When, to the millisecond, which is all that a record keeps.
    pub at: WallTime,
    /// On which node.
    pub node: NodeId,
}

/// The last change of one tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagMark {
    /// The tag.
    pub tag: String,
    /// Whether the recording has it since.
    pub on: bool,
    /// Who changed it.
    pub by: String,
    /// When and where.
    #[serde(flatten)]
    pub stamp: Stamp,
}

/// Something that a person wrote about a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// What.
    pub text: String,
    /// Who.
    pub by: String,
    /// When and where: the note's name within its recording.
    #[serde(flatten)]
    pub stamp: Stamp,
}

/// How somebody judged a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// By which form.
    pub scorecard: String,
    /// What it came to, in percent.
    pub percent: f64,
    /// What was answered, by question.
    pub answers: BTreeMap<String, Value>,
    /// What else there is to say; empty if nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    /// Who judged.
    pub by: String,
    /// When and where.
    #[serde(flatten)]
    pub stamp: Stamp,
}

/// All that people wrote about a recording, as one node tells it another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Marks {
    /// Which recording.
    pub recordingid: RecordingId,
    /// The last change of each tag.
    #[serde(default)]
    pub tagmarks: Vec<TagMark>,
    /// The notes.
    #[serde(default)]
    pub notes: Vec<Note>,
    /// The last legal hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holdmark: Option<HoldMark>,
    /// The scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Score>,
    /// Where it lies in the archive, which nodes tell each other in the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<Archived>,
}

impl Marks {
    /// Those of a record.
    #[must_use]
    pub fn of(record: &Recording) -> Self {
        Self {
            recordingid: record.recordingid,
            tagmarks: record.tagmarks.clone(),
            notes: record.notes.clone(),
            holdmark: record.holdmark.clone(),
            scores: record.scores.clone(),
            archived: record.archived.clone(),
        }
    }

    /// Whether nobody wrote anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let untold = self.tagmarks.is_empty() && self.notes.is_empty() && self.scores.is_empty();
        untold && self.holdmark.is_none() && self.archived.is_none()
    }

    /// Brings what is written here into a record. Tells whether that changed it.
    pub fn merge_into(&self, record: &mut Recording) -> bool {
        let mut tags: BTreeMap<String, TagMark> =
            record.tagmarks.iter().map(|mark| (mark.tag.clone(), mark.clone())).collect();
        for mark in &self.tagmarks {
            match tags.get(&mark.tag) {
                Some(known) if known.stamp >= mark.stamp => {}
                _ => drop(tags.insert(mark.tag.clone(), mark.clone())),
            }
        }
        let mut notes: BTreeMap<Stamp, Note> =
            record.notes.iter().map(|note| (note.stamp, note.clone())).collect();
        for note in &self.notes {
            notes.entry(note.stamp).or_insert_with(|| note.clone());
        }
        let tagmarks: Vec<TagMark> = tags.into_values().collect();
        let notes: Vec<Note> = notes.into_values().collect();
        let held = hold::merge_into(record, self.holdmark.as_ref());
        let archived = self.archived.as_ref().is_some_and(|archived| archived.merge_into(record));
        let scores = merged(&record.scores, &self.scores);
        let changed =
            (&tagmarks, &notes, &scores) != (&record.tagmarks, &record.notes, &record.scores);
        if changed {
            let marked = tagmarks.iter().filter(|mark| mark.on).map(|mark| mark.tag.clone());
            record.tags = marked.collect();
            (record.tagmarks, record.notes, record.scores) = (tagmarks, notes, scores);
        }
        changed || held || archived
    }
}

/// The last score of each by each scorecard, the oldest first.
fn merged(one: &[Score], other: &[Score]) -> Vec<Score> {
    let mut last: BTreeMap<(&str, &str), &Score> = BTreeMap::new();
    for score in one.iter().chain(other) {
        let known = last.entry((&score.by, &score.scorecard)).or_insert(score);
        if known.stamp < score.stamp {
            *known = score;
        }
    }
    let mut scores: Vec<Score> = last.into_values().cloned().collect();
    scores.sort_by(|a, b| (a.stamp, &a.by, &a.scorecard).cmp(&(b.stamp, &b.by, &b.scorecard)));
    scores
}

/// A judgement that is to be written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scoring {
    /// By which form.
    pub scorecard: String,
    /// What it came to, in percent.
    pub percent: f64,
    /// What was answered, by question.
    pub answers: BTreeMap<String, Value>,
    /// What else there is to say; empty if nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
}

impl Scoring {
    /// A judgement, its words checked.
    ///
    /// # Errors
    /// [`MarkError::Comment`], [`MarkError::Score`].
    pub fn new(scorecard: String, rated: Rated, comment: &str) -> Result<Self, MarkError> {
        let comment = comment.trim().to_owned();
        if !is_prose(&comment) {
            return Err(MarkError::Comment);
        }
        let Rated { answers, percent } = rated;
        let scoring = Self { scorecard, percent, answers, comment };
        // What is in it has a form in JSON: it came from there.
        let bytes = serde_json::to_vec(&scoring).map_or(usize::MAX, |json| json.len());
        if bytes > SCORE_BYTES_MAX { Err(MarkError::Score) } else { Ok(scoring) }
    }
}

/// What one person wants written about a recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Marking {
    /// Tags that it is to have.
    pub add: Vec<String>,
    /// Tags that it is to have no more.
    pub remove: Vec<String>,
    /// A note to be added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// A judgement, in the place of an earlier one by the same scorecard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<Scoring>,
}

/// Why something cannot be written about a recording.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// A tag of a form that it cannot have.
    #[error("`{0}`: a tag must be 1 to {TAG_CHARS_MAX} characters, without control characters")]
    Tag(&'static str),
    /// One tag is to be added and removed.
    #[error("a tag is both in `add` and in `remove`: name it once")]
    Both,
    /// More tags than a recording may have.
    #[error("a recording has at most {TAGS_MAX} tags: remove some first")]
    Tags,
    /// More different tags than a recording may ever have had.
    #[error(
        "this recording has had {TAGS_EVER_MAX} different tags, removed ones included, which is the \
         most that is kept"
    )]
    TagsEver,
    /// A note that is too long or of a form that it cannot have.
    #[error(
        "`note` must be at most {NOTE_BYTES_MAX} bytes, without control characters but line ends"
    )]
    Note,
    /// More notes than a recording may have.
    #[error("a recording has at most {NOTES_MAX} notes, which stay for ever")]
    Notes,
    /// A comment that is too long or of a form that it cannot have.
    #[error(
        "`comment` must be at most {NOTE_BYTES_MAX} bytes, without control characters but line ends"
    )]
    Comment,
    /// Answers and comment that are too long together.
    #[error("answers and comment are too long: {SCORE_BYTES_MAX} bytes are kept of one score")]
    Score,
    /// More scores than a recording may have.
    #[error("a recording has at most {SCORES_MAX} scores, one of each person by each scorecard")]
    Scores,
    /// Nothing is to be written.
    #[error("`add`, `remove` or `note` must be given")]
    Nothing,
}

impl Marking {
    /// A change, its words trimmed and checked.
    ///
    /// # Errors
    /// [`MarkError`].
    pub fn new(
        add: Vec<String>,
        remove: Vec<String>,
        note: Option<String>,
    ) -> Result<Self, MarkError> {
        let add = tags("add", add)?;
        let remove = tags("remove", remove)?;
        if add.iter().any(|tag| remove.contains(tag)) {
            return Err(MarkError::Both);
        }
        let note = note.map(|note| note.trim().to_owned()).filter(|note| !note.is_empty());
        let plain = |letter: char| !letter.is_control() || letter == '\n';
        if note.as_ref().is_some_and(|note| note.len() > NOTE_BYTES_MAX || !note.chars().all(plain))
        {
            return Err(MarkError::Note);
        }
        if add.is_empty() && remove.is_empty() && note.is_none() {
            return Err(MarkError::Nothing);
        }
        Ok(Self { add, remove, note, score: None })
    }

    /// A judgement alone.
    #[must_use]
    pub fn scored(score: Scoring) -> Self {
        Self { score: Some(score), ..Self::default() }
    }

    /// Writes it down in a record. Tells whether that changed it: what is so already is not written
    /// again.
    ///
    /// # Errors
    /// [`MarkError`] where there would be too many; the record is as it was then.
    pub fn apply(
        &self,
        record: &mut Recording,
        by: &str,
        now: WallTime,
        node: NodeId,
    ) -> Result<bool, MarkError> {
        let stamp = next_stamp(record, now, node);
        let has = |tag: &String| record.tags.contains(tag);
        let mark = |tag: &String, on| TagMark { tag: tag.clone(), on, by: by.to_owned(), stamp };
        let added = self.add.iter().filter(|tag| !has(tag)).map(|tag| mark(tag, true));
        let removed = self.remove.iter().filter(|tag| has(tag)).map(|tag| mark(tag, false));
        let tagmarks: Vec<_> = added.chain(removed).collect();
        let note =
            self.note.iter().map(|text| Note { text: text.clone(), by: by.to_owned(), stamp });
        let score = self.score.iter().map(|scoring| {
            let Scoring { scorecard, percent, answers, comment } = scoring.clone();
            Score { scorecard, percent, answers, comment, by: by.to_owned(), stamp }
        });
        let written = Marks {
            recordingid: record.recordingid,
            tagmarks,
            notes: note.collect(),
            holdmark: None,
            archived: None,
            scores: score.collect(),
        };
        let mut after = record.clone();
        let changed = written.merge_into(&mut after);
        let grows = |before: usize, after: usize, most: usize| after > most && after > before;
        if grows(record.tags.len(), after.tags.len(), TAGS_MAX) {
            return Err(MarkError::Tags);
        }
        if grows(record.tagmarks.len(), after.tagmarks.len(), TAGS_EVER_MAX) {
            return Err(MarkError::TagsEver);
        }
        if grows(record.notes.len(), after.notes.len(), NOTES_MAX) {
            return Err(MarkError::Notes);
        }
        if grows(record.scores.len(), after.scores.len(), SCORES_MAX) {
            return Err(MarkError::Scores);
        }
        *record = after;
        Ok(changed)
    }
}

/// Later than everything that is written about a recording.
pub(crate) fn next_stamp(record: &Recording, now: WallTime, node: NodeId) -> Stamp {
    let tags = record.tagmarks.iter().map(|mark| mark.stamp);
    let notes = record.notes.iter().map(|note| note.stamp);
    let scores = record.scores.iter().map(|score| score.stamp);
    let hold = record.holdmark.iter().map(HoldMark::last_stamp);
    let known = tags.chain(notes).chain(scores).chain(hold).max();
    let least = known.map_or(i64::MIN, |stamp| stamp.at.as_millis().saturating_add(1));
    Stamp { at: WallTime::from_millis(now.as_millis().max(least)), node }
}

fn tags(argument: &'static str, tags: Vec<String>) -> Result<Vec<String>, MarkError> {
    let mut checked = Vec::new();
    for tag in tags {
        let tag = tag.trim();
        let count = tag.chars().count();
        if !(1..=TAG_CHARS_MAX).contains(&count) || tag.chars().any(char::is_control) {
            return Err(MarkError::Tag(argument));
        }
        if !checked.iter().any(|known| known == tag) {
            checked.push(tag.to_owned());
        }
    }
    if checked.len() > TAGS_MAX {
        return Err(MarkError::Tags);
    }
    Ok(checked)
}

#[cfg(test)]
mod tests;
