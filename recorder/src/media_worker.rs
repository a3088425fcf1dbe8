//! What the media thread does: sweeps the phantoms' sockets on a fixed beat and appends what came
//! to the capture journal, whose only writer it is. The control plane sends it facts in order, it
//! sends back notices of what changed. It judges no audio and waits for nobody: not for the
//! control plane, not for the sealer, not for the disk's cache to be written out.
//!
//! * Beat: 100 ms for all sockets in calls; 10 ms for those whose call has not been heard yet, so
//!   that a call is in the capture at once; RTCP and idle phantoms in turn, each 500 ms.
//! * An order wakes the thread. While no segment is open it comes round each 500 ms only.
//! * What a full disk does not take is counted, and told in the journal as soon as it takes
//!   something again. Facts wait in memory until they are written, in their order. Each second it is
//!   looked whether there is room again; when that is so, [`Writing`] says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use recorder_core::Receiver;
use recorder_core::call::{PauseChange, PauseOrder, RingChange, RingOrder};
use recorder_core::media::{Hearing, Look, MediaNotice, Trouble, Writing};
use storage::{Journal, JournalError};
use storage_core::journal::{Channel, Fact};
use storage_core::record::GapCause;
use storage_core::{MonoTime, RecordingId, Redacted, SegmentId, WallTime};
use tokio::sync::mpsc::Sender;

use crate::clock::Clock;
use crate::media_port::{Gathered, Port, Sweep};
use crate::media_ring::{Mark, Ring};
use crate::media_stats::{MediaStats, NotWriting};
use crate::media_tap::Taps;
use crate::media_thread::{Order, Protected};
use crate::rtp_socket::Batch;

/// Between two sweeps of all sockets in calls.
pub(crate) const BEAT: Duration = Duration::from_millis(100);
/// Sockets that were not swept for so long are swept at the next occasion.
const LATE: Duration = Duration::from_millis(300);
/// Between two sweeps of sockets whose segment has not been heard yet.
const FAST_BEAT: Duration = Duration::from_millis(10);
/// RTCP and idle phantoms are swept in every so manieth beat; a thread that captures nothing skips
/// the others.
const SLOW_BEATS: usize = 5;
/// The journal's housekeeping, in beats.
const MAINTAIN_BEATS: usize = 10;
/// So much is written at once, should the thread ever have been kept from its beat.
const APPEND_BYTES: usize = 4 << 20;
/// Orders taken before sockets are looked at again.
const ORDERS_AT_ONCE: usize = 1024;
/// Facts that wait for room on the disk; some 100 MB of them.
const FACTS_WAITING_MAX: usize = 65_536;
/// Notices that wait for the control plane.
const NOTICES_WAITING_MAX: usize = 65_536;

/// What the thread works with.
pub(crate) struct Wiring {
    pub clock: Clock,
    pub orders: mpsc::Receiver<Order>,
    pub ports: Vec<Port>,
    /// Numbers of the ports.
    pub by_phantom: BTreeMap<Receiver, usize>,
    pub journal: Journal,
    pub stats: Arc<MediaStats>,
    pub notices: Sender<MediaNotice>,
    pub complete: Sender<RecordingId>,
}

/// The thread's state.
pub(crate) struct Worker {
    clock: Clock,
    orders: mpsc::Receiver<Order>,
    ports: Vec<Port>,
    by_phantom: BTreeMap<Receiver, usize>,
    by_segment: BTreeMap<SegmentId, usize>,
    journal: Journal,
    gathered: Gathered,
    taps: Taps,
    /// Facts that are not in the journal yet, in order. Empty but for a moment, unless the disk
    /// is full.
    facts: VecDeque<Fact>,
    /// Recordings that are complete in the journal and that nobody has taken yet.
    ended: VecDeque<RecordingId>,
    outbox: VecDeque<MediaNotice>,
    /// Some port has lost packets that the journal does not know of.
    losing: bool,
    /// Whether what is heard is written.
    writing: Writing,
    /// When all sockets in calls were swept last.
    swept: MonoTime,
    stats: Arc<MediaStats>,
    notices: Sender<MediaNotice>,
    complete: Sender<RecordingId>,
}

impl Worker {
    pub(crate) fn new(wiring: Wiring) -> Self {
        let Wiring { clock, orders, ports, by_phantom, journal, stats, notices, complete } = wiring;
        let writing = Writing::starting(ports.len(), journal.free_bytes());
        let swept = clock.mono();
        Self {
            clock,
            orders,
            ports,
            by_phantom,
            by_segment: BTreeMap::new(),
            journal,
            gathered: Gathered::default(),
            taps: Taps::default(),
            facts: VecDeque::new(),
            ended: VecDeque::new(),
            outbox: VecDeque::new(),
            losing: false,
            writing,
            swept,
            stats,
            notices,
            complete,
        }
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self, batch: &mut Batch) {
        if self.writing.trouble().is_some() {
            self.say_not_writing(true, "there is too little room".to_owned());
        }
        let mut beat = 0;
        let (mut next, mut next_fast) = (self.clock.mono(), self.clock.mono());
        loop {
            self.stats.turns.add(1);
            let now = self.clock.mono();
            let eager = self.ports.iter().any(|port| port.is_eager(now));
            let due = if eager { next.min(next_fast) } else { next };
            if !self.take_orders(batch, due) {
                break;
            }
            let now = self.clock.mono();
            if !self.is_idle() {
                next = next.min(now + BEAT);
            }
            if now >= next {
                if now.since(next) > BEAT {
                    self.stats.sweeps_late.add(1);
                }
                let idle = self.is_idle();
                let in_turn = |number: usize| idle || (number + beat).is_multiple_of(SLOW_BEATS);
                self.sweep(batch, now, |number, port| Due {
                    rtp: port.intake.segment().is_some() || in_turn(number),
                    rtcp: in_turn(number),
                });
                self.swept = now;
                self.after_beat(now, beat);
                let beats = if idle { SLOW_BEATS - beat % SLOW_BEATS } else { 1 };
                beat += beats;
                next = (next + BEAT * u32::try_from(beats).unwrap_or(1)).max(now);
            } else if now >= next_fast {
                self.sweep(batch, now, |_, port| Due { rtp: port.is_eager(now), rtcp: false });
            }
            if now >= next_fast {
                next_fast = now + FAST_BEAT;
            }
            self.tell();
        }
        self.end(batch);
    }

    /// Nothing is to be captured, written or told.
    fn is_idle(&self) -> bool {
        self.by_segment.is_empty()
            && self.facts.is_empty()
            && self.outbox.is_empty()
            && self.ended.is_empty()
    }

    /// Takes orders until `due`, or until there was one and no other follows at once. `false`:
    /// the thread is to end.
    fn take_orders(&mut self, batch: &mut Batch, due: MonoTime) -> bool {
        self.stats.turn_watch.end();
        let order = self.orders.recv_timeout(due.since(self.clock.mono()));
        self.stats.turn_watch.begin();
        let mut order = match order {
            Ok(order) => order,
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        for taken in 1..=ORDERS_AT_ONCE {
            match order {
                Order::Stop => return false,
                Order::Fact(fact) => self.act(batch, *fact),
                Order::Protect(protected) => self.protect(*protected),
                Order::Ring(order) => self.ring(batch, &order),
                Order::Pause(order) => self.pause(batch, &order),
                Order::Tap(end) => self.taps.add(end),
                // Whoever asked may have gone.
                Order::Barrier(reached) => drop(reached.send(())),
            }
            // One that is taken from the queue must be acted upon: none is taken after the last.
            if taken == ORDERS_AT_ONCE {
                break;
            }
            match self.orders.try_recv() {
                Ok(next) => order = next,
                Err(_) => break,
            }
        }
        self.write_facts();
        true
    }

    /// Does what a fact asks for, and puts it down to be written.
    fn act(&mut self, batch: &mut Batch, fact: Fact) {
        let now = self.clock.mono();
        match &fact {
            Fact::SegmentOpened { segment, recordingid, at, .. } if self.is_ring(*segment) => {
                let (segment, recording, since) = (*segment, *recordingid, *at);
                self.note(fact);
                return self.pour(batch, now, segment, recording, since);
            }
            Fact::SegmentOpened { segment, recordingid, phantom, at, side, .. } => {
                let receiver = Receiver { device: phantom.clone(), side: *side };
                if let Some(number) = self.open(batch, now, *segment, &receiver) {
                    let port = &mut self.ports[number];
                    port.recording = Some(*recordingid);
                    let (gathered, stats) = (&mut self.gathered, &*self.stats);
                    port.begin(*at, &mut Sweep { now, batch, gathered, stats });
                }
            }
            Fact::MediaTerms { segment, source, codec, .. } => {
                if let Some(number) = self.by_segment.get(segment) {
                    let port = &mut self.ports[*number];
                    port.intake.terms(now, *source);
                    port.codec.clone_from(codec);
                }
            }
            Fact::SegmentClosed { segment, .. } => self.close(batch, now, *segment),
            Fact::Recording { draft } if draft.ended.is_some() => {
                let of_it = |port: &&Port| port.recording == Some(draft.recordingid);
                let open: Vec<SegmentId> =
                    self.ports.iter().filter(of_it).filter_map(|p| p.intake.segment()).collect();
                for segment in open {
                    self.close(batch, now, segment);
                }
                self.taps.end(draft.recordingid);
            }
            Fact::Recording { .. } | Fact::Lost { .. } | Fact::Sealed { .. } => {}
        }
        self.note(fact);
    }

    /// Begins, changes or ends a ring. Nothing of it is written down.
    fn ring(&mut self, batch: &mut Batch, RingOrder { receiver, segment, change }: &RingOrder) {
        let now = self.clock.mono();
        match change {
            RingChange::Begin { since, reach } => {
                if let Some(number) = self.open(batch, now, *segment, receiver) {
                    let port = &mut self.ports[number];
                    port.ring = Some(Ring::new(*reach));
                    let (gathered, stats) = (&mut self.gathered, &*self.stats);
                    port.begin(*since, &mut Sweep { now, batch, gathered, stats });
                }
            }
            RingChange::Source(source) => {
                if let Some(number) = self.by_segment.get(segment) {
                    self.ports[*number].intake.terms(now, *source);
                }
            }
            RingChange::End => self.close(batch, now, *segment),
        }
    }

    /// A recording is paused, or goes on: so for all receivers of a device.
    fn pause(&mut self, batch: &mut Batch, PauseOrder { device, change }: &PauseOrder) {
        let now = self.clock.mono();
        for port in self.ports.iter_mut().filter(|port| port.phantom.device == *device) {
            match change {
                PauseChange::From(since) => {
                    port.mute(now, *since);
                    if let Some(recording) = port.recording {
                        self.taps.hide(recording, *since);
                    }
                }
                PauseChange::Until(until) => port.unmute(now, *until),
            }
        }
        // What was received last may be of the pause, and lies in here until something else comes.
        batch.wipe();
    }

    fn is_ring(&self, segment: SegmentId) -> bool {
        let number = self.by_segment.get(&segment);
        number.is_some_and(|number| self.ports[*number].ring.is_some())
    }

    /// A ring becomes the begin of its segment, whose fact is put down already.
    fn pour(
        &mut self,
        batch: &mut Batch,
        now: MonoTime,
        segment: SegmentId,
        recording: RecordingId,
        since: WallTime,
    ) {
        let Some(number) = self.by_segment.get(&segment).copied() else { return };
        // What waits at the sockets comes after what the ring holds, and before what comes from now on.
        self.sweep(batch, now, |this, _| Due { rtp: this == number, rtcp: this == number });
        let port = &mut self.ports[number];
        (port.recording, port.awaiting) = (Some(recording), Some(now));
        if let Some(ring) = port.ring.take() {
            ring.pour(since, &mut self.gathered);
        }
        self.write_packets();
    }

    /// Decrypts by other terms from now on.
    fn protect(&mut self, protected: Protected) {
        let number = self.by_phantom.get(&protected.phantom);
        if let Some(port) = number.map(|number| &mut self.ports[*number]) {
            port.protect(self.clock.mono(), protected);
        }
    }

    /// Opens a segment on its receiver's port, and tells the port's number.
    fn open(
        &mut self,
        batch: &mut Batch,
        now: MonoTime,
        segment: SegmentId,
        receiver: &Receiver,
    ) -> Option<usize> {
        let phantom = Redacted(receiver.device.as_str());
        let Some(number) = self.by_phantom.get(receiver).copied() else {
            tracing::error!(%phantom, %segment, "segment opened on a phantom that is not ours");
            return None;
        };
        if let Some(before) = self.ports[number].intake.segment() {
            tracing::error!(%phantom, %segment, %before, "phantom had a segment open already");
            self.close(batch, now, before);
        }
        let port = &mut self.ports[number];
        port.intake.open(now, segment);
        port.known = false;
        port.awaiting = Some(now);
        self.by_segment.insert(segment, number);
        Some(number)
    }

    /// Takes what has come for a segment, and lets nothing more come.
    fn close(&mut self, batch: &mut Batch, now: MonoTime, segment: SegmentId) {
        let Some(number) = self.by_segment.get(&segment).copied() else { return };
        // On a slow disk each of these writes takes its time, and the other calls' sockets hold only so much.
        let late = now.since(self.swept) > LATE;
        self.sweep(batch, now, |this, port| {
            let own = this == number;
            Due { rtp: own || (late && port.intake.segment().is_some()), rtcp: own }
        });
        if late {
            self.swept = now;
        }
        self.write_lost(number);
        let port = &mut self.ports[number];
        if port.awaiting.is_some() {
            port.tell_undecryptable(segment);
        }
        port.end(&self.stats);
        self.by_segment.remove(&segment);
    }

    /// Sweeps the sockets that are due and writes what came, with one append for all.
    fn sweep(&mut self, batch: &mut Batch, now: MonoTime, due: impl Fn(usize, &Port) -> Due) {
        for number in 0..self.ports.len() {
            let port = &mut self.ports[number];
            let due = due(number, port);
            let mark = Mark::of(&self.gathered);
            let mut sweep = Sweep { now, batch, gathered: &mut self.gathered, stats: &self.stats };
            if due.rtp
                && port.sweep(number, Channel::Rtp, &mut sweep)
                && port.intake.tell_stray(now)
            {
                let phantom = port.phantom.device.clone();
                self.outbox.push_back(MediaNotice::Stray { phantom });
            }
            if due.rtcp {
                port.sweep(number, Channel::Rtcp, &mut sweep);
            }
            // What a pause discards was heard all the same, and the call is this segment's.
            if let (Some(received), Some(segment)) = (port.hidden.take(), port.intake.segment())
                && port.awaiting.take().is_some()
            {
                let captured = self.clock.now();
                self.outbox.push_back(MediaNotice::FirstPacket { segment, received, captured });
            }
            if let Some(ring) = &mut port.ring
                && let Some(received) = ring.keep(&mut self.gathered, mark, Clock::wall())
                && port.awaiting.take().is_some()
                && let Some(segment) = port.intake.segment()
            {
                let captured = self.clock.now();
                self.outbox.push_back(MediaNotice::FirstPacket { segment, received, captured });
            }
            if self.gathered.bytes.len() >= APPEND_BYTES {
                self.write_packets();
            }
        }
        self.write_packets();
    }

    fn write_packets(&mut self) {
        self.write_facts();
        if self.gathered.blocks.is_empty() {
            return;
        }
        let tapped = self.taps.copy(&self.gathered, &self.ports);
        let outcome = self.journal.append(&mut self.gathered.bytes);
        self.taps.hand_on(&tapped);
        let kept = outcome.as_ref().map_or_else(JournalError::kept, |()| self.gathered.bytes.len());
        for block in &self.gathered.blocks {
            let port = &mut self.ports[block.port];
            if block.end > kept || !port.known {
                if block.channel == Channel::Rtp {
                    port.lose(block);
                    self.losing = true;
                    self.stats.lost_packets.add(block.packets);
                }
                continue;
            }
            if block.channel == Channel::Rtcp {
                continue;
            }
            self.stats.packets.add(block.packets);
            if port.awaiting.take().is_some()
                && let Some(segment) = port.intake.segment()
            {
                self.outbox.push_back(MediaNotice::FirstPacket {
                    segment,
                    received: block.from,
                    captured: self.clock.now(),
                });
            }
        }
        self.gathered.clear();
        if let Err(error) = outcome {
            self.cannot_write(&error);
        } else if self.losing {
            for number in 0..self.ports.len() {
                self.write_lost(number);
            }
            self.losing = false;
        }
    }

    /// Puts down what a port has lost.
    fn write_lost(&mut self, number: usize) {
        let port = &mut self.ports[number];
        let (Some(lost), Some(segment)) = (port.lost.take(), port.intake.segment()) else { return };
        self.note(Fact::Lost {
            segment,
            from: lost.from,
            to: lost.to,
            packets: lost.packets,
            cause: GapCause::DiskFull,
        });
    }

    /// Puts a fact down to be written. Those before it are written before it.
    fn note(&mut self, fact: Fact) {
        if self.facts.len() >= FACTS_WAITING_MAX {
            self.stats.facts_lost.add(1);
            return;
        }
        self.facts.push_back(fact);
    }

    /// Writes what waits: with one write as long as all goes well. What does not fit so, or can never be written, is tried
    /// by itself.
    fn write_facts(&mut self) {
        while self.facts.len() > 1 {
            let (written, outcome) = self.journal.append_facts(self.facts.iter());
            for _ in 0..written {
                self.fact_is_written();
            }
            if outcome.is_err() {
                break;
            }
        }
        while let Some(fact) = self.facts.front() {
            match self.journal.append_fact(fact) {
                Ok(()) => {}
                Err(error @ (JournalError::Fact(_) | JournalError::NotFrames { .. })) => {
                    // It will never be written; those behind it shall be.
                    tracing::error!(%error, "a fact cannot be written down");
                    self.stats.facts_lost.add(1);
                }
                Err(error) => {
                    self.cannot_write(&error);
                    break;
                }
            }
            self.fact_is_written();
        }
    }

    /// What follows from the first of the facts, which is in the journal now, or given up.
    fn fact_is_written(&mut self) {
        match self.facts.pop_front() {
            Some(Fact::SegmentOpened { segment, .. }) => {
                if let Some(number) = self.by_segment.get(&segment) {
                    self.ports[*number].known = true;
                }
            }
            Some(Fact::Recording { draft }) if draft.ended.is_some() => {
                self.ended.push_back(draft.recordingid);
            }
            _ => {}
        }
    }

    /// Notes that the journal has not taken something; says so if that is news.
    fn cannot_write(&mut self, error: &JournalError) {
        let full = matches!(error, JournalError::Full { .. });
        if !self.writing.failed(if full { Trouble::Full } else { Trouble::Failing }) {
            return;
        }
        self.say_not_writing(full, in_words(error));
    }

    fn say_not_writing(&mut self, full: bool, why: String) {
        tracing::error!(error = why, "captured media is being lost");
        self.stats.cannot_write(NotWriting { full, room_wanted: self.writing.needed(), why });
        if self.stats.not_writing.set(true) {
            self.outbox.push_back(MediaNotice::Writing(false));
        }
    }

    /// Looks whether the journal takes everything again, where it did not. No packet has to come for that.
    fn look_at_disk(&mut self) {
        if self.writing.trouble().is_none() {
            return;
        }
        let takes = self.facts.is_empty() && self.journal.recover();
        if self.writing.looked(Look { takes, free: self.journal.free_bytes() }) {
            tracing::info!("captured media is written again");
            self.stats.not_writing.set(false);
            self.outbox.push_back(MediaNotice::Writing(true));
        }
    }

    fn after_beat(&mut self, now: MonoTime, beat: usize) {
        for port in &mut self.ports {
            port.swept(now, &self.stats);
            match port.intake.swept(now) {
                Some(Hearing::Silent(segment)) => {
                    port.tell_undecryptable(segment);
                    self.outbox.push_back(MediaNotice::Silent { segment });
                }
                Some(Hearing::Audible(segment)) => {
                    self.outbox.push_back(MediaNotice::Audible { segment });
                }
                None => {}
            }
        }
        if beat.is_multiple_of(MAINTAIN_BEATS) {
            match self.journal.maintain() {
                Ok(done) if done.unreadable_bytes > 0 => {
                    let bytes = done.unreadable_bytes;
                    tracing::warn!(bytes, "the capture journal cannot be read in places");
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "the capture journal could not be cleaned"),
            }
            self.write_facts();
            self.look_at_disk();
        }
    }

    /// Hands on notices and complete recordings, as far as they are taken.
    fn tell(&mut self) {
        while let Some(notice) = self.outbox.pop_front() {
            if let Err(refused) = self.notices.try_send(notice) {
                self.outbox.push_front(refused.into_inner());
                break;
            }
        }
        while self.outbox.len() > NOTICES_WAITING_MAX {
            self.outbox.pop_front();
            self.stats.notices_lost.add(1);
        }
        while let Some(id) = self.ended.front() {
            if self.complete.try_send(*id).is_err() {
                break;
            }
            self.ended.pop_front();
        }
    }

    /// Takes what has arrived and makes it last. Segments stay open in the journal: the next
    /// start closes them, and goes on with what is still up.
    fn end(mut self, batch: &mut Batch) {
        let now = self.clock.mono();
        self.sweep(batch, now, |_, port| {
            let open = port.intake.segment().is_some();
            Due { rtp: open, rtcp: open }
        });
        for number in 0..self.ports.len() {
            self.write_lost(number);
        }
        self.write_facts();
        self.tell();
        if let Err(error) = self.journal.sync() {
            tracing::error!(%error, "captured media may not survive a power cut");
        }
    }
}

/// An error with what the operating system said.
fn in_words(error: &JournalError) -> String {
    match error {
        JournalError::Io { source, .. } => format!("{error}: {source}"),
        error => error.to_string(),
    }
}

/// Which of a port's sockets are swept.
struct Due {
    rtp: bool,
    rtcp: bool,
}
