//! Seals one recording: reads its capture twice, writes the voice file, publishes it with its
//! record. It decides nothing about when, how often, or what to do after a failure.

use recorder_core::media::render::Pass;
use recorder_core::media::{Index, Plan, Render, RenderError, Unplaceable, VoiceSink, record};
use storage::{
    FinishedVoice, JournalError, JournalReader, VoiceError, VoiceForm, VoiceStore, VoiceWriter,
};
use storage_core::g711::Law;
use storage_core::journal::{Entry, Fact};
use storage_core::record::VoiceFormat;
use storage_core::{Draft, NodeId, Recording, RecordingId, WallTime};

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
    /// An Opus file cannot be made.
    #[cfg(feature = "opus")]
    #[error(transparent)]
    Opus(#[from] crate::opus_file::OpusError),
    /// This program cannot write Opus.
    #[cfg(not(feature = "opus"))]
    #[error("this program was built without Opus: choose another al_voiceformat")]
    NoOpus,
    /// The capture was another one at the second reading.
    #[error("the capture changed while it was read (packet {ordinal})")]
    Changed {
        /// Number of the packet in the order of capture.
        ordinal: u32,
    },
}

impl SealError {
    /// What the voice file said, if it was that.
    const fn voice(&self) -> Option<&VoiceError> {
        match self {
            Self::Voice(error) => Some(error),
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
            (None, other) => matches!(other, Self::Changed { .. }),
        }
    }
}

/// How voice files are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoiceSettings {
    /// `al_voiceformat`.
    pub format: VoiceFormat,
    /// `al_opusbitrate`, bits a second; without effect on other forms.
    pub opus_bitrate: u32,
}

impl Default for VoiceSettings {
    fn default() -> Self {
        Self { format: VoiceFormat::default(), opus_bitrate: 24_000 }
    }
}

impl From<VoiceFormat> for VoiceSettings {
    fn from(format: VoiceFormat) -> Self {
        Self { format, ..Self::default() }
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
    settings: impl Into<VoiceSettings>,
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
    let voice = write(capture, store, settings.into(), id, &plan)?;
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
    settings: VoiceSettings,
    id: RecordingId,
    plan: &Plan,
) -> Result<FinishedVoice, SealError> {
    let mut voice = Voice::create(store, settings, id, plan)?;
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
            return voice.finish();
        }
    }
}

fn render_error(error: RenderError<SealError>) -> SealError {
    match error {
        RenderError::Sink(error) => error,
        RenderError::Changed { ordinal } => SealError::Changed { ordinal },
    }
}

/// The voice file as the renderer sees it.
enum Voice {
    Wav(Box<VoiceWriter>),
    #[cfg(feature = "opus")]
    Opus(Box<crate::opus_file::OpusFile>),
}

impl Voice {
    fn create(
        store: &VoiceStore,
        settings: VoiceSettings,
        id: RecordingId,
        plan: &Plan,
    ) -> Result<Self, SealError> {
        let form = match settings.format {
            VoiceFormat::WavG711 => VoiceForm::G711(plan.law),
            VoiceFormat::Wav => VoiceForm::Pcm,
            VoiceFormat::Opus => return Self::opus(store, id, settings.opus_bitrate),
        };
        Ok(Self::Wav(Box::new(store.write(id, form, plan.total.0)?)))
    }

    #[cfg(feature = "opus")]
    fn opus(store: &VoiceStore, id: RecordingId, bitrate: u32) -> Result<Self, SealError> {
        use crate::opus_file::OpusFile;
        let file = store.write_encoded(id, VoiceFormat::Opus)?;
        Ok(Self::Opus(Box::new(OpusFile::create(file, id, bitrate)?)))
    }

    #[cfg(not(feature = "opus"))]
    fn opus(_: &VoiceStore, _: RecordingId, _: u32) -> Result<Self, SealError> {
        Err(SealError::NoOpus)
    }

    fn finish(self) -> Result<FinishedVoice, SealError> {
        match self {
            Self::Wav(writer) => Ok(writer.finish()?),
            #[cfg(feature = "opus")]
            Self::Opus(file) => Ok(file.finish()?),
        }
    }
}

impl VoiceSink for Voice {
    type Error = SealError;

    fn audio(&mut self, law: Law, samples: &[u8]) -> Result<(), SealError> {
        match self {
            Self::Wav(writer) => Ok(writer.write_g711(law, samples)?),
            #[cfg(feature = "opus")]
            Self::Opus(file) => Ok(file.write_g711(law, samples)?),
        }
    }

    fn silence(&mut self, samples: u64) -> Result<(), SealError> {
        match self {
            Self::Wav(writer) => Ok(writer.write_silence(samples)?),
            #[cfg(feature = "opus")]
            Self::Opus(file) => Ok(file.write_silence(samples)?),
        }
    }
}

/// A draft for audio of which nothing else is left: it is better found without a name than lost.
fn unknown_call(recordingid: RecordingId) -> Draft {
    let opened = recordingid.0.get_timestamp().map_or(0, |time| time.to_unix().0);
    let opened = WallTime::from_millis(i64::try_from(opened).unwrap_or(0).saturating_mul(1000));
    Draft { ended: Some(opened), cutshort: true, ..Draft::blank(recordingid, NodeId(0), opened) }
}
