//! Decodes what is neither G.711 nor to be taken as it is: G.729 (ITU-T G.729, annex A decodes the
//! same frames), G.722 and Opus (RFC 6716), to linear samples at 8 kHz. Of G.722 the lower half of the band
//! is decoded.
//! Which packets, in which order and how much of each is the plan's decision.

use std::fmt;

use audio_codec::g722::{Bitrate, G722Decoder};
use oxideav_core::{Decoder, Frame, Packet, TimeBase};
use oxideav_g729::codec::G729Decoder;
use recorder_core::media::{Codec, Coded};

/// One decoder of each codec: where audio does not lead up to a packet, its codec's is made anew.
pub struct Decoders {
    g729: G729Decoder,
    g722: G722Decoder,
    #[cfg(feature = "opus")]
    opus: Option<opus::Decoder>,
    samples: Vec<i16>,
}

impl fmt::Debug for Decoders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoders").finish_non_exhaustive()
    }
}

impl Default for Decoders {
    fn default() -> Self {
        Self {
            g729: G729Decoder::new(),
            g722: g722(),
            #[cfg(feature = "opus")]
            opus: None,
            samples: Vec::new(),
        }
    }
}

impl Decoders {
    /// The samples of a packet that are wanted, exactly as many. What a decoder does not give is
    /// silence.
    pub fn decode(&mut self, packet: &Coded<'_>) -> &[i16] {
        let Coded { codec, payload, fresh, skip, take } = *packet;
        self.samples.clear();
        match codec {
            Codec::G711(law) => {
                self.samples.extend(payload.iter().map(|byte| law.decode(*byte)));
            }
            Codec::L16 => {
                let samples = payload.chunks_exact(2);
                self.samples.extend(samples.map(|pair| i16::from_be_bytes([pair[0], pair[1]])));
            }
            Codec::G729 => {
                if fresh {
                    self.g729 = G729Decoder::new();
                }
                self.g729(payload);
            }
            Codec::G722 => {
                if fresh {
                    self.g722 = g722();
                }
                self.g722(payload);
            }
            #[cfg(feature = "opus")]
            Codec::Opus => {
                if fresh {
                    self.opus = None;
                }
                self.opus(payload);
            }
            // Nothing is sealed that would need it.
            #[cfg(not(feature = "opus"))]
            Codec::Opus => {}
        }
        let (from, to) = (usize::from(skip), usize::from(skip) + usize::from(take));
        if self.samples.len() < to {
            tracing::debug!(codec = codec.name(), bytes = payload.len(), "packet not decoded");
            self.samples.resize(to, 0);
        }
        &self.samples[from..to]
    }

    fn g729(&mut self, payload: &[u8]) {
        // Two bytes at the end describe the silence that follows (annex B).
        let frames = payload.len() / FRAME_BYTES * FRAME_BYTES;
        let packet = Packet::new(0, TimeBase::new(1, 8000), payload[..frames].to_vec());
        if self.g729.send_packet(&packet).is_err() {
            return;
        }
        if let Ok(Frame::Audio(audio)) = self.g729.receive_frame() {
            let bytes = audio.data.iter().flatten().copied().collect::<Vec<u8>>();
            let samples = bytes.chunks_exact(2);
            self.samples.extend(samples.map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
        }
    }

    /// Both channels of a stereo packet are mixed.
    #[cfg(feature = "opus")]
    fn opus(&mut self, payload: &[u8]) {
        if self.opus.is_none() {
            self.opus = opus::Decoder::new(8_000, opus::Channels::Mono).ok();
        }
        let samples = usize::from(Codec::Opus.samples(payload));
        let Some(decoder) = self.opus.as_mut().filter(|_| samples > 0) else { return };
        self.samples.resize(samples, 0);
        let decoded = decoder.decode(payload, &mut self.samples, false).unwrap_or(0);
        self.samples.truncate(decoded);
    }

    fn g722(&mut self, payload: &[u8]) {
        self.samples.resize(payload.len(), 0);
        let decoded = self.g722.decode_frame_into(payload, &mut self.samples).unwrap_or(0);
        self.samples.truncate(decoded);
    }
}

const FRAME_BYTES: usize = recorder_core::media::payload::G729_FRAME_BYTES as usize;

fn g722() -> G722Decoder {
    // Not packed, at 8 kHz.
    G722Decoder::with_options(Bitrate::Mode1_64000, false, true)
}

#[cfg(test)]
mod tests;
