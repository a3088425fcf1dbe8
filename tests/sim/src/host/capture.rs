//! A host's ports and its journal: what the media thread does. What a phantom hears is the switch's.

use recorder_core::call::{RingChange, RingOrder};
use recorder_core::media::{Look, Trouble};
use storage_core::journal::Fact;
use storage_core::{Extension, SegmentId, WallTime};

use super::{Host, Input, Out, Port, Recorder, Ring, SILENT_AFTER};
use crate::disk::Heard1;
use crate::{MS, SECOND, Time};

impl Host {
    /// What the media thread does with a fact.
    pub(super) fn capture(&mut self, now: Time, fact: Fact) {
        match &fact {
            Fact::SegmentOpened { segment, phantom, .. } if self.is_ring(*segment, phantom) => {
                return self.pour(now, *segment, &phantom.clone(), fact);
            }
            Fact::SegmentOpened { segment, phantom, .. } => {
                self.close_port(now, phantom);
                if let Some(port) = self.port(phantom) {
                    *port = Port { segment: Some(*segment), quiet_since: now, ..Port::default() };
                    let (phantom, segment) = (phantom.clone(), *segment);
                    let check = Input::Silence { phantom: phantom.clone(), segment };
                    self.out.push(Out::After(SILENT_AFTER + 100 * MS, check));
                    self.out.push(Out::Touch(phantom));
                }
            }
            Fact::SegmentClosed { segment, .. } => {
                if let Some(phantom) = self.phantom_of(*segment) {
                    self.close_port(now, &phantom);
                }
            }
            Fact::Recording { draft } if draft.ended.is_some() => {
                let local = draft.recordingid;
                let held = self.disk.journal.open.get(&local);
                let segments: Vec<SegmentId> =
                    held.into_iter().flat_map(|held| held.segments.keys().copied()).collect();
                for segment in segments {
                    if let Some(phantom) = self.phantom_of(segment) {
                        self.close_port(now, &phantom);
                    }
                }
            }
            _ => {}
        }
        if let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) {
            recorder.facts.push_back(fact);
        }
        self.write_facts(now);
    }

    /// What the media thread does with a ring.
    pub(super) fn ring(&mut self, now: Time, RingOrder { receiver, segment, change }: &RingOrder) {
        let phantom = &receiver.device;
        if matches!(change, RingChange::Source(_)) {
            return;
        }
        self.close_port(now, phantom);
        if let RingChange::Begin { reach, .. } = change
            && let Some(port) = self.port(phantom)
        {
            let reach = Time::try_from(reach.as_micros()).unwrap_or(Time::MAX);
            let ring = Some(Ring { reach, ..Ring::default() });
            *port = Port { segment: Some(*segment), ring, quiet_since: now, ..Port::default() };
            let check = Input::Silence { phantom: phantom.clone(), segment: *segment };
            self.out.push(Out::After(SILENT_AFTER + 100 * MS, check));
            self.out.push(Out::Touch(phantom.clone()));
        }
    }

    fn is_ring(&mut self, segment: SegmentId, phantom: &Extension) -> bool {
        self.port(phantom).is_some_and(|port| port.segment == Some(segment) && port.ring.is_some())
    }

    /// A ring becomes the begin of its segment. What a full disk does not take is lost.
    fn pour(&mut self, now: Time, segment: SegmentId, phantom: &Extension, fact: Fact) {
        self.flush(now, phantom, 0);
        let full = self.disk.full;
        let wall = self.wall(now);
        let Some(port) = self.port(phantom) else { return };
        let ring = port.ring.take().unwrap_or_default();
        if let Some((call, ..)) = port.hearing.filter(|_| !full) {
            port.hearing = Some((call, now, wall));
        } else {
            port.hearing = None;
        }
        port.told = false;
        if let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) {
            recorder.facts.push_back(fact);
        }
        self.write_facts(now);
        let mut first = None;
        for mut heard in ring.heard.into_iter().filter(|_| !full) {
            let from = heard.from.max(now.saturating_sub(ring.reach));
            heard.first =
                WallTime::from_micros(heard.first.as_micros() + (from - heard.from).cast_signed());
            heard.from = from;
            if heard.from < heard.to {
                first.get_or_insert(heard.first);
                self.disk.journal.hear(now, segment, heard);
            }
        }
        if let Some(received) = first {
            if let Some(port) = self.port(phantom) {
                port.told = true;
            }
            self.out.push(Out::After(12 * MS, Input::Heard { segment, received }));
        }
        self.out.push(Out::Touch(phantom.clone()));
    }

    /// Writes what waits, if the disk takes it.
    pub fn write_facts(&mut self, now: Time) {
        let refuses = self.disk.full && !self.disk.reserve;
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        if refuses {
            if !recorder.facts.is_empty() {
                self.cannot_write();
            }
            return;
        }
        while let Some(fact) = recorder.facts.pop_front() {
            match &fact {
                Fact::SegmentOpened { segment, phantom, .. } => {
                    if let Some(port) = recorder.ports.get_mut(phantom)
                        && port.segment == Some(*segment)
                    {
                        port.known = true;
                        self.out.push(Out::Touch(phantom.clone()));
                    }
                }
                Fact::Recording { draft } if draft.ended.is_some() => {
                    let outline = Input::Outline(draft.recordingid);
                    self.out.push(Out::After(3 * MS, outline));
                }
                Fact::Sealed { recordingid } => {
                    let dropped = self.disk.journal.dropped(*recordingid);
                    self.out.extend(dropped.map(|(name, frames)| Out::Dropped(name, frames)));
                }
                _ => {}
            }
            self.disk.journal.append(now, fact);
        }
    }

    fn cannot_write(&mut self) {
        let recorder = self.process.as_mut().and_then(|p| p.recorder.as_mut());
        if recorder.is_some_and(|recorder| recorder.writing.failed(Trouble::Full)) {
            self.out.push(Out::After(5 * MS, Input::Writing(false)));
        }
    }

    /// What the media thread does each second.
    pub(super) fn look_at_disk(&mut self, now: Time) {
        let free = self.disk.free();
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        if now < recorder.look_at {
            return;
        }
        recorder.look_at = now + SECOND;
        let takes = recorder.facts.is_empty() && !self.disk.full;
        if recorder.writing.looked(Look { takes, free }) {
            self.out.push(Out::After(5 * MS, Input::Writing(true)));
        }
    }

    /// What a phantom's port receives has changed, or may have.
    pub fn hear(&mut self, now: Time, phantom: &Extension, call: Option<u64>) {
        let (hung, full) = (self.hung, self.disk.full);
        let wall = self.wall(now);
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        let Some(port) = recorder.ports.get_mut(phantom) else { return };
        let in_memory = port.ring.is_some();
        let loses = full && call.is_some() && port.segment.is_some() && !in_memory;
        if loses && recorder.writing.failed(Trouble::Full) {
            self.out.push(Out::After(5 * MS, Input::Writing(false)));
        }
        let keeps = in_memory || (!full && port.known);
        let comes = call.filter(|_| !hung && keeps && port.segment.is_some());
        let muted = recorder.muted.contains(phantom);
        let hears = comes.filter(|_| !muted);
        self.hide(now, phantom, comes.filter(|_| muted));
        let Some(port) = self.port(phantom) else { return };
        if hears == port.hearing.map(|(call, ..)| call) {
            return;
        }
        self.flush(now, phantom, 0);
        let Some(port) = self.port(phantom) else { return };
        let Some(segment) = port.segment else { return };
        port.hearing = hears.map(|call| (call, now, wall));
        self.tell_of_sound(now, phantom, segment, hears.is_some());
    }

    /// Something reaches a segment from now on, or nothing any more: the call machine is told as the media thread tells it.
    pub(super) fn tell_of_sound(
        &mut self,
        now: Time,
        phantom: &Extension,
        segment: SegmentId,
        sounds: bool,
    ) {
        let received = self.wall(now);
        let Some(port) = self.port(phantom) else { return };
        if sounds {
            let (told, silent) = (port.told, port.silent);
            (port.told, port.silent) = (true, false);
            if !told {
                self.out.push(Out::After(12 * MS, Input::Heard { segment, received }));
            }
            if silent {
                self.out.push(Out::After(60 * MS, Input::Audible(segment)));
            }
        } else {
            port.quiet_since = now;
            let check = Input::Silence { phantom: phantom.clone(), segment };
            self.out.push(Out::After(SILENT_AFTER + 100 * MS, check));
        }
    }

    /// Writes down what a port has heard so far, but for the last of it that a crash would take.
    pub fn flush(&mut self, now: Time, phantom: &Extension, lost: Time) {
        let to = now.saturating_sub(lost);
        let last = self.wall(to);
        let Some(port) = self.port(phantom) else { return };
        if let (Some((call, from, first)), Some(segment)) = (port.hearing, port.segment)
            && from < to
        {
            let heard = Heard1 { call, from, to, first, last };
            self.captured.push((call, from, to));
            let Some(port) = self.port(phantom) else { return };
            if let Some(ring) = &mut port.ring {
                ring.keep(heard);
                return;
            }
            self.disk.journal.hear(now, segment, heard);
        }
    }

    pub(super) fn close_port(&mut self, now: Time, phantom: &Extension) {
        self.flush(now, phantom, 0);
        if let Some(port) = self.port(phantom) {
            *port = Port::default();
        }
    }

    pub(super) fn phantom_of(&self, segment: SegmentId) -> Option<Extension> {
        let mut ports = self.recorder()?.ports.iter();
        ports.find(|(_, port)| port.segment == Some(segment)).map(|(phantom, _)| phantom.clone())
    }

    pub(super) fn port(&mut self, phantom: &Extension) -> Option<&mut Port> {
        self.process.as_mut()?.recorder.as_mut()?.ports.get_mut(phantom)
    }
}

impl Ring {
    /// A stretch that goes on is replaced by its longer self.
    fn keep(&mut self, heard: Heard1) {
        match self.heard.last_mut() {
            Some(last) if (last.call, last.from) == (heard.call, heard.from) => *last = heard,
            _ => self.heard.push(heard),
        }
    }
}

impl Recorder {
    /// Whether this phantom's segment hears something, or would if that were not paused.
    pub fn records_by(&self, phantom: &Extension) -> bool {
        self.ports.get(phantom).is_some_and(|port| {
            (port.hearing.is_some() || port.hidden.is_some()) && port.ring.is_none()
        })
    }

    /// Since when this phantom's ring hears what it hears now.
    pub fn rings_by(&self, phantom: &Extension) -> Option<Time> {
        let port = self.ports.get(phantom).filter(|port| port.ring.is_some())?;
        port.hearing.map(|(_, since, _)| since)
    }
}
