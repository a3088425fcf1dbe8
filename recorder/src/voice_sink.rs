//! Voice files as the renderer writes them: of one channel or of two, in any form, and judged by how they
//! sound on the way. What is in them is the plan's decision, where they come to lie the store's.

use recorder_core::media::{
    Coded, Fades, Heard, Part, Piece, Plan, Sound, Stereo, VoiceSink, Weave,
};
use storage::wav::Channels;
use storage::{FinishedVoice, VoiceForm, VoiceStore, VoiceWriter};
use storage_core::Recording;
use storage_core::g711::Law;
use storage_core::record::VoiceFormat;

use crate::decode::Decoders;
use crate::sealing::{SealError, VoiceSettings};

/// A voice file, whatever its form.
pub(crate) enum Voice {
    Wav(Box<VoiceWriter>),
    #[cfg(feature = "opus")]
    Opus(Box<crate::opus_file::OpusFile>),
}

impl Voice {
    /// Begins one of so many samples a channel; `law` is that of a G.711 file.
    pub(crate) fn create(
        store: &VoiceStore,
        settings: VoiceSettings,
        record: &Recording,
        (channels, samples): (Channels, u64),
        law: Law,
    ) -> Result<Self, SealError> {
        let form = match settings.format {
            VoiceFormat::WavG711 => VoiceForm::G711(law),
            VoiceFormat::Wav => VoiceForm::Pcm,
            VoiceFormat::Opus => {
                return Self::opus(store, record, channels, settings.opus_bitrate);
            }
        };
        Ok(Self::Wav(Box::new(store.write(record.recordingid, form, channels, samples)?)))
    }

    #[cfg(feature = "opus")]
    fn opus(
        store: &VoiceStore,
        record: &Recording,
        channels: Channels,
        bitrate: u32,
    ) -> Result<Self, SealError> {
        use crate::opus_file::OpusFile;
        let id = record.recordingid;
        let file = store.write_encoded(id, VoiceFormat::Opus)?;
        let opus = OpusFile::create(file, id, channels, bitrate, &comments(record))?;
        Ok(Self::Opus(Box::new(opus)))
    }

    #[cfg(not(feature = "opus"))]
    fn opus(_: &VoiceStore, _: &Recording, _: Channels, _: u32) -> Result<Self, SealError> {
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

/// What a file that is passed on alone should say of itself; what is unknown is left out.
#[cfg(feature = "opus")]
fn comments(record: &Recording) -> Vec<(&'static str, String)> {
    let ucid = record.ucid.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut comments = vec![
        ("DATE", record.started.to_string()),
        ("RECORDINGID", record.recordingid.to_string()),
        ("UCID", ucid),
        ("EXTENSION", record.extension.to_string()),
        ("AGENTID", record.agentid.to_string()),
        ("CALLING", record.calling.clone()),
        ("CALLED", record.called.clone()),
    ];
    comments.retain(|(_, value)| !value.is_empty());
    comments
}

/// A voice file of one channel, judged while it is written.
pub(crate) struct MonoVoice<'p> {
    voice: Voice,
    sound: Sound<'p>,
    decoders: Decoders,
    fades: Fades<'p>,
}

impl<'p> MonoVoice<'p> {
    pub(crate) fn new(voice: Voice, plan: &'p Plan) -> Self {
        let (sound, decoders) = (Sound::new(&plan.gaps), Decoders::default());
        Self { voice, sound, decoders, fades: Fades::new(plan) }
    }

    /// Linear samples.
    pub(crate) fn linear(&mut self, samples: &[i16]) -> Result<(), SealError> {
        let Self { voice, sound, fades, .. } = self;
        write_linear((voice, sound, fades), samples)
    }

    /// The file, and how it sounds.
    pub(crate) fn finish(self) -> Result<(FinishedVoice, Heard), SealError> {
        Ok((self.voice.finish()?, self.sound.heard()))
    }
}

/// Writes linear samples, but for those that lead from one capture over to another.
fn write_linear(
    (voice, sound, fades): (&mut Voice, &mut Sound<'_>, &mut Fades<'_>),
    mut samples: &[i16],
) -> Result<(), SealError> {
    while let Some(part) = fades.next(samples.len()) {
        let (written, rest) = match part {
            Part::Kept(count) => samples.split_at(count),
            Part::Replaced(with) => (with, &samples[with.len()..]),
        };
        sound.linear(written);
        voice.linear(written)?;
        samples = rest;
    }
    Ok(())
}

impl VoiceSink for MonoVoice<'_> {
    type Error = SealError;

    fn audio(&mut self, law: Law, mut samples: &[u8]) -> Result<(), SealError> {
        while let Some(part) = self.fades.next(samples.len()) {
            match part {
                Part::Kept(count) => {
                    let (kept, rest) = samples.split_at(count);
                    self.sound.audio(law, kept);
                    self.voice.audio(law, kept)?;
                    samples = rest;
                }
                Part::Replaced(with) => {
                    self.sound.linear(with);
                    self.voice.linear(with)?;
                    samples = &samples[with.len()..];
                }
            }
        }
        Ok(())
    }

    fn coded(&mut self, packet: Coded<'_>) -> Result<(), SealError> {
        let Self { voice, sound, decoders, fades } = self;
        write_linear((voice, sound, fades), decoders.decode(&packet))
    }

    fn silence(&mut self, samples: u64) -> Result<(), SealError> {
        self.fades.silence(samples);
        self.sound.silence(samples);
        self.voice.silence(samples)
    }
}

impl Voice {
    fn audio(&mut self, law: Law, samples: &[u8]) -> Result<(), SealError> {
        match self {
            Self::Wav(writer) => Ok(writer.write_g711(law, samples)?),
            #[cfg(feature = "opus")]
            Self::Opus(file) => Ok(file.write_g711(law, samples)?),
        }
    }

    fn linear(&mut self, samples: &[i16]) -> Result<(), SealError> {
        match self {
            Self::Wav(writer) => Ok(writer.write_pcm(samples)?),
            #[cfg(feature = "opus")]
            Self::Opus(file) => Ok(file.write_pcm(samples)?),
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

/// A voice file of two channels, judged while it is written: each side by itself, and the louder of
/// the two at any moment for both.
pub(crate) struct StereoVoice<'p> {
    voice: Voice,
    lanes: Lanes,
    sides: [Listener<'p>; 2],
    both: Both<'p>,
}

/// How both sides together sound.
struct Both<'p> {
    sound: Sound<'p>,
    /// Linear samples of what is written, the louder of each two.
    louder: Vec<i16>,
}

impl Both<'_> {
    /// Writes what is woven, and listens to it.
    fn take<T: Copy>(
        &mut self,
        voice: &mut Voice,
        weave: &mut Weave<T>,
        linear: impl Fn(T) -> i16,
        write: impl Fn(&mut Voice, &[T]) -> Result<(), SealError>,
    ) -> Result<(), SealError> {
        while let Some(piece) = weave.take() {
            match piece {
                Piece::Samples(samples) => {
                    let louder = samples.chunks_exact(2).map(|pair| {
                        let (left, right) = (linear(pair[0]), linear(pair[1]));
                        if left.unsigned_abs() < right.unsigned_abs() { right } else { left }
                    });
                    self.louder.clear();
                    self.louder.extend(louder);
                    self.sound.linear(&self.louder);
                    write(voice, samples)?;
                }
                Piece::Silence(samples) => {
                    self.sound.silence(samples);
                    voice.silence(samples * 2)?;
                }
            }
        }
        Ok(())
    }
}

/// A side's sound and decoders.
struct Listener<'p> {
    sound: Sound<'p>,
    decoders: Decoders,
}

/// What was rendered and not yet written, in the file's form.
enum Lanes {
    G711(Law, Weave<u8>),
    Linear(Weave<i16>),
}

impl<'p> StereoVoice<'p> {
    pub(crate) fn new(voice: Voice, settings: VoiceSettings, law: Law, stereo: &'p Stereo) -> Self {
        let lanes = match settings.format {
            VoiceFormat::WavG711 => Lanes::G711(law, Weave::new(law.silence())),
            VoiceFormat::Wav | VoiceFormat::Opus => Lanes::Linear(Weave::new(0)),
        };
        let listener = |plan: &'p Plan| Listener {
            sound: Sound::new(&plan.gaps),
            decoders: Decoders::default(),
        };
        let sides = stereo.sides().each_ref().map(listener);
        let both = Both { sound: Sound::new(&stereo.whole().gaps), louder: Vec::new() };
        Self { voice, lanes, sides, both }
    }

    /// Where the audio of one side goes: 0 is the left channel.
    pub(crate) fn side(&mut self, number: usize) -> SideOf<'_, 'p> {
        let Self { lanes, sides, .. } = self;
        let number = number & 1;
        SideOf { number, lanes, listener: &mut sides[number] }
    }

    /// Writes what both sides have come to.
    pub(crate) fn weave(&mut self) -> Result<(), SealError> {
        let Self { voice, lanes, both, .. } = self;
        match lanes {
            Lanes::G711(law, weave) => {
                let law = *law;
                both.take(voice, weave, |byte| law.decode(byte), |v, bytes| v.audio(law, bytes))
            }
            Lanes::Linear(weave) => both.take(voice, weave, |sample| sample, Voice::linear),
        }
    }

    /// The file, how it sounds, and whether one side is silent throughout.
    pub(crate) fn finish(self) -> Result<(FinishedVoice, Heard, Option<bool>), SealError> {
        let [agent, others] = self.sides.map(|side| side.sound.heard());
        let one_way = agent.one_way(&others);
        Ok((self.voice.finish()?, self.both.sound.heard(), one_way))
    }
}

/// One side of a voice file of two channels.
pub(crate) struct SideOf<'v, 'p> {
    number: usize,
    lanes: &'v mut Lanes,
    listener: &'v mut Listener<'p>,
}

impl VoiceSink for SideOf<'_, '_> {
    type Error = SealError;

    fn audio(&mut self, law: Law, samples: &[u8]) -> Result<(), SealError> {
        self.listener.sound.audio(law, samples);
        let bytes = samples.iter();
        match self.lanes {
            Lanes::G711(own, weave) if *own == law => weave.samples(self.number, bytes.copied()),
            Lanes::G711(own, weave) => {
                weave.samples(self.number, bytes.map(|byte| own.encode(law.decode(*byte))));
            }
            Lanes::Linear(weave) => weave.samples(self.number, bytes.map(|byte| law.decode(*byte))),
        }
        Ok(())
    }

    fn coded(&mut self, packet: Coded<'_>) -> Result<(), SealError> {
        let samples = self.listener.decoders.decode(&packet);
        self.listener.sound.linear(samples);
        let samples = samples.iter();
        match self.lanes {
            Lanes::G711(own, weave) => {
                weave.samples(self.number, samples.map(|sample| own.encode(*sample)));
            }
            Lanes::Linear(weave) => weave.samples(self.number, samples.copied()),
        }
        Ok(())
    }

    fn silence(&mut self, samples: u64) -> Result<(), SealError> {
        self.listener.sound.silence(samples);
        match self.lanes {
            Lanes::G711(_, weave) => weave.silence(self.number, samples),
            Lanes::Linear(weave) => weave.silence(self.number, samples),
        }
        Ok(())
    }
}
