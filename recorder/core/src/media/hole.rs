//! Why there is a hole between two packets of one run: loss, a silence that the sender chose, or
//! nothing from the switch. A chosen silence is not a gap; the other two are, and are declared.
//!
//! | sequence | marker, comfort noise or keys | hole | what it is |
//! |---|---|---|---|
//! | goes on | yes | < 3 s, or comfort noise | silence |
//! | goes on | yes | longer | `nomedia` |
//! | goes on | no | any | `nomedia` |
//! | has a hole of n | no | any | `loss` |
//! | has a hole of n | yes | n frames of it | `loss`, the rest as above |
//!
//! Where lost packets and a silence share a hole, the lost ones are put at its end, because the
//! packet that opens a talkspurt is then among them; unless the next packet carries the
//! marker: then they closed the talkspurt before.

use storage_core::record::GapCause;

use super::payload::Payload;
use super::rtp::MediaTime;
use super::run::Indexed;

/// A silence without comfort noise that lasts so long is told as missing media: 3 s, the same
/// after which the media thread reports a silent segment.
pub const NOMEDIA: MediaTime = MediaTime(3 * 8000);

/// A part of a hole that is a gap: samples from the hole's begin, and the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub from: u64,
    pub to: u64,
    pub cause: GapCause,
}

/// Explains the hole of `hole` samples between the packets `before` and `at` (indices into a
/// run's sorted packets), where a packet is `frame` samples long: the parts of it that are gaps,
/// in order.
pub(crate) fn explain(
    packets: &[Indexed],
    before: usize,
    at: usize,
    hole: u64,
    frame: u64,
) -> impl Iterator<Item = Part> {
    let (first, next) = (packets[before], packets[at]);
    let between = &packets[before + 1..at];
    let is = |wanted: Payload| move |packet: &Indexed| packet.payload("") == wanted;
    let comfort = between.iter().any(is(Payload::ComfortNoise));
    let quiet = comfort || next.marker() || between.iter().any(is(Payload::Event));

    let steps = u64::from(next.seq.saturating_sub(first.seq));
    let missing = steps.saturating_sub((at - before) as u64);
    let lost = match (missing, quiet) {
        (0, _) => 0,
        (_, true) => hole.min(missing * frame),
        (_, false) => hole,
    };
    let rest = hole - lost;
    let chosen = quiet && (comfort || rest < NOMEDIA.0);

    let loss_first = next.marker();
    let lost_from = if loss_first { 0 } else { rest };
    let rest_from = if loss_first { lost } else { 0 };
    let loss =
        (lost > 0).then_some(Part { from: lost_from, to: lost_from + lost, cause: GapCause::Loss });
    let none = (rest > 0 && !chosen).then_some(Part {
        from: rest_from,
        to: rest_from + rest,
        cause: GapCause::NoMedia,
    });
    let parts = if loss_first { [loss, none] } else { [none, loss] };
    parts.into_iter().flatten()
}
