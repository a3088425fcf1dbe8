//! `srtp`: what encrypted media costs the media thread: packets of G.711 through the recorder's
//! decryption, beside what is done with plain ones, which is to look at their headers. Packets are
//! made by the simulated switch's own code before the clock runs.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use recorder_core::dmcc::{Dialect, Secret};
use recorder_core::media::srtp::{Arrival, Decryptor, Protection};
use recorder_core::media::{Intake, Verdict};
use simulator::{KeyText, media};
use storage_core::journal::Channel;
use storage_core::{MonoTime, SegmentId, WallTime};

use crate::kernel;
use crate::stats::median;
use crate::table::Table;

/// Packets of one round.
const PACKETS: u64 = 50_000;
/// As many are received with one system call.
const BATCH: usize = 32;

/// What is measured.
#[derive(Debug, Parser)]
pub struct Options {
    /// Rounds; medians are shown.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Processor to work on.
    #[arg(long, default_value_t = 1)]
    processor: usize,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    kernel::pin(options.processor)?;
    let rounds = options.rounds.max(1);
    let mut table = Table::new(["media", "ns a packet", "against plain"]);
    let mut plain = f64::NAN;
    for name in [None, Some("aes"), Some("srtp-aescm128-hmac80"), Some("srtp-aescm128-hmac32")] {
        let stream = Stream::new(name, PACKETS)?;
        let times: Result<Vec<f64>> = (0..rounds).map(|_| stream.nanoseconds()).collect();
        let time = median(times?).unwrap_or(f64::NAN);
        if name.is_none() {
            plain = time;
        }
        let ratio = format!("{:.1}", time / plain);
        table.row(vec![name.unwrap_or("plain").to_owned(), format!("{time:.0}"), ratio]);
    }
    println!("\nDecrypting (medians of {rounds} rounds of {PACKETS} packets)\n\n{table}");
    Ok(())
}

/// Packets of one stream, protected in this way if any, and how the recorder learns from the switch that
/// they are. The same for the same arguments.
pub fn made(name: Option<&str>, packets: u64) -> Result<(Vec<Vec<u8>>, Protection)> {
    let dialect = Dialect::default();
    let wire = dialect.encryption_to_wire(name.unwrap_or("none"));
    let made = media::made_stream(wire, packets);
    let (key, salt) = made.keys.map_or_else(Default::default, |protection| {
        let [_, receive] = protection.texts(KeyText::Hex);
        (receive.key, receive.salt)
    });
    let protection = dialect.protection(Some(wire), &Secret::new(key), &Secret::new(salt));
    ensure!(!matches!(protection, Protection::Unusable(_)), "{wire} is not understood");
    Ok((made.packets, protection))
}

/// One stream as it comes from the network.
struct Stream {
    packets: Vec<Vec<u8>>,
    protection: Protection,
}

impl Stream {
    fn new(name: Option<&str>, packets: u64) -> Result<Self> {
        let (packets, protection) = made(name, packets)?;
        Ok(Self { packets, protection })
    }

    /// Time of one packet, in batches as the media thread takes them.
    fn nanoseconds(&self) -> Result<f64> {
        let (now, wall) = (MonoTime::from_millis(1), WallTime::from_millis(1));
        let source = SocketAddr::from(([127, 0, 0, 1], 2050));
        let mut intake = Intake::default();
        intake.open(now, SegmentId(1));
        let mut decryptor = Decryptor::new(self.protection != Protection::Clear);
        decryptor.begin();
        decryptor.terms(now, wall, self.protection.clone()).context("usable keys")?;
        let mut kept = 0_usize;
        let mut judge = |bytes: &[u8]| {
            let verdict = intake.judge(now, Channel::Rtp, source, bytes);
            kept += usize::from(matches!(verdict, Verdict::Keep(_)));
        };
        let begun = Instant::now();
        for batch in self.packets.chunks(BATCH) {
            if decryptor.is_clear() {
                batch.iter().for_each(|packet| judge(packet));
                continue;
            }
            for bytes in batch {
                decryptor.take(now, Channel::Rtp, Arrival { at: wall, source, bytes });
            }
            decryptor.opened(Channel::Rtp).for_each(|arrival| judge(arrival.bytes));
            decryptor.clear_opened(Channel::Rtp);
        }
        let time = begun.elapsed().as_secs_f64() * 1e9;
        ensure!(kept == self.packets.len(), "{kept} of {} packets were kept", self.packets.len());
        Ok(time / kept as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_media_is_taken_whole() {
        for name in [None, Some("aes"), Some("srtp-aescm128-hmac80"), Some("srtp-aescm128-hmac32")]
        {
            assert!(Stream::new(name, 100).unwrap().nanoseconds().unwrap() > 0.0, "{name:?}");
        }
    }
}
