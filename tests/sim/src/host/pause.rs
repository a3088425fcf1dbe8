//! Pauses on a host, as `src/group/pause.rs`, the control task and the media thread have them: what people ask for
//! goes to the call machine, what that says goes to all other nodes, and what a muted phantom hears is
//! discarded, and counts as heard.

use recorder_core::call::{PauseChange, PauseOrder, PauseRequest, PauseWord};
use storage_core::draft::Draft;
use storage_core::{Extension, WallTime};

use super::{Host, Out, Port, Ring};
use crate::Time;
use crate::disk::Heard1;

impl Host {
    /// Somebody asks this node, which tells all others at once.
    pub(super) fn pause(&mut self, now: Time, request: &PauseRequest) {
        let at = self.now(now);
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        match recorder.calls.pause(at, request) {
            Ok(done) => {
                self.out.push(Out::Learnt(done.words.clone()));
                self.out.push(Out::Words(done.words));
            }
            Err(why) => {
                self.out
                    .push(Out::Trace(format!("{}: no pause of {}: {why:?}", self.id, request.by)));
            }
        }
    }

    /// Another node tells what it knows.
    pub(super) fn learn_pauses(&mut self, now: Time, words: Vec<PauseWord>) {
        let at = self.now(now);
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        words.iter().for_each(|word| recorder.calls.handle_pause(at, word));
        self.out.push(Out::Learnt(words));
    }

    /// All that is known here is told again.
    pub(super) fn spread_pauses(&mut self, now: Time) {
        let at = self.now(now);
        let Some(recorder) = self.recorder().filter(|r| r.calls.pauses_known() > 0) else {
            return;
        };
        let words = recorder.calls.pauses(at);
        self.out.push(Out::Words(words));
    }

    /// What the media thread does with a pause. What was received before it stays.
    pub(super) fn mute(&mut self, now: Time, PauseOrder { device, change }: &PauseOrder) {
        let Some(recorder) = self.process.as_mut().and_then(|p| p.recorder.as_mut()) else {
            return;
        };
        self.out.push(Out::Trace(format!("{}: {} {change:?}", self.id, device.as_str())));
        match change {
            PauseChange::From(since) => {
                recorder.muted.insert(device.clone());
                self.flush(now, device, 0);
                if let Some(port) = self.port(device) {
                    let hidden = port.hearing.take().map(|(call, ..)| (call, now));
                    port.hidden = port.hidden.or(hidden);
                    if let Some(ring) = &mut port.ring {
                        ring.cut(*since);
                    }
                }
            }
            PauseChange::Until(_) => {
                recorder.muted.remove(device);
            }
        }
        self.out.push(Out::Touch(device.clone()));
    }

    /// Whether a port discards what belongs to a recording in whose draft no pause goes on. A full disk
    /// takes no draft; what a phantom hears that is to be taken out belongs to no recording any more.
    pub fn notes_no_pause(&self, port: &Port) -> bool {
        let written = self.recorder().is_some_and(|r| r.facts.is_empty()) && !self.disk.full;
        let segment = port.segment.filter(|_| port.ring.is_none() && port.known && written);
        let local = segment.and_then(|segment| self.disk.journal.recording_of(segment));
        let draft = local.and_then(|local| self.disk.journal.open.get(&local)?.draft.as_ref());
        let calls = self.recorder().map(|r| r.calls.calls()).unwrap_or_default();
        let captures = calls.iter().filter_map(|call| call.recorded.as_ref()?.capture);
        let captures: Vec<_> = captures.collect();
        let goes_on = |draft: &&Draft| captures.contains(&draft.recordingid);
        draft
            .filter(goes_on)
            .is_some_and(|draft| draft.pauses.iter().all(|pause| pause.stretch.to.is_some()))
    }

    /// What a muted phantom would hear has changed, or may have. It is heard, but nothing is kept of it.
    pub(super) fn hide(&mut self, now: Time, phantom: &Extension, call: Option<u64>) {
        let Some(port) = self.port(phantom) else { return };
        if call == port.hidden.map(|(call, _)| call) {
            return;
        }
        port.hidden = call.map(|call| (call, now));
        let Some(segment) = port.segment else { return };
        self.tell_of_sound(now, phantom, segment, call.is_some());
    }
}

impl Ring {
    /// Forgets what was received since then.
    fn cut(&mut self, since: WallTime) {
        self.heard.retain(|heard| heard.first < since);
        for Heard1 { from, to, first, last, .. } in &mut self.heard {
            let kept = Time::try_from(since.micros_since(*first)).unwrap_or(0);
            if *from + kept < *to {
                (*to, *last) = (*from + kept, since);
            }
        }
    }
}
