//! Seals one recording: reads its capture twice, writes the voice file, publishes it with its
//! record. It decides nothing about when, how often, or what to do after a failure.

use recorder_core::media::render::Pass;
use recorder_core::media::{Index, Plan, Render, RenderError, Unplaceable, VoiceSink, record};
use storage::{
    FinishedVoice, JournalError, JournalReader, VoiceError, VoiceForm, VoiceStore, VoiceWriter,
};
use storage_core::g711::Law;
use storage_core::journal::{Entry, Fact};
use storage_core::record::{Direction, Scope, TriggerKind, VoiceFormat};
use storage_core::{Draft, Extension, NodeId, Recording, RecordingId, WallTime};

/// What became of a recording.
#[derive(Debug)]
pub enum Sealed {
    /// Voice file and record are durable.
    Published(Box<Recording>),
    /// Nothing was heard: there is no voice file.
    Missed {
        /// What is known of the call.
        draft: Box<Draft>,
        /// Why.
        reason: Unplaceable,
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
    /// There is audio, and no voice file can be made of it.
    #[error(transparent)]
    Unplaceable(Unplaceable),
    /// The voice format is not in this program.
    #[error("this program was built without {0:?}: choose another al_voiceformat")]
    NotBuilt(VoiceFormat),
    /// The capture was another one at the second reading.
    #[error("the capture changed while it was read (packet {ordinal})")]
    Changed {
        /// Number of the packet in the order of capture.
        ordinal: u32,
    },
}

impl SealError {
    /// Whether there was no room: it will succeed when there is.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        match self {
            Self::Voice(error) => error.is_full(),
            Self::Journal(JournalError::Full { .. }) => true,
            _ => false,
        }
    }

    /// Whether trying again can help at all.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Journal(JournalError::NoRecording(_))
            | Self::Unplaceable(_)
            | Self::NotBuilt(_) => false,
            Self::Voice(error) => matches!(error, VoiceError::Full { .. } | VoiceError::Io { .. }),
            Self::Journal(_) | Self::Changed { .. } => true,
        }
    }
}

/// Seals a recording. Whoever calls this afterwards says so in the journal ([`Fact::Sealed`]).
///
/// A recording that is published already (a crash came between publishing and saying so) is
/// published again, and keeps the tags, notes and hold that people gave it meanwhile.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    capture: &JournalReader,
    store: &VoiceStore,
    format: VoiceFormat,
    id: RecordingId,
) -> Result<Sealed, SealError> {
    let First { draft, plan, whole } = read_headers(capture, id)?;
    let plan = match plan {
        Ok(plan) => plan,
        Err(reason @ Unplaceable::NoAudio { .. }) => {
            return Ok(Sealed::Missed { draft: Box::new(draft), reason });
        }
        Err(reason) => return Err(SealError::Unplaceable(reason)),
    };
    let voice = write(capture, store, format, id, &plan)?;
    let mut record = record(draft, &plan, voice.format);
    record.complete &= whole;
    if let Ok(before) = store.record(id, record.started) {
        (record.tags, record.notes, record.hold) = (before.tags, before.notes, before.hold);
    }
    let published = store.publish(voice, record)?;
    Ok(Sealed::Published(Box::new(published)))
}

/// What the first reading found.
struct First {
    draft: Draft,
    plan: Result<Plan, Unplaceable>,
    /// Whether the disk gave everything that was captured.
    whole: bool,
}

/// First reading: what is known of the call, and where its audio lies.
fn read_headers(capture: &JournalReader, id: RecordingId) -> Result<First, SealError> {
    let mut index = Index::new();
    let mut known = None;
    let stats = capture.read_recording(id, |entry| {
        index.entry(&entry);
        if let Entry::Fact(Fact::Recording { draft }) = entry {
            known = Some(draft);
        }
    })?;
    let bytes = stats.bytes_lost;
    if bytes > 0 {
        tracing::error!(recording = %id, bytes, "the disk has lost captured media");
    }
    let draft = known.unwrap_or_else(|| {
        tracing::error!(recording = %id, "the disk has lost what was known of the call");
        unknown_call(id)
    });
    Ok(First { draft, plan: index.plan(), whole: bytes == 0 })
}

/// Second reading: the audio, in order.
fn write(
    capture: &JournalReader,
    store: &VoiceStore,
    format: VoiceFormat,
    id: RecordingId,
    plan: &Plan,
) -> Result<FinishedVoice, SealError> {
    let form = match format {
        VoiceFormat::WavG711 => VoiceForm::G711(plan.law),
        VoiceFormat::Wav => VoiceForm::Pcm,
        VoiceFormat::Opus => return Err(SealError::NotBuilt(format)),
    };
    let mut voice = Voice(store.write(id, form, plan.total.0)?);
    let mut render = Render::new(plan);
    loop {
        let mut outcome = Ok(());
        capture.read_recording(id, |entry| {
            if outcome.is_ok() {
                outcome = render.entry(&entry, &mut voice);
            }
        })?;
        outcome.map_err(render_error)?;
        if render.end_pass(&mut voice).map_err(render_error)? == Pass::Done {
            return Ok(voice.0.finish()?);
        }
    }
}

fn render_error(error: RenderError<VoiceError>) -> SealError {
    match error {
        RenderError::Sink(error) => SealError::Voice(error),
        RenderError::Changed { ordinal } => SealError::Changed { ordinal },
    }
}

/// The voice file as the renderer sees it.
struct Voice(VoiceWriter);

impl VoiceSink for Voice {
    type Error = VoiceError;

    fn audio(&mut self, law: Law, samples: &[u8]) -> Result<(), VoiceError> {
        self.0.write_g711(law, samples)
    }

    fn silence(&mut self, samples: u64) -> Result<(), VoiceError> {
        self.0.write_silence(samples)
    }
}

/// A draft for audio of which nothing else is left: it is better found without a name than lost.
fn unknown_call(recordingid: RecordingId) -> Draft {
    let opened = recordingid.0.get_timestamp().map_or(0, |time| time.to_unix().0);
    let opened = WallTime::from_millis(i64::try_from(opened).unwrap_or(0).saturating_mul(1000));
    Draft {
        recordingid,
        node: NodeId(0),
        copy: 1,
        scope: Scope::Station,
        trigger: TriggerKind::Rule,
        rule: String::new(),
        ucid: None,
        formerucids: Vec::new(),
        callids: Vec::new(),
        extension: Extension::new(""),
        agentid: String::new(),
        calling: String::new(),
        called: String::new(),
        direction: Direction::Inbound,
        trunkgroup: String::new(),
        trunkmember: String::new(),
        vdn: String::new(),
        split: String::new(),
        userdata: String::new(),
        parties: Vec::new(),
        opened,
        ended: Some(opened),
        pauses: Vec::new(),
    }
}
