//! A host's ports and its journal: what the media thread does. What a phantom hears is the switch's.

use storage_core::journal::Fact;
use storage_core::{Extension, SegmentId};

use super::{Host, Input, Out, Port, SILENT_AFTER};
use crate::disk::Heard1;
use crate::{MS, Time};

impl Host {
    /// What the media thread does with a fact.
    pub(super) fn capture(&mut self, now: Time, fact: Fact) {
        match &fact {
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

    /// Writes what waits, if the disk takes it.
    pub fn write_facts(&mut self, now: Time) {
        let full = self.disk.full;
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        let writing = !full || recorder.facts.is_empty();
        if std::mem::replace(&mut recorder.not_writing, !writing) == writing {
            self.out.push(Out::After(5 * MS, Input::Writing(writing)));
        }
        if full {
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

    /// What a phantom's port receives has changed, or may have.
    pub fn hear(&mut self, now: Time, phantom: &Extension, call: Option<u64>) {
        let (hung, full) = (self.hung, self.disk.full);
        let wall = self.wall(now);
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        let Some(port) = recorder.ports.get_mut(phantom) else { return };
        let loses = full && call.is_some() && port.segment.is_some();
        if loses && !std::mem::replace(&mut recorder.not_writing, true) {
            self.out.push(Out::After(5 * MS, Input::Writing(false)));
        }
        let hears = call.filter(|_| !hung && !full && port.known && port.segment.is_some());
        if hears == port.hearing.map(|(call, ..)| call) {
            return;
        }
        self.flush(now, phantom, 0);
        let Some(port) = self.port(phantom) else { return };
        let Some(segment) = port.segment else { return };
        match hears {
            Some(call) => {
                port.hearing = Some((call, now, wall));
                let (told, silent) = (port.told, port.silent);
                (port.told, port.silent) = (true, false);
                if !told {
                    self.out.push(Out::After(12 * MS, Input::Heard { segment, received: wall }));
                }
                if silent {
                    self.out.push(Out::After(60 * MS, Input::Audible(segment)));
                }
            }
            None => {
                port.hearing = None;
                port.quiet_since = now;
                let check = Input::Silence { phantom: phantom.clone(), segment };
                self.out.push(Out::After(SILENT_AFTER + 100 * MS, check));
            }
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
            self.disk.journal.hear(now, segment, Heard1 { call, from, to, first, last });
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
