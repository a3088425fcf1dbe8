//! Cuts a recording's runs into pieces, in the order in which they are to be laid. Where a piece goes
//! is decided by [`super::placer`].

use storage_core::WallTime;

use super::index::CaptureKey;
use super::joins::ROUNDED_JOIN_TICKS;
use super::placer::audio;
use super::run::Indexed;
use super::settle::Settled;

/// A hole longer than this ends a piece: 200 ms.
pub(crate) const PIECE_HOLE_TICKS: u64 = 1600;

/// Audio of one run without a hole of more than [`PIECE_HOLE_TICKS`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Piece {
    pub start: WallTime,
    pub run: usize,
    pub first: usize,
    pub past: usize,
    /// Media time in its run at which something begins that goes first.
    pub until: Option<u64>,
}

/// Cuts all runs into pieces and puts these in the order of wall time.
pub(crate) fn pieces(settled: &Settled) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (number, (key, run)) in settled.runs.iter().enumerate() {
        let codec = settled.codec(key.capture);
        let mut open: Option<Piece> = None;
        let mut end = 0;
        for (index, packet) in run.packets.iter().enumerate() {
            let Some(audio) = audio(packet, codec) else { continue };
            let near = packet.time().0 <= end + PIECE_HOLE_TICKS;
            end = packet.time().0 + u64::from(audio.samples);
            match &mut open {
                Some(piece) if near => piece.past = index + 1,
                _ => {
                    let start = settled.wall(number, packet.time());
                    let piece =
                        Piece { start, run: number, first: index, past: index + 1, until: None };
                    pieces.extend(open.replace(piece));
                }
            }
        }
        pieces.extend(open);
    }
    let mut pieces = give_way(settled, cut_at_joins(settled, pieces));
    pieces.sort_unstable();
    pieces
}

/// Cuts pieces where it was found best to go on with another run. What is behind the cut stays, as a
/// piece that comes after the other run's.
fn cut_at_joins(settled: &Settled, mut pieces: Vec<Piece>) -> Vec<Piece> {
    for join in settled.joins.list.iter().filter(|join| join.cut) {
        let ends = |run: usize, packet: &Indexed| {
            let audio = audio(packet, settled.codec(settled.runs[run].0.capture));
            packet.time().0 + audio.map_or(0, |audio| u64::from(audio.samples))
        };
        let holds = |piece: &&mut Piece| {
            let packets = &settled.runs[piece.run].1.packets;
            settled.run_key(piece.run) == join.from
                && packets[piece.first].time() < join.at
                && join.at.0 < ends(piece.run, &packets[piece.past - 1])
        };
        let Some(piece) = pieces.iter_mut().find(holds) else { continue };
        let packets = &settled.runs[piece.run].1.packets[piece.first..piece.past];
        let before = packets.partition_point(|packet| packet.time() < join.at);
        let inside = join.at.0 < ends(piece.run, &packets[before - 1]);
        let start = settled.wall(piece.run, join.at);
        let rest = Piece { start, first: piece.first + before, ..*piece };
        piece.past = rest.first;
        piece.until = inside.then_some(join.at.0);
        if rest.first < rest.past {
            pieces.push(rest);
        }
    }
    pieces
}

/// Cuts what was captured where something begins that was published before.
fn give_way(settled: &Settled, pieces: Vec<Piece>) -> Vec<Piece> {
    let is_published = |piece: &Piece| settled.runs[piece.run].0.capture == CaptureKey::PUBLISHED;
    let (mut cut, captured): (Vec<_>, Vec<_>) = pieces.into_iter().partition(is_published);
    let mut begins: Vec<WallTime> = cut.iter().map(|piece| piece.start).collect();
    begins.sort_unstable();
    for mut piece in captured {
        let (key, run) = &settled.runs[piece.run];
        let codec = settled.codec(key.capture);
        for begin in &begins[begins.partition_point(|begin| *begin <= piece.start)..] {
            let first = &run.packets[piece.first..piece.past];
            let wall = |packet: &Indexed| settled.wall(piece.run, packet.time());
            let before = first.partition_point(|packet| wall(packet) < *begin);
            if before == 0 {
                continue;
            }
            let last = first[before - 1];
            let into = begin.micros_since(wall(&last)) / 125;
            let lasts = audio(&last, codec).map_or(0, |audio| i64::from(audio.samples));
            if before == first.len() && into >= lasts {
                break;
            }
            let until = last.time().0 + into.unsigned_abs();
            // Times are less exact than what was found by listening.
            let heard = piece.until.filter(|heard| heard.abs_diff(until) <= ROUNDED_JOIN_TICKS);
            let until = Some(heard.unwrap_or(until));
            let past = piece.first + before;
            cut.push(Piece { past, until, ..piece });
            if past == piece.past {
                piece.first = past;
                break;
            }
            let start = wall(&run.packets[past]);
            piece = Piece { start, first: past, ..piece };
        }
        if piece.first < piece.past {
            cut.push(piece);
        }
    }
    cut
}
