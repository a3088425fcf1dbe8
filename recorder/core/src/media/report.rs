//! What senders report of themselves (RTCP, RFC 3550, 6.4.1): how many packets they have sent. Sequence
//! numbers show what is missing between two packets that came; only reports show what is missing before
//! the first and after the last one. Other kinds of reports are not looked at.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::rtp::{MediaTime, RtpTime, Ssrc};
use super::run::{Indexed, Run};

/// Packet type of a sender report.
const SENDER_REPORT: u8 = 200;
/// Head, source, wall time, timestamp, and the counts of packets and bytes.
const SENDER_REPORT_BYTES: usize = 28;
/// So many senders of a segment are listened to.
const SENDERS_MAX: usize = 64;
/// A report's time is that of its sending: whether the packet of this moment is counted in it differs.
const UNCERTAIN_PACKETS: u64 = 2;

/// A sender's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SenderReport {
    pub ssrc: Ssrc,
    /// When it was sent, by the stream's clock.
    pub timestamp: RtpTime,
    /// Packets that it had sent since it took this name; wraps.
    pub packets: u32,
}

/// The sender reports of one datagram, which holds several reports one after the other (RFC 3550, 6.1).
pub(crate) fn sender_reports(datagram: &[u8]) -> impl Iterator<Item = SenderReport> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let head: [u8; 4] = *rest.first_chunk()?;
        let bytes = (usize::from(u16::from_be_bytes([head[2], head[3]])) + 1) * 4;
        let (report, after) = rest.split_at_checked(bytes).filter(|_| head[0] >> 6 == 2)?;
        rest = after;
        Some((head[1], report))
    })
    .filter(|(kind, report)| *kind == SENDER_REPORT && report.len() >= SENDER_REPORT_BYTES)
    .map(|(_, report)| {
        let number = |at: usize| {
            u32::from_be_bytes([report[at], report[at + 1], report[at + 2], report[at + 3]])
        };
        SenderReport { ssrc: Ssrc(number(4)), timestamp: RtpTime(number(16)), packets: number(20) }
    })
}

/// The reports that came to one segment's port: of each sender the first and the last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reports(BTreeMap<Ssrc, (SenderReport, SenderReport)>);

impl Reports {
    pub(crate) fn datagram(&mut self, datagram: &[u8]) {
        for report in sender_reports(datagram) {
            let room = self.0.len() < SENDERS_MAX;
            match self.0.entry(report.ssrc) {
                Entry::Occupied(mut known) => known.get_mut().1 = report,
                Entry::Vacant(new) if room => {
                    new.insert((report, report));
                }
                Entry::Vacant(_) => {}
            }
        }
    }

    /// Packets of a sender's only run, in order and each once, that it has counted between its first
    /// and its last report, and that neither came nor are missing by number.
    pub(crate) fn unseen(&self, ssrc: Ssrc, run: &Run) -> u64 {
        let Some((first, last)) = self.0.get(&ssrc) else { return 0 };
        let (Some(from), Some(to)) = (run.media(first.timestamp), run.media(last.timestamp)) else {
            return 0;
        };
        let past = |time: MediaTime| run.packets.partition_point(|p| p.time() <= time);
        let (first_past, last_past) = (past(from), past(to));
        let Some(between) = run.packets.get(first_past..last_past) else { return 0 };
        let numbers = |pick: fn(u32, u32) -> u32| between.iter().map(|p| p.seq).reduce(pick);
        // What is missing beside a packet that came is known by its number.
        let before = first_past.checked_sub(1).map(|index| run.packets[index].seq + 1);
        let after = run.packets.get(last_past).map(|packet| packet.seq - 1);
        let known = match (before.or(numbers(u32::min)), after.or(numbers(u32::max))) {
            (Some(lowest), Some(highest)) => u64::from(highest.saturating_sub(lowest)) + 1,
            _ => 0,
        };
        let sent = u64::from(last.packets.wrapping_sub(first.packets));
        let longest = to.0.saturating_sub(from.0) / u64::from(shortest_frame(between));
        // More than fit into the time is another counting than ours.
        if sent > longest + UNCERTAIN_PACKETS {
            return 0;
        }
        Some(sent.saturating_sub(known)).filter(|unseen| *unseen > UNCERTAIN_PACKETS).unwrap_or(0)
    }
}

/// How many samples lie between two packets of a row at least; a packet of 10 ms has 80.
fn shortest_frame(packets: &[Indexed]) -> u32 {
    let steps = packets.windows(2).filter(|pair| pair[1].seq == pair[0].seq.wrapping_add(1));
    steps.map(|pair| pair[1].ticks - pair[0].ticks).min().unwrap_or(0).max(80)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A report as a sender writes it, with one block of what it has received itself.
    pub(crate) fn report(ssrc: u32, timestamp: u32, packets: u32) -> Vec<u8> {
        let mut bytes = vec![0x81, SENDER_REPORT, 0, 12];
        bytes.extend(ssrc.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend(timestamp.to_be_bytes());
        bytes.extend(packets.to_be_bytes());
        bytes.extend((packets * 160).to_be_bytes());
        bytes.extend([0; 24]);
        bytes
    }

    #[test]
    fn sender_reports_are_found_wherever_they_stand() {
        let ours = SenderReport { ssrc: Ssrc(7), timestamp: RtpTime(160), packets: 1 };
        let said = [0x81, 202, 0, 2, 0, 0, 0, 7, 1, 0, 0, 0];
        let two = [&said[..], &report(7, 160, 1), &report(8, 0, 5)].concat();
        let found: Vec<_> = sender_reports(&two).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0], found[1].ssrc), (ours, Ssrc(8)));
        let receiver = [0x80, 201, 0, 1, 0, 0, 0, 7];
        let cut = &report(7, 160, 1)[..40];
        for nothing in [&receiver[..], cut, &[0x80, 200, 0, 0], &[], &[0x80, 200]] {
            assert_eq!(sender_reports(nothing).count(), 0, "{nothing:02x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(sender_reports(&bytes).count() <= 200 / SENDER_REPORT_BYTES);
        }
    }
}
