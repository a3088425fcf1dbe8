//! A recording's audio as somebody asks for it: what [`storage::Fetch`] gives without decoding, and
//! Opus played as linear WAV. Any range in any order gives the same bytes. How fast it goes out, and
//! to how many at once, is the caller's matter.

use std::io;

use storage::{Fetch, FetchError, FetchFormat, VoiceStore};
use storage_core::Recording;

#[cfg(feature = "opus")]
use crate::opus_wav::OpusWav;

/// Audio that can be read.
pub struct Playback(Form);

enum Form {
    Plain(Fetch),
    #[cfg(feature = "opus")]
    Opus(Box<OpusWav>),
}

impl Playback {
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
        if wanted == FetchFormat::Wav && record.format == storage_core::record::VoiceFormat::Opus {
            let fetch = Fetch::open(store, record, FetchFormat::Original)?;
            return Ok(Self(Form::Opus(Box::new(OpusWav::open(fetch)?))));
        }
        Fetch::open(store, record, wanted).map(Form::Plain).map(Self)
    }

    /// Length of the whole audio in the form that was asked for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.0 {
            Form::Plain(fetch) => fetch.bytes(),
            #[cfg(feature = "opus")]
            Form::Opus(wav) => wav.bytes(),
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
            Form::Opus(_) => Ok(None),
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
            Form::Opus(wav) => wav.read_at(piece, offset),
        }
    }
}

#[cfg(all(test, feature = "opus"))]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;
    use storage::wav::PCM_HEADER_BYTES;
    use storage_core::record::VoiceFormat;

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
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(store.voice_path(&record))
            .args(["-ar", "8000", "-ac", "1", "-f", "s16le", "-"])
            .output();
        let Ok(output) = output else { return eprintln!("no ffmpeg here: not judged") };
        let theirs =
            output.stdout.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
        let theirs: Vec<i16> = theirs.collect();
        assert!(theirs.len().abs_diff(ours.len()) <= 8, "{} {}", theirs.len(), ours.len());
        let power = |sample: f64| sample * sample;
        let signal: f64 = ours.iter().map(|sample| power(f64::from(*sample))).sum();
        let noise = |lag: usize| -> f64 {
            let pairs = ours.iter().zip(&theirs[lag..]);
            pairs.map(|(a, b)| power(f64::from(*a) - f64::from(*b))).sum()
        };
        // It decodes at 48 kHz and resamples: a sample later, and not quite a whole one.
        let ratio = 10.0 * (signal / noise(1)).log10();
        assert!(ratio > 12.0, "{ratio:.1} dB");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn any_range_in_any_order_gives_the_same_bytes(
            ranges in proptest::collection::vec((0..=SECONDS * 16_000 + 100, 0..40_000_usize), 1..8),
        ) {
            let (_dir, store, record) = published_tones(SECONDS, VoiceFormat::Opus);
            let mut playback = Playback::open(&store, &record, FetchFormat::Wav).unwrap();
            let wav = whole(&mut playback, 100_000);
            for (from, length) in ranges {
                let mut piece = vec![0; length];
                let count = playback.read_at(&mut piece, from as u64).unwrap();
                let from = from.min(wav.len());
                prop_assert_eq!(&piece[..count], &wav[from..wav.len().min(from + length)]);
            }
        }
    }
}
