//! Seals one recording: reads its captures twice, this node's, those pulled from others and those that are
//! mirrored here, and stages the voice file with its record. It decides nothing about when, how often, what to do
//! after a failure, or whether what is staged is published.
//!
//! A later revision may find the captures of the one before gone. Then the published file itself is
//! a source: what is new is laid around it, and nothing of it is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

#[cfg(not(feature = "opus"))]
use recorder_core::media::Codec;
use recorder_core::media::published::entries;
use recorder_core::media::render::Pass;
use recorder_core::media::{
    Heard, Index, Layout, Plan, Render, RenderError, Source, Unplaceable, add_sound,
    begin_when_due, draft_of, merge_drafts, record, record_of_sides, revised, shifted,
};
use storage::wav::Channels;
use storage::{
    FetchError, FinishedVoice, JournalError, JournalReader, Staged, VoiceError, VoiceStore,
};
use storage_core::journal::{Entry, Fact};
use storage_core::record::VoiceFormat;
use storage_core::{Draft, NodeId, Recording, RecordingId, SegmentId, WallTime};

use crate::excerpts::excerpts;
use crate::mirrored::MirroredCapture;
use crate::offsets::offsets;
use crate::published_file::{PublishedError, PublishedFile};
use crate::pulled::{PulledCapture, PulledError};
use crate::voice_sink::{MonoVoice, StereoVoice, Voice};

/// What is to be sealed.
#[derive(Clone, Debug)]
pub struct SealJob {
    /// The group's name of the recording, and the name that it is published under.
    pub recording: RecordingId,
    /// Which completion of it this is, from 1.
    pub revision: u32,
    /// This node, which will own it.
    pub node: NodeId,
    /// 1, or 2 from a parallel recorder.
    pub copy: u8,
    /// The names under which this node's journal holds captures of it.
    pub local: Vec<RecordingId>,
    /// Captures of other nodes.
    pub pulled: Vec<PulledCapture>,
    /// Captures of nodes that do not answer, from the mirrors that are kept here.
    pub mirrored: Vec<MirroredCapture>,
    /// What is there of these nodes' captures comes from mirrors, here or pulled. It is not among the captures that
    /// were looked at: their nodes may have more of it.
    pub lacking: BTreeSet<NodeId>,
    /// Captures of which there is nothing, and never will be: looked at as well.
    pub void: Vec<(NodeId, SegmentId)>,
    /// There are captures on nodes that do not answer.
    pub partial: bool,
    /// By how much the clocks of other nodes were ahead of ours, before one was set and now, microseconds.
    pub offsets_known: BTreeMap<NodeId, Vec<i64>>,
}

impl SealJob {
    /// A recording that only this node has captured, once.
    #[must_use]
    pub fn alone(recording: RecordingId, node: NodeId, copy: u8) -> Self {
        Self {
            recording,
            revision: 1,
            node,
            copy,
            local: vec![recording],
            pulled: Vec::new(),
            mirrored: Vec::new(),
            lacking: BTreeSet::new(),
            void: Vec::new(),
            partial: false,
            offsets_known: BTreeMap::new(),
        }
    }
}

/// What became of a recording.
#[derive(Debug)]
pub enum Sealed {
    /// Voice file and record are durable, and wait to be published.
    Staged {
        /// To be published, or discarded.
        staged: Box<Staged>,
        /// First audio.
        from: WallTime,
        /// End of the audio.
        to: WallTime,
        /// The captures that were looked at.
        captures: Vec<(NodeId, SegmentId)>,
    },
    /// The captures add nothing to what is published.
    Same {
        /// The captures that were looked at.
        captures: Vec<(NodeId, SegmentId)>,
    },
    /// Nothing was heard: there is no voice file.
    Missed {
        /// What is known of the call.
        draft: Box<Draft>,
        /// Why.
        reason: Unplaceable,
        /// The captures that were looked at.
        captures: Vec<(NodeId, SegmentId)>,
    },
}

/// Why a recording was not sealed. Its capture is still there.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The capture cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The voice file or the record cannot be written.
    #[error(transparent)]
    Voice(#[from] VoiceError),
    /// What was pulled from another node cannot be read.
    #[error(transparent)]
    Pulled(#[from] PulledError),
    /// What was published before cannot be read, and a later revision must hold it.
    #[error("the revision before cannot be read")]
    Before(#[from] FetchError),
    /// What was published before has two channels: nothing can be laid around it. It stays as it is, and
    /// so does what was captured since.
    #[error("the revision before has two channels: no later one of it can be made")]
    TwoChannels,
    /// There is no such revision yet, or it cannot be read.
    #[error("the revision before is not there")]
    NotPublished,
    /// What lies here is the copy of a recording that another node has published: its group knows whether
    /// this capture still is to go into it.
    #[error("node {node} has published it: start this node, and the group completes it")]
    Elsewhere {
        /// Who has it.
        node: NodeId,
    },
    /// Nothing could be heard in what could be read, and not all could.
    #[error("the disk does not give what was captured")]
    Unread,
    /// There is audio, and no voice file can be made of it.
    #[error(transparent)]
    Unplaceable(Unplaceable),
    /// An Opus file cannot be made.
    #[cfg(feature = "opus")]
    #[error(transparent)]
    Opus(#[from] crate::opus_file::OpusError),
    /// This program can neither write Opus nor decode it.
    #[cfg(not(feature = "opus"))]
    #[error("this program was built without Opus: take one built with the feature opus")]
    NoOpus,
    /// The capture was another one at the second reading.
    #[error("the capture changed while it was read (packet {ordinal})")]
    Changed {
        /// Number of the packet in the order of capture.
        ordinal: u32,
    },
}

impl From<PublishedError> for SealError {
    fn from(error: PublishedError) -> Self {
        match error {
            PublishedError::Fetch(error) => Self::Before(error),
            PublishedError::Voice(error) => Self::Before(error.into()),
            PublishedError::Read(error) => Self::Before(error.into()),
            PublishedError::TwoChannels => Self::TwoChannels,
        }
    }
}

impl SealError {
    /// What the voice file said, if it was that.
    const fn voice(&self) -> Option<&VoiceError> {
        match self {
            Self::Voice(error) | Self::Before(FetchError::Voice(error)) => Some(error),
            #[cfg(feature = "opus")]
            Self::Opus(crate::opus_file::OpusError::Voice(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether there was no room: it will succeed when there is.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        match self.voice() {
            Some(error) => error.is_full(),
            None => matches!(self, Self::Journal(JournalError::Full { .. })),
        }
    }

    /// Whether trying again can help at all.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match (self.voice(), self) {
            (Some(error), _) => {
                matches!(error, VoiceError::Full { .. } | VoiceError::Io { .. })
            }
            (None, Self::Journal(error)) => !matches!(error, JournalError::NoRecording(_)),
            (None, other) => matches!(
                other,
                Self::Changed { .. }
                    | Self::NotPublished
                    | Self::Unread
                    | Self::Before(FetchError::Read(_))
                    | Self::Pulled(PulledError::Io { .. })
            ),
        }
    }

    /// Whether nothing of the recording is here: it was sealed already, if it ever was.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Journal(JournalError::NoRecording(_)))
    }
}

/// How voice files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoiceSettings {
    /// `al_voiceformat`.
    pub format: VoiceFormat,
    /// `al_opusbitrate`, bits a second; without effect on other forms.
    pub opus_bitrate: u32,
    /// `al_keytones = "mask"`: the tones of pressed keys are taken out.
    pub mask_keys: bool,
    /// `al_hold = "skip"`: what came while the call was on hold is left out.
    pub skip_hold: bool,
}

impl Default for VoiceSettings {
    fn default() -> Self {
        let format = VoiceFormat::default();
        Self { format, opus_bitrate: 24_000, mask_keys: false, skip_hold: false }
    }
}

impl From<VoiceFormat> for VoiceSettings {
    fn from(format: VoiceFormat) -> Self {
        Self { format, ..Self::default() }
    }
}

/// Seals a recording. Whoever calls this afterwards has the group agree, publishes what is staged,
/// and says in the journal that the captures are not needed any more ([`Fact::Sealed`]).
///
/// # Errors
/// [`SealError`].
pub fn seal(
    job: &SealJob,
    capture: &JournalReader,
    store: &VoiceStore,
    settings: impl Into<VoiceSettings>,
) -> Result<Sealed, SealError> {
    let settings = settings.into();
    let offsets = offsets(job, capture)?;
    let mut sources = Sources { job, capture, published: None, offsets };
    if job.revision > 1 {
        // What is in it is nowhere else any more.
        let record = store.published(job.recording)?.ok_or(SealError::NotPublished)?;
        let file = PublishedFile::open(store, &record)?;
        sources.published = Some(Published { record, file });
    }
    let First { draft, mut index, captures, whole } = read_headers(&mut sources)?;
    let left_out = index.left_out(&draft, settings.skip_hold);
    index.leave_out(&left_out);
    if let Some(listening) = index.listening() {
        let read = |entry: &mut dyn FnMut(&Entry<'_>)| sources.entries(entry);
        let heard = excerpts(listening.plan(), read)?;
        index.join(listening.joins(&heard));
    }
    let mut layout = match index.layout() {
        Ok(layout) => layout,
        // A recording of a call that was on hold all the time is better than none.
        Err(Unplaceable::NoAudio { .. }) if settings.skip_hold => {
            let settings = VoiceSettings { skip_hold: false, ..settings };
            return seal(job, capture, store, settings);
        }
        // What could not be read may have been audio.
        Err(Unplaceable::NoAudio { .. }) if !whole => return Err(SealError::Unread),
        Err(reason @ Unplaceable::NoAudio { .. }) => {
            return Ok(Sealed::Missed { draft: Box::new(draft), reason, captures });
        }
        Err(reason) => return Err(SealError::Unplaceable(reason)),
    };
    #[cfg(not(feature = "opus"))]
    if layout.whole().segments.iter().any(|segment| segment.codecs.contains(&Codec::Opus.name())) {
        return Err(SealError::NoOpus);
    }
    let before = sources.published.as_ref().map(|before| &before.record);
    let begun = layout.change(|plan| begin_when_due(plan, &draft, before));
    begun.map_err(SealError::Unplaceable)?;
    layout.change(|plan| plan.declare(&left_out)).map_err(SealError::Unplaceable)?;
    if settings.mask_keys {
        layout.mask_keys().map_err(SealError::Unplaceable)?;
    }
    let mut record = match (before, &layout) {
        (Some(before), Layout::Mono(plan)) => revised(before, draft, plan, settings.format),
        (None, Layout::Mono(plan)) => record(draft, plan, settings.format),
        (None, Layout::Stereo(stereo)) => record_of_sides(draft, stereo, settings.format),
        (Some(_), Layout::Stereo(_)) => return Err(SealError::TwoChannels),
    };
    record.revision = job.revision;
    record.cutshort |= !whole;
    record.complete &= whole && !job.partial;
    if let Some(before) = &sources.published
        && !layout.whole().adds()
        && (before.record.complete || !record.complete)
    {
        return Ok(Sealed::Same { captures });
    }
    let (voice, heard, one_way) = write(&mut sources, store, settings, &layout, &record)?;
    add_sound(&mut record.quality, &heard);
    record.quality.oneway = one_way.or(record.quality.oneway);
    let staged = Box::new(store.stage(voice, record)?);
    let (from, to) = (layout.whole().started, layout.whole().ended);
    Ok(Sealed::Staged { staged, from, to, captures })
}

/// Everything that a recording is made of.
struct Sources<'a> {
    job: &'a SealJob,
    capture: &'a JournalReader,
    published: Option<Published>,
    /// By how much other nodes' clocks were ahead of ours when they captured, microseconds.
    offsets: BTreeMap<NodeId, i64>,
}

/// The revision before.
struct Published {
    record: Recording,
    file: PublishedFile,
}

/// What reading the sources comes to next.
#[expect(clippy::large_enum_variant, reason = "lives for one turn of a reader's loop")]
enum Turn<'a> {
    Source(Source),
    Entry(Entry<'a>),
}

impl Sources<'_> {
    /// Gives all entries, source by source; the same each time. Tells how many bytes the disk has
    /// lost.
    fn read(&mut self, mut turn: impl FnMut(Turn<'_>)) -> Result<u64, SealError> {
        let Self { job, capture, published, offsets } = self;
        let mut lost = 0;
        let alone = published.is_none() && job.pulled.is_empty() && job.mirrored.is_empty();
        if let Some(Published { record, file }) = published {
            turn(Turn::Source(Source::PUBLISHED));
            let read = entries(record, file, |entry| turn(Turn::Entry(entry)));
            read.map_err(|error: io::Error| SealError::Before(error.into()))?;
        }
        turn(Turn::Source(Source { node: job.node, clock_offset_us: None }));
        match capture.read_recordings(&job.local, |entry| turn(Turn::Entry(entry))) {
            Ok(stats) => lost += stats.bytes_lost,
            // Sealed into the revision before; or this node has captured nothing.
            Err(JournalError::NoRecording(_)) if !alone => {}
            Err(error) => return Err(error.into()),
        }
        for pulled in &job.pulled {
            let clock_offset_us = offsets.get(&pulled.node()).copied();
            turn(Turn::Source(Source { node: pulled.node(), clock_offset_us }));
            lost += pulled.read(|entry| turn(Turn::Entry(entry)))?.bytes_lost;
        }
        for mirrored in &job.mirrored {
            let clock_offset_us = offsets.get(&mirrored.node).copied();
            turn(Turn::Source(Source { node: mirrored.node, clock_offset_us }));
            lost += mirrored.read(|entry| turn(Turn::Entry(entry)))?.bytes_lost;
        }
        Ok(lost)
    }

    /// Gives all entries.
    fn entries(&mut self, entry: &mut dyn FnMut(&Entry<'_>)) -> Result<(), SealError> {
        let read = self.read(|turn| {
            if let Turn::Entry(found) = turn {
                entry(&found);
            }
        });
        read.map(drop)
    }
}

/// What the first reading found.
struct First {
    draft: Draft,
    /// Where its audio lies.
    index: Index,
    captures: Vec<(NodeId, SegmentId)>,
    /// Whether the disk gave everything that was captured.
    whole: bool,
}

/// First reading: what is known of the call, and where its audio lies.
fn read_headers(sources: &mut Sources<'_>) -> Result<First, SealError> {
    let job = sources.job;
    let mut index = Index::new();
    let mut drafts = BTreeMap::new();
    let mut from = Source::PUBLISHED;
    let bytes = sources.read(|turn| match turn {
        Turn::Source(source) => {
            from = source;
            index.source(source);
        }
        Turn::Entry(entry) => {
            index.entry(&entry);
            if let Entry::Fact(Fact::Recording { draft }) = entry {
                let draft = shifted(draft, from.clock_offset_us.unwrap_or(0));
                drafts.insert((from.node, draft.recordingid), draft);
            }
        }
    })?;
    if bytes > 0 {
        tracing::error!(recording = %job.recording, bytes, "the disk has lost captured media");
    }
    let before = sources.published.as_ref().map(|before| draft_of(&before.record));
    let mut known = before.into_iter().chain(drafts.into_values());
    let draft = match known.next() {
        Some(first) => merge_drafts(first, known),
        None => {
            tracing::error!(recording = %job.recording, "what was known of the call is lost");
            Draft::lost(job.recording, job.node)
        }
    };
    let SealJob { recording: recordingid, node, copy, .. } = *job;
    let draft = Draft { recordingid, node, copy, ..draft };
    let looked_at = index.captures().map(|key| (key.node, key.segment));
    let captures: BTreeSet<_> = looked_at
        .filter(|(node, _)| !job.lacking.contains(node))
        .chain(job.void.iter().copied())
        .collect();
    let captures = captures.into_iter().collect();
    Ok(First { draft, index, captures, whole: bytes == 0 })
}

/// Second reading: the audio, in order.
fn write(
    sources: &mut Sources<'_>,
    store: &VoiceStore,
    settings: VoiceSettings,
    layout: &Layout,
    record: &Recording,
) -> Result<(FinishedVoice, Heard, Option<bool>), SealError> {
    // What was published keeps its bytes as they are.
    let law = sources.published.as_ref().and_then(|before| before.file.law());
    let law = law.unwrap_or(layout.whole().law);
    let channels = match layout {
        Layout::Mono(_) => Channels::Mono,
        Layout::Stereo(_) => Channels::Stereo,
    };
    let length = layout.whole().total.0;
    let voice = Voice::create(store, settings, record, (channels, length), law)?;
    let plan = match layout {
        Layout::Mono(plan) => plan,
        Layout::Stereo(stereo) => {
            let mut voice = StereoVoice::new(voice, settings, law, stereo);
            render_sides(sources, stereo.sides(), &mut voice)?;
            return voice.finish();
        }
    };
    let mut voice = MonoVoice::new(voice, plan);
    let mut render = Render::new(plan);
    loop {
        let mut outcome = Ok(());
        sources.entries(&mut |entry| {
            if outcome.is_ok() {
                outcome = render.entry(entry, &mut voice);
            }
        })?;
        outcome.map_err(render_error)?;
        if render.end_pass(&mut voice).map_err(render_error)? == Pass::Done {
            let (voice, heard) = voice.finish()?;
            return Ok((voice, heard, None));
        }
    }
}

/// The audio of two sides, in step.
fn render_sides(
    sources: &mut Sources<'_>,
    sides: &[Plan; 2],
    voice: &mut StereoVoice<'_>,
) -> Result<(), SealError> {
    let mut renders = sides.each_ref().map(Render::new);
    loop {
        let mut outcome = Ok(());
        sources.entries(&mut |entry| {
            for (number, render) in renders.iter_mut().enumerate() {
                if outcome.is_ok() {
                    let side = &mut voice.side(number);
                    // A side that is silent for long does not keep the other waiting.
                    let taken = render.entry(entry, side).and_then(|()| render.catch_up(side));
                    outcome = taken.map_err(render_error);
                }
            }
            if outcome.is_ok() {
                outcome = voice.weave();
            }
        })?;
        outcome?;
        let mut pass = Pass::Done;
        for (number, render) in renders.iter_mut().enumerate() {
            if render.end_pass(&mut voice.side(number)).map_err(render_error)? == Pass::Again {
                pass = Pass::Again;
            }
        }
        voice.weave()?;
        if pass == Pass::Done {
            return Ok(());
        }
    }
}

pub(crate) fn render_error(error: RenderError<SealError>) -> SealError {
    match error {
        RenderError::Sink(error) => error,
        RenderError::Changed { ordinal } => SealError::Changed { ordinal },
    }
}
