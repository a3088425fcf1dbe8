//! Second pass over a captured recording: reads the packets again in the order of capture and
//! hands their audio on in the order of the timeline. It follows a [`Plan`] and decides nothing.
//!
//! Packets that arrived too early wait in a window of [`WINDOW_PACKETS`] packets. If that is ever
//! too small, another pass over the capture goes on where this one came to, so memory stays
//! bounded and nothing is left out.

use std::collections::VecDeque;

use storage_core::g711::Law;
use storage_core::journal::{Channel, Entry, PacketBlock};

use super::payload::Codec;
use super::rtp::RtpPacket;
use super::timeline::{Placed, Plan};

/// Packets that wait for an earlier one at most: 80 s of 20 ms, about 1 MB.
pub const WINDOW_PACKETS: usize = 4096;

const NOT_PLACED: u32 = u32::MAX;

/// What takes the audio, in order and without a hole.
pub trait VoiceSink {
    /// Why it could not.
    type Error;

    /// Takes G.711 samples.
    ///
    /// # Errors
    /// If they cannot be written.
    fn audio(&mut self, law: Law, samples: &[u8]) -> Result<(), Self::Error>;

    /// Takes a packet of a codec whose audio depends on what came before: `take` samples at 8 kHz.
    ///
    /// # Errors
    /// If they cannot be written.
    fn coded(&mut self, packet: Coded<'_>) -> Result<(), Self::Error>;

    /// Takes so many samples of silence.
    ///
    /// # Errors
    /// If they cannot be written.
    fn silence(&mut self, samples: u64) -> Result<(), Self::Error>;
}

/// A packet that is to be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coded<'a> {
    /// By which codec.
    pub codec: Codec,
    /// All of its payload.
    pub payload: &'a [u8],
    /// What was decoded last by this codec does not lead up to it.
    pub fresh: bool,
    /// Samples at its begin that are not used.
    pub skip: u16,
    /// Samples used.
    pub take: u16,
}

/// Why rendering stopped.
#[derive(Debug, thiserror::Error)]
pub enum RenderError<E> {
    /// The sink could not take it.
    #[error(transparent)]
    Sink(E),
    /// The capture is not the one that was indexed.
    #[error("packet {ordinal} of the capture is not what it was when it was indexed")]
    Changed {
        /// Number of the packet in the order of capture.
        ordinal: u32,
    },
}

/// Renders one recording. Feed it every entry in the journal's order, then call
/// [`Render::end_pass`]; again while it answers [`Pass::Again`].
#[derive(Debug)]
pub struct Render<'p> {
    plan: &'p Plan,
    window: usize,
    /// For each packet in the order of capture its place in the plan.
    order: Vec<u32>,
    ordinal: usize,
    /// Place in the plan that is written next.
    next: usize,
    /// Samples written.
    written: u64,
    /// Audio of the places after `next`, as far as it was met.
    waiting: VecDeque<Option<Vec<u8>>>,
    spare: Vec<Vec<u8>>,
    advanced: bool,
}

/// Whether a pass was the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Everything is written.
    Done,
    /// Read the capture once more.
    Again,
}

impl<'p> Render<'p> {
    /// Begins.
    #[must_use]
    pub fn new(plan: &'p Plan) -> Self {
        Self::with_window(plan, WINDOW_PACKETS)
    }

    pub(crate) fn with_window(plan: &'p Plan, window: usize) -> Self {
        let past = plan.placed.iter().map(|p| p.ordinal as usize + 1).max().unwrap_or(0);
        let mut order = vec![NOT_PLACED; past];
        for (place, packet) in (0..).zip(&plan.placed) {
            order[packet.ordinal as usize] = place;
        }
        Self {
            plan,
            window,
            order,
            ordinal: 0,
            next: 0,
            written: 0,
            waiting: VecDeque::new(),
            spare: Vec::new(),
            advanced: false,
        }
    }

    /// Takes the next entry of the capture.
    ///
    /// # Errors
    /// If the sink fails, or a packet is not what it was.
    pub fn entry<S: VoiceSink>(
        &mut self,
        entry: &Entry<'_>,
        sink: &mut S,
    ) -> Result<(), RenderError<S::Error>> {
        match entry {
            Entry::Packets(block) if block.channel == Channel::Rtp => self.block(block, sink),
            Entry::Packets(_) | Entry::Fact(_) => Ok(()),
        }
    }

    fn block<S: VoiceSink>(
        &mut self,
        block: &PacketBlock<'_>,
        sink: &mut S,
    ) -> Result<(), RenderError<S::Error>> {
        for (_, datagram) in block {
            let ordinal = self.ordinal;
            self.ordinal += 1;
            let place = self.order.get(ordinal).copied().unwrap_or(NOT_PLACED);
            let ahead = (place as usize).wrapping_sub(self.next);
            if place == NOT_PLACED || ahead >= self.window {
                continue;
            }
            let audio = self.audio(place as usize, datagram)?;
            if ahead == 0 {
                self.write(audio, sink).map_err(RenderError::Sink)?;
                self.write_waiting(sink).map_err(RenderError::Sink)?;
            } else {
                self.wait(ahead, audio);
            }
        }
        Ok(())
    }

    /// Of a packet what the plan wants: of G.711 the samples, of others the payload.
    fn audio<'a, E>(&self, place: usize, datagram: &'a [u8]) -> Result<&'a [u8], RenderError<E>> {
        let placed = &self.plan.placed[place];
        let (from, to) = (placed.skip, placed.skip + placed.take);
        let packet = RtpPacket::parse(datagram).ok();
        let wanted = packet.and_then(|packet| match placed.codec {
            Codec::G711(_) => packet.payload.get(usize::from(from)..usize::from(to)),
            codec => (codec.samples(packet.payload) >= to).then_some(packet.payload),
        });
        wanted.ok_or(RenderError::Changed { ordinal: placed.ordinal })
    }

    /// Writes the audio of place `next`, and the silence before it.
    fn write<S: VoiceSink>(&mut self, audio: &[u8], sink: &mut S) -> Result<(), S::Error> {
        let placed = self.plan.placed[self.next];
        let silence = u64::from(placed.position) - self.written;
        if silence > 0 {
            sink.silence(silence)?;
        }
        match placed.codec {
            Codec::G711(law) => sink.audio(law, audio)?,
            codec => {
                let Placed { fresh, skip, take, .. } = placed;
                sink.coded(Coded { codec, payload: audio, fresh, skip, take })?;
            }
        }
        self.written = u64::from(placed.position) + u64::from(placed.take);
        self.next += 1;
        self.advanced = true;
        if self.waiting.is_empty() {
            return Ok(());
        }
        // Slot 0 belonged to the place just written.
        self.spare.extend(self.waiting.pop_front().flatten());
        Ok(())
    }

    fn write_waiting<S: VoiceSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        while let Some(audio) = self.waiting.front_mut().and_then(Option::take) {
            self.write(&audio, sink)?;
            self.spare.push(audio);
        }
        Ok(())
    }

    fn wait(&mut self, ahead: usize, audio: &[u8]) {
        if self.waiting.len() <= ahead {
            self.waiting.resize_with(ahead + 1, || None);
        }
        let mut kept = self.spare.pop().unwrap_or_default();
        kept.clear();
        kept.extend_from_slice(audio);
        self.waiting[ahead] = Some(kept);
    }

    /// Hands on the silence that comes next, as far as the audio before it was handed on.
    ///
    /// # Errors
    /// If the sink fails.
    pub fn catch_up<S: VoiceSink>(&mut self, sink: &mut S) -> Result<(), RenderError<S::Error>> {
        let due = self.plan.placed.get(self.next);
        let until = due.map_or(self.plan.total.0, |placed| placed.position.into());
        if until > self.written {
            sink.silence(until - self.written).map_err(RenderError::Sink)?;
            self.written = until;
        }
        Ok(())
    }

    /// Ends a pass over the capture; with the last, writes the silence at the end.
    ///
    /// # Errors
    /// If the sink fails, or a whole pass did not find the packet that is due.
    pub fn end_pass<S: VoiceSink>(&mut self, sink: &mut S) -> Result<Pass, RenderError<S::Error>> {
        if let Some(due) = self.plan.placed.get(self.next) {
            if !self.advanced {
                return Err(RenderError::Changed { ordinal: due.ordinal });
            }
            self.ordinal = 0;
            self.advanced = false;
            return Ok(Pass::Again);
        }
        let rest = self.plan.total.0 - self.written;
        if rest > 0 {
            sink.silence(rest).map_err(RenderError::Sink)?;
        }
        self.written = self.plan.total.0;
        Ok(Pass::Done)
    }
}
