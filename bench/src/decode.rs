//! `decode`: what the sealer pays for a codec: a minute of noise in packets of 20 ms, through the
//! recorder's decoders and, as the reference, through G.711's table. Noise costs what speech costs:
//! none of these decoders looks at what it decodes.

use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use recorder::decode::Decoders;
use recorder_core::media::{Codec, Coded};
use storage_core::g711::Law;

use crate::kernel;
use crate::stats::median;
use crate::table::Table;

/// Samples of a packet: 20 ms.
const SAMPLES: u16 = 160;
/// Packets of a minute.
const PACKETS: usize = 3_000;

/// What is measured.
#[derive(Debug, Parser)]
pub struct Options {
    /// Rounds; medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Processor to work on.
    #[arg(long, default_value_t = 1)]
    processor: usize,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    kernel::pin(options.processor)?;
    let mut table = Table::new(["codec", "× real time"]);
    for (codec, bytes) in CODECS {
        let stream = noise(bytes * PACKETS);
        let times = (0..options.rounds.max(1)).map(|_| seconds(codec, bytes, &stream));
        let factor = 60.0 / median(times).unwrap_or(f64::NAN);
        table.row(vec![codec.name().to_owned(), format!("{factor:.0}")]);
    }
    println!("\nDecoding (medians of {} rounds)\n\n{table}", options.rounds.max(1));
    Ok(())
}

/// Each with its bytes in 20 ms.
const CODECS: [(Codec, usize); 4] =
    [(Codec::G711(Law::A), 160), (Codec::L16, 320), (Codec::G722, 160), (Codec::G729, 20)];

/// Seconds that a minute takes.
fn seconds(codec: Codec, bytes: usize, stream: &[u8]) -> f64 {
    let mut decoders = Decoders::default();
    let begun = Instant::now();
    let mut sum = 0_i64;
    for (number, payload) in stream.chunks_exact(bytes).enumerate() {
        let packet = Coded { codec, payload, fresh: number == 0, skip: 0, take: SAMPLES };
        sum += decoders.decode(&packet).iter().map(|sample| i64::from(*sample)).sum::<i64>();
    }
    std::hint::black_box(sum);
    begun.elapsed().as_secs_f64()
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..bytes).map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_codec_is_decoded() {
        for (codec, bytes) in CODECS {
            assert!(seconds(codec, bytes, &noise(bytes * 10)) > 0.0, "{codec:?}");
        }
    }
}
