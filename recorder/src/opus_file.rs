//! Ogg Opus voice files (RFC 6716, RFC 7845): encodes 8 kHz speech, mono or stereo, and frames it into pages
//! of a second, so that a file cut anywhere plays up to its last whole page. The same samples
//! give the same bytes. What is in the file is decided elsewhere.

use ogg::writing::{PacketWriteEndInfo, PacketWriter};
use opus::{Application, Bitrate, Encoder, Signal};
use storage::wav::Channels;
use storage::{EncodedWriter, FinishedVoice, VoiceError};
use storage_core::RecordingId;
use storage_core::g711::Law;

const SAMPLE_RATE: u32 = 8000;
/// 20 ms.
pub(crate) const FRAME_SAMPLES: usize = 160;
/// Granule positions count samples of 48 kHz, whatever the input's rate (RFC 7845, 4).
pub(crate) const GRANULES_PER_SAMPLE: u64 = 6;
/// A page ends with each second.
pub(crate) const FRAMES_PER_PAGE: u64 = 50;
/// 1275 bytes are the longest Opus frame (RFC 6716, 3.4).
const PACKET_BYTES_MAX: usize = 1275;
/// Beyond this the encoder takes much more time and gains little on telephone speech.
const COMPLEXITY: i32 = 5;
const VENDOR: &str = concat!("AstLogger ", env!("CARGO_PKG_VERSION"));

/// Why an Opus file was not written.
#[derive(Debug, thiserror::Error)]
pub enum OpusError {
    /// The encoder refused.
    #[error("the Opus encoder failed")]
    Encoder(#[from] opus::Error),
    /// A page could not be made; memory is all that it needs.
    #[error("an Ogg page could not be made")]
    Page(#[from] std::io::Error),
    /// The file cannot be written.
    #[error(transparent)]
    Voice(#[from] VoiceError),
}

/// Writes one file. Samples of two channels are given in turn, the left one first.
pub struct OpusFile {
    file: EncodedWriter,
    encoder: Encoder,
    pages: PacketWriter<'static, Vec<u8>>,
    serial: u32,
    channels: Channels,
    pre_skip: u64,
    /// Samples given, of all channels.
    samples: u64,
    /// Samples that are not encoded yet.
    frame: Vec<i16>,
    /// The packet encoded last. It is kept until it is known whether it ends the stream.
    last: Option<Vec<u8>>,
    /// Packets encoded, the last one included.
    frames: u64,
}

impl OpusFile {
    /// Begins a file that says so much of itself in its comments.
    ///
    /// # Errors
    /// [`OpusError`]; in all methods here.
    pub fn create(
        file: EncodedWriter,
        id: RecordingId,
        channels: Channels,
        bitrate: u32,
        comments: &[(&str, String)],
    ) -> Result<Self, OpusError> {
        let mut encoder = encoder(channels, bitrate)?;
        let pre_skip = pre_skip(&mut encoder)?;
        let mut opus = Self {
            file,
            encoder,
            pages: PacketWriter::new(Vec::new()),
            serial: serial(id),
            channels,
            pre_skip,
            samples: 0,
            frame: Vec::new(),
            last: None,
            frames: 0,
        };
        opus.page(head(channels, pre_skip), PacketWriteEndInfo::EndPage, 0)?;
        opus.page(tags(comments), PacketWriteEndInfo::EndPage, 0)?;
        Ok(opus)
    }

    /// Adds G.711 samples.
    ///
    /// # Errors
    /// [`OpusError`].
    pub fn write_g711(&mut self, law: Law, samples: &[u8]) -> Result<(), OpusError> {
        self.samples += samples.len() as u64;
        samples.iter().try_for_each(|byte| self.push(law.decode(*byte)))
    }

    /// Adds linear samples.
    ///
    /// # Errors
    /// [`OpusError`].
    pub fn write_pcm(&mut self, samples: &[i16]) -> Result<(), OpusError> {
        self.samples += samples.len() as u64;
        samples.iter().try_for_each(|sample| self.push(*sample))
    }

    /// Adds so many samples of silence, of all channels together.
    ///
    /// # Errors
    /// [`OpusError`].
    pub fn write_silence(&mut self, samples: u64) -> Result<(), OpusError> {
        self.samples += samples;
        (0..samples).try_for_each(|_| self.push(0))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// [`OpusError`].
    pub fn finish(mut self) -> Result<FinishedVoice, OpusError> {
        // The last sample is out of the decoder only after the encoder's look-ahead.
        let samples = self.samples / u64::from(self.channels.count());
        let end = self.pre_skip + samples * GRANULES_PER_SAMPLE;
        while !self.frame.is_empty() || self.granule() < end || self.last.is_none() {
            self.push(0)?;
        }
        if let Some(packet) = self.last.take() {
            // Fewer than the packets hold: the decoder cuts the rest (RFC 7845, 4.4).
            self.page(packet, PacketWriteEndInfo::EndStream, end)?;
        }
        Ok(self.file.finish()?)
    }

    fn push(&mut self, sample: i16) -> Result<(), OpusError> {
        self.frame.push(sample);
        if self.frame.len() == FRAME_SAMPLES * usize::from(self.channels.count()) {
            self.encode()?;
            self.frame.clear();
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<(), OpusError> {
        let mut packet = self.encoder.encode_vec(&self.frame, PACKET_BYTES_MAX)?;
        packet.shrink_to_fit();
        if let Some(before) = self.last.take() {
            let whole = self.frames.is_multiple_of(FRAMES_PER_PAGE);
            let end =
                if whole { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
            self.page(before, end, self.granule())?;
        }
        self.last = Some(packet);
        self.frames += 1;
        Ok(())
    }

    /// Position after the last packet encoded.
    fn granule(&self) -> u64 {
        self.frames * FRAME_SAMPLES as u64 * GRANULES_PER_SAMPLE
    }

    fn page(
        &mut self,
        packet: Vec<u8>,
        end: PacketWriteEndInfo,
        granule: u64,
    ) -> Result<(), OpusError> {
        self.pages.write_packet(packet, self.serial, end, granule)?;
        self.file.write(self.pages.inner())?;
        self.pages.inner_mut().clear();
        Ok(())
    }
}

/// An encoder of 8 kHz speech.
pub(crate) fn encoder(channels: Channels, bitrate: u32) -> Result<Encoder, opus::Error> {
    let mut encoder = Encoder::new(SAMPLE_RATE, opus_channels(channels), Application::Voip)?;
    encoder.set_bitrate(Bitrate::Bits(i32::try_from(bitrate).unwrap_or(i32::MAX)))?;
    encoder.set_complexity(COMPLEXITY)?;
    encoder.set_signal(Signal::Voice)?;
    Ok(encoder)
}

/// What a decoder leaves out at the begin: the encoder's look-ahead, in granules.
pub(crate) fn pre_skip(encoder: &mut Encoder) -> Result<u64, opus::Error> {
    let lookahead = u64::try_from(encoder.get_lookahead()?).unwrap_or(0);
    Ok(lookahead * GRANULES_PER_SAMPLE)
}

/// The number of a recording's stream.
pub(crate) const fn serial(id: RecordingId) -> u32 {
    let [.., a, b, c, d] = *id.0.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// As the codec counts them.
pub(crate) const fn opus_channels(channels: Channels) -> opus::Channels {
    match channels {
        Channels::Mono => opus::Channels::Mono,
        Channels::Stereo => opus::Channels::Stereo,
    }
}

/// Identification header (RFC 7845, 5.1).
pub(crate) fn head(channels: Channels, pre_skip: u64) -> Vec<u8> {
    let pre_skip = u16::try_from(pre_skip).unwrap_or(u16::MAX);
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels.count().to_le_bytes()[0]);
    head.extend_from_slice(&pre_skip.to_le_bytes());
    head.extend_from_slice(&SAMPLE_RATE.to_le_bytes());
    // No gain; one stream, of which two channels are coupled.
    head.extend_from_slice(&[0, 0, 0]);
    head
}

/// Comment header (RFC 7845, 5.2).
pub(crate) fn tags(comments: &[(&str, String)]) -> Vec<u8> {
    let mut tags = b"OpusTags".to_vec();
    // Each is far shorter than a page.
    let count = |length: usize| u32::try_from(length).unwrap_or(0).to_le_bytes();
    tags.extend_from_slice(&count(VENDOR.len()));
    tags.extend_from_slice(VENDOR.as_bytes());
    tags.extend_from_slice(&count(comments.len()));
    for (name, value) in comments {
        let comment = format!("{name}={value}");
        tags.extend_from_slice(&count(comment.len()));
        tags.extend_from_slice(comment.as_bytes());
    }
    tags
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ogg::reading::PacketReader;
    use opus::Decoder;
    use storage::VoiceStore;
    use storage_core::WallTime;
    use storage_core::record::VoiceFormat;

    use super::*;

    #[test]
    fn what_is_known_of_the_call_is_in_the_comments() {
        let (_, path, _dir) = written(&tone(8_000), 0);
        let arguments = ["-v", "error", "-show_entries", "stream_tags=UCID", "-of", "csv=p=0"];
        let probe = std::process::Command::new("ffprobe").args(arguments).arg(path).output();
        let Ok(output) = probe else { return eprintln!("no ffprobe here: not judged") };
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1");
    }

    /// A tone of 500 Hz.
    fn tone(samples: usize) -> Vec<i16> {
        let step = std::f64::consts::TAU * 500.0 / f64::from(SAMPLE_RATE);
        (0..samples).map(|n| ((n as f64 * step).sin() * 8000.0) as i16).collect()
    }

    fn written(samples: &[i16], silence: u64) -> (Vec<u8>, std::path::PathBuf, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store = VoiceStore::open(dir.path()).unwrap();
        let id = RecordingId::new(WallTime::from_millis(1_700_000_000_000), [3; 10]);
        let file = store.write_encoded(id, VoiceFormat::Opus).unwrap();
        let mut opus =
            OpusFile::create(file, id, Channels::Mono, 24_000, &[("UCID", "1".to_owned())])
                .unwrap();
        let bytes: Vec<u8> = samples.iter().map(|sample| Law::A.encode(*sample)).collect();
        // Pieces of any length.
        for piece in bytes.chunks(97) {
            opus.write_g711(Law::A, piece).unwrap();
        }
        opus.write_silence(silence).unwrap();
        let finished = opus.finish().unwrap();
        let path = dir.path().join(storage_core::naming::sealing_voice_file(id, VoiceFormat::Opus));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(finished.bytes, bytes.len() as u64);
        (bytes, path, dir)
    }

    /// What a player hears, by the rules of RFC 7845: without pre-skip and what is cut at the end.
    fn played(bytes: &[u8]) -> Vec<i16> {
        let mut reader = PacketReader::new(Cursor::new(bytes));
        let head = reader.read_packet_expected().unwrap();
        assert!(head.first_in_stream() && head.data.starts_with(b"OpusHead"));
        let pre_skip = usize::from(u16::from_le_bytes([head.data[10], head.data[11]])) / 6;
        assert!(reader.read_packet_expected().unwrap().data.starts_with(b"OpusTags"));
        let mut decoder = Decoder::new(SAMPLE_RATE, opus::Channels::Mono).unwrap();
        let (mut samples, mut end, mut ended) = (Vec::new(), 0, false);
        while let Some(packet) = reader.read_packet().unwrap() {
            let mut frame = [0; FRAME_SAMPLES];
            let count = decoder.decode(&packet.data, &mut frame, false).unwrap();
            samples.extend_from_slice(&frame[..count]);
            end = usize::try_from(packet.absgp_page()).unwrap() / 6;
            ended = packet.last_in_stream();
        }
        assert!(ended && samples.len() >= end);
        samples[pre_skip..end].to_vec()
    }

    #[test]
    fn a_player_hears_every_sample_in_its_place() {
        for samples in [1, 159, 160, 8_000 - 53, 20_000] {
            let sent = tone(samples);
            let (bytes, _, _dir) = written(&sent, 0);
            let heard = played(&bytes);
            assert_eq!(heard.len(), samples);
            if samples > 1_000 {
                let error: f64 = sent.iter().zip(&heard).map(|(a, b)| distance(*a, *b)).sum();
                let signal: f64 = sent.iter().map(|a| distance(*a, 0)).sum();
                assert!(error < signal / 20.0, "noise {error} in {signal}: not in its place");
            }
        }
    }

    fn distance(a: i16, b: i16) -> f64 {
        (f64::from(a) - f64::from(b)).powi(2)
    }

    #[test]
    fn the_same_samples_give_the_same_file_and_a_cut_one_plays_up_to_the_cut() {
        let (bytes, _, _dir) = written(&tone(40_000), 8_000);
        assert_eq!(bytes, written(&tone(40_000), 8_000).0);
        let mut reader = PacketReader::new(Cursor::new(&bytes[..bytes.len() / 2]));
        let mut packets = 0;
        while let Ok(Some(_)) = reader.read_packet() {
            packets += 1;
        }
        assert!(packets > 100, "{packets} packets of 300 in half of the file");
    }

    #[test]
    fn ffprobe_sees_six_seconds() {
        let (_, path, _dir) = written(&tone(40_000), 8_000);
        let arguments = ["-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"];
        let output = std::process::Command::new("ffprobe").args(arguments).arg(path).output();
        let Ok(output) = output else { return };
        let said = String::from_utf8_lossy(&output.stdout);
        // ffprobe counts the pre-skip of 6.5 ms.
        assert!(said.starts_with("6.00"), "{said}");
    }

    #[test]
    fn two_channels_are_heard_apart_by_another_player() {
        let dir = tempfile::tempdir().unwrap();
        let store = VoiceStore::open(dir.path()).unwrap();
        let id = RecordingId::new(WallTime::from_millis(1_700_000_000_000), [3; 10]);
        let file = store.write_encoded(id, VoiceFormat::Opus).unwrap();
        let mut opus = OpusFile::create(file, id, Channels::Stereo, 32_000, &[]).unwrap();
        // A second on the left, then a second on the right.
        let one = tone(8_000);
        let both = one.iter().map(|s| [*s, 0]).chain(one.iter().map(|s| [0, *s]));
        opus.write_pcm(&both.flatten().collect::<Vec<i16>>()).unwrap();
        opus.finish().unwrap();
        let path = dir.path().join(storage_core::naming::sealing_voice_file(id, VoiceFormat::Opus));
        let info = std::process::Command::new("opusinfo").arg(&path).output();
        if let Ok(info) = info {
            let said = String::from_utf8_lossy(&info.stdout);
            assert!(said.contains("Channels: 2") && !said.contains("WARNING"), "{said}");
        }
        let arguments = ["-ar", "8000", "-f", "s16le", "-"];
        let mut ffmpeg = std::process::Command::new("ffmpeg");
        let played = ffmpeg.args(["-v", "error", "-i"]).arg(&path).args(arguments).output();
        let Ok(output) = played else { return eprintln!("no ffmpeg here: not judged") };
        let samples: Vec<i16> = output
            .stdout
            .chunks_exact(2)
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect();
        assert!(samples.len().abs_diff(32_000) <= 16, "{}", samples.len());
        let power = |channel: usize, from: usize| -> f64 {
            let of_it = samples.iter().skip(channel).step_by(2).skip(from).take(7_000);
            of_it.map(|sample| distance(*sample, 0)).sum()
        };
        for (loud, from) in [(0, 500), (1, 8_500)] {
            let ratio = power(loud, from) / power(1 - loud, from).max(1.0);
            assert!(ratio > 30.0, "channel {loud} is {ratio:.1} times as loud");
        }
    }
}
