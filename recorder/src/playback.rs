//! A recording's audio as somebody asks for it: what [`storage::Fetch`] gives without decoding,
//! Opus played as linear WAV, and everything else encoded as Opus. Any range in any order gives the same bytes. How fast it goes out, and
//! to how many at once, is the caller's matter.

use std::io;

use storage::{Fetch, FetchError, FetchFormat, VoiceStore};
use storage_core::Recording;
use storage_core::record::VoiceFormat;

#[cfg(feature = "opus")]
use crate::opus_wav::OpusWav;
#[cfg(feature = "opus")]
use crate::wav_opus::WavOpus;

/// Audio that can be read.
pub struct Playback(Form);

enum Form {
    Plain(Fetch),
    #[cfg(feature = "opus")]
    Decoded(Box<OpusWav>),
    #[cfg(feature = "opus")]
    Encoded(Box<WavOpus>),
}

impl Playback {
    /// Whether a form can be had of a voice file of this one.
    #[must_use]
    pub fn is_had_of(wanted: FetchFormat, lies: VoiceFormat) -> bool {
        cfg!(feature = "opus") || wanted.is_had_of(lies)
    }

    /// Opens a recording's audio.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn open(
        store: &VoiceStore,
        record: &Recording,
        wanted: FetchFormat,
    ) -> Result<Self, FetchError> {
        #[cfg(feature = "opus")]
        match (wanted, record.format) {
            (FetchFormat::Wav, VoiceFormat::Opus) => {
                let fetch = Fetch::open(store, record, FetchFormat::Original)?;
                return Ok(Self(Form::Decoded(Box::new(OpusWav::open(fetch)?))));
            }
            (FetchFormat::Opus, VoiceFormat::Wav | VoiceFormat::WavG711) => {
                let fetch = Fetch::open(store, record, FetchFormat::Wav)?;
                let opus = WavOpus::open(fetch, record.recordingid)?;
                return Ok(Self(Form::Encoded(Box::new(opus))));
            }
            _ => {}
        }
        Fetch::open(store, record, wanted).map(Form::Plain).map(Self)
    }

    /// Length of the whole audio in the form that was asked for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            Form::Plain(fetch) => fetch.bytes(),
            #[cfg(feature = "opus")]
            Form::Decoded(wav) => wav.bytes(),
            #[cfg(feature = "opus")]
            Form::Encoded(opus) => opus.bytes(),
        }
    }

    /// SHA-256 of the whole, lower-case hex, where it can be had without playing everything.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn sha256(&self) -> io::Result<Option<String>> {
        match &self.0 {
            Form::Plain(fetch) => fetch.sha256().map(Some),
            #[cfg(feature = "opus")]
            Form::Decoded(_) | Form::Encoded(_) => Ok(None),
        }
    }

    /// Fills `piece` from `offset` on, and tells how many bytes that were: fewer than there is
    /// room for only at the end.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read_at(&mut self, piece: &mut [u8], offset: u64) -> io::Result<usize> {
        match &mut self.0 {
            Form::Plain(fetch) => fetch.read_at(piece, offset),
            #[cfg(feature = "opus")]
            Form::Decoded(wav) => wav.read_at(piece, offset),
            #[cfg(feature = "opus")]
            Form::Encoded(opus) => opus.read_at(piece, offset),
        }
    }
}

#[cfg(all(test, feature = "opus"))]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;
    use storage::wav::PCM_HEADER_BYTES;

    use super::*;
    use crate::sealer::tests::published_tones;

    const SECONDS: usize = 75;

    fn whole(playback: &mut Playback, piece: usize) -> Vec<u8> {
        let mut wav = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            let count = playback.read_at(&mut buffer, wav.len() as u64).unwrap();
            if count == 0 {
                return wav;
            }
            wav.extend_from_slice(&buffer[..count]);
        }
    }

    #[test]
    fn opus_as_wav_is_what_another_player_hears() {
        let (_dir, store, record) = published_tones(SECONDS, VoiceFormat::Opus);
        let mut playback = Playback::open(&store, &record, FetchFormat::Wav).unwrap();
        let wav = whole(&mut playback, 65_536);
        assert_eq!(wav.len() as u64, playback.bytes());
        assert_eq!(wav.len(), PCM_HEADER_BYTES + SECONDS * 16_000);
        let reader = hound::WavReader::new(&wav[..]).unwrap();
        let ours: Vec<i16> = reader.into_samples().map(Result::unwrap).collect();
        let Some(theirs) = played_by_ffmpeg(&store.voice_path(&record)) else { return };
        assert!(theirs.len().abs_diff(ours.len()) <= 8, "{} {}", theirs.len(), ours.len());
        let ratio = likeness(&ours, &theirs);
        assert!(ratio > 12.0, "{ratio:.1} dB");
    }

    /// The samples that another player hears, at 8 kHz; `None` where there is none.
    fn played_by_ffmpeg(path: &std::path::Path) -> Option<Vec<i16>> {
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(path)
            .args(["-ar", "8000", "-ac", "1", "-f", "s16le", "-"])
            .output();
        let Ok(output) = output else {
            eprintln!("no ffmpeg here: not judged");
            return None;
        };
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        let pairs = output.stdout.chunks_exact(2);
        Some(pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect())
    }

    /// How far the signal stands above what another player hears otherwise, dB. It decodes at 48 kHz and resamples: a
    /// sample later, and not quite a whole one.
    fn likeness(ours: &[i16], theirs: &[i16]) -> f64 {
        let power = |sample: f64| sample * sample;
        let signal: f64 = ours.iter().map(|sample| power(f64::from(*sample))).sum();
        let pairs = ours.iter().zip(&theirs[1..]);
        let noise: f64 = pairs.map(|(a, b)| power(f64::from(*a) - f64::from(*b))).sum();
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn everything_is_had_as_opus_and_another_player_hears_it() {
        let (_dir, store, record) = published_tones(SECONDS, VoiceFormat::Opus);
        let sealed = played_by_ffmpeg(&store.voice_path(&record));
        for format in [VoiceFormat::WavG711, VoiceFormat::Wav] {
            let (dir, store, record) = published_tones(SECONDS, format);
            let mut linear = Playback::open(&store, &record, FetchFormat::Wav).unwrap();
            let wav = whole(&mut linear, 65_536);
            let pairs = wav[PCM_HEADER_BYTES..].chunks_exact(2);
            let said: Vec<i16> = pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
            let mut playback = Playback::open(&store, &record, FetchFormat::Opus).unwrap();
            let opus = whole(&mut playback, 65_536);
            assert_eq!(opus.len() as u64, playback.bytes());
            // 24 kbit/s, and what pages need.
            assert!(opus.len() < SECONDS * 3_100 + 400, "{}", opus.len());
            let path = dir.path().join("asked.opus");
            std::fs::write(&path, &opus).unwrap();
            if let Ok(info) = Command::new("opusinfo").arg(&path).output() {
                let told = String::from_utf8_lossy(&info.stdout);
                assert!(info.status.success() && !told.contains("WARNING"), "{told}");
                assert!(told.contains("Playback length: 1m:15.000s"), "{told}");
            }
            let Some(heard) = played_by_ffmpeg(&path) else { return };
            assert!(heard.len().abs_diff(said.len()) <= 8, "{} {}", heard.len(), said.len());
            // No worse than what is encoded in one go, of which no page is made by itself.
            let Some(sealed) = &sealed else { return };
            let (ratio, of_sealed) = (likeness(&said, &heard), likeness(&said, sealed));
            assert!(ratio > of_sealed - 1.0, "{ratio:.1} dB, and {of_sealed:.1} dB in one go");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn any_range_in_any_order_gives_the_same_bytes(
            ranges in proptest::collection::vec((0..=SECONDS * 16_000 + 100, 0..40_000_usize), 1..8),
        ) {
            for (lies, wanted) in
                [(VoiceFormat::Opus, FetchFormat::Wav), (VoiceFormat::WavG711, FetchFormat::Opus)]
            {
                let (_dir, store, record) = published_tones(SECONDS, lies);
                let mut playback = Playback::open(&store, &record, wanted).unwrap();
                let all = whole(&mut playback, 100_000);
                for (from, length) in &ranges {
                    // Opus is shorter.
                    let from = if wanted == FetchFormat::Opus { from / 5 } else { *from };
                    let mut piece = vec![0; *length];
                    let count = playback.read_at(&mut piece, from as u64).unwrap();
                    let from = from.min(all.len());
                    prop_assert_eq!(&piece[..count], &all[from..all.len().min(from + length)]);
                }
            }
        }
    }
}
