//! Pauses: which calls are not to be captured now, whoever asked on whatever node, and until when. Each
//! node holds all pauses that it was told of, and applies one to its call as soon as it sees it, before
//! anything of it is captured. A pause belongs to the recording as a whole: it goes with it into a merge, and
//! to whoever goes on with it. That the nodes tell each other, and what is answered to people, is decided
//! outside.
//!
//! ```text
//!             asked here, or told          resumed, over its time, call over
//!    (none) ─────────────────────▶ paused ──────────────────────────────────▶ ended
//! ```
//!
//! A pause is named by the node on which it was asked for and that node's time then, so telling it again
//! changes nothing, and one that has ended is not begun anew by a node that has not heard so. Nobody's clock
//! is compared with another's: what is told is how long it still lasts.
//!
//! What is told names all that the call was joined with, too. So a node that hears nothing from its switch, to which
//! these are still several calls, discards what it hears of each. For the same reason that a call is over is not
//! told: who says so may only have lost sight of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use storage_core::draft::{Draft, Pause, PauseId, Resumed, Stretch};
use storage_core::{CallId, Extension, MonoTime, NodeId, Now, RecordingId, Ucid, WallTime};

use super::calls::Calls;
use super::order::{Order, PauseChange, PauseOrder};
use super::party::PartyKind;
use super::request::{Refusal, Target};
use super::timer::Timer;
use super::tracked::{CallKey, TrackedCall};
use super::view::LiveEvent;

/// A pause that has ended is remembered for so long, in case a node that has not heard so tells of it.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Pauses held at one time; more are refused, as are more words of others.
const PAUSES_MAX: usize = 10_000;

/// What nodes tell each other of a pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseWord {
    /// Which.
    pub id: PauseId,
    /// The group's name of the recording.
    pub recording: RecordingId,
    /// The call's identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ucid: Option<Ucid>,
    /// Identities of what it was joined with since.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub joined: BTreeSet<Ucid>,
    /// The call's number.
    pub callid: String,
    /// Who asked for it.
    pub by: String,
    /// How long it still lasts, milliseconds; 0: it has ended.
    pub leftms: u64,
}

/// What a person asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseRequest {
    /// The call or recording.
    pub target: Target,
    /// How long a pause may last; `None`: resume.
    pub most: Option<Duration>,
    /// Who asks.
    pub by: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseDone {
    /// The recording, by the group's name.
    pub recording: RecordingId,
    /// How long it was paused so far, milliseconds.
    pub pausedms: u64,
    /// What the other nodes are to be told.
    pub words: Vec<PauseWord>,
    /// The other nodes that seem to hear the call, or may.
    pub hearers: Vec<NodeId>,
}

/// A pause as it is held here.
#[derive(Debug)]
pub(super) struct Held {
    word: PauseWord,
    /// The call, once it is seen; several if the switch has not said here that they are one.
    calls: BTreeSet<CallKey>,
    /// When it began, by this node's clock.
    from: WallTime,
    /// When it ends by itself.
    ends: MonoTime,
    /// The same by the clock by which it began.
    until: WallTime,
    /// When it did end.
    ended: Option<MonoTime>,
    /// It ended with the call, as this node sees it, which is not for others to believe.
    unsaid: bool,
}

/// All pauses that this node knows of.
pub(super) type Pauses = BTreeMap<PauseId, Held>;

impl Calls {
    /// Pauses or resumes a recording, here. What is captured from now on is none of it, as soon as the orders are carried
    /// out.
    ///
    /// # Errors
    /// [`Refusal::NoCall`] where no call is answered; [`Refusal::NotFound`] where nobody records it, or the recording named is not
    /// in progress, as for a stop; [`Refusal::Unavailable`] if impossibly many are paused.
    pub fn pause(&mut self, now: Now, request: &PauseRequest) -> Result<PauseDone, Refusal> {
        let (key, recording) = self.recorded_call(&request.target)?;
        let paused = self.paused_since(key).is_some();
        match request.most {
            Some(most) if !paused => self.begin_asked(now, key, recording, most, &request.by)?,
            Some(_) => {}
            None => self.resume_call(now, key),
        }
        self.settle(now);
        let words = self.words_of(now, key);
        let hearers = self.hearers(key);
        Ok(PauseDone { recording, pausedms: self.paused_ms(now, key), words, hearers })
    }

    /// Another node tells of a pause.
    pub fn handle_pause(&mut self, now: Now, word: &PauseWord) {
        self.learn_pause(now, word);
        self.settle(now);
    }

    /// What this node knows of pauses, for a node that may not.
    #[must_use]
    pub fn pauses(&self, now: Now) -> Vec<PauseWord> {
        self.pauses.values().filter(|held| !held.unsaid).map(|held| self.told(now, held)).collect()
    }

    /// How many pauses this node knows of.
    #[must_use]
    pub fn pauses_known(&self) -> usize {
        self.pauses.len()
    }

    /// Since when the call is paused.
    pub(super) fn paused_since(&self, key: CallKey) -> Option<WallTime> {
        self.active_pauses(key).map(|held| held.from).min()
    }

    /// A call that is seen for the first time, or has learned who it is, may be paused already.
    pub(super) fn find_pauses(&mut self, now: Now, key: CallKey) {
        let Some(call) = self.tracker.call(key) else { return };
        let its = |held: &&Held| {
            held.ended.is_none() && !held.calls.contains(&key) && self.is_meant(call, &held.word)
        };
        let its: Vec<PauseId> = self.pauses.values().filter(its).map(|held| held.word.id).collect();
        for id in its {
            self.attach_pause(now, id, key);
        }
    }

    /// Recordings that a crash left open were paused: they are, for as long as is left, whatever their calls are called
    /// now. Each pause goes on under its own name, so that whoever was told meanwhile that it is over ends it here,
    /// too.
    pub(super) fn restore_pauses(&mut self, now: Now, drafts: &[Draft]) {
        for draft in drafts {
            for pause in &draft.pauses {
                let left = match (pause.stretch.to, pause.resumed) {
                    (None, _) => left_of(pause, now.wall),
                    (_, Some(Resumed::Person | Resumed::Timeout)) => 0,
                    _ => continue,
                };
                let word = PauseWord {
                    id: self.id_of(pause),
                    recording: draft.groupname(),
                    ucid: draft.ucid.clone(),
                    joined: draft.formerucids.iter().cloned().collect(),
                    callid: draft.callids.last().cloned().unwrap_or_default(),
                    by: pause.by.clone(),
                    leftms: left,
                };
                self.hold_pause(now, word, pause.stretch.from);
            }
        }
    }

    /// The pause of a recording that goes on after a crash, if it goes on, too. One that has ended meanwhile is ended in the
    /// draft.
    pub(super) fn pause_left(&self, now: Now, draft: &mut Draft) -> Option<PauseId> {
        let open = draft.pauses.iter_mut().find(|pause| pause.stretch.to.is_none())?;
        let id = self.id_of(open);
        if self.pauses.get(&id).is_some_and(|held| held.ended.is_none()) {
            return Some(id);
        }
        let why = if open.until <= now.wall { Resumed::Timeout } else { Resumed::Person };
        open.end(now.wall.min(open.until), why);
        None
    }

    /// Two calls are one: what either of them was paused for, that is.
    pub(super) fn move_pauses(&mut self, now: Now, from: CallKey, into: CallKey) {
        let was_paused = self.paused_since(into).is_some();
        for held in self.pauses.values_mut() {
            if held.calls.remove(&from) {
                held.calls.insert(into);
            }
        }
        if self.paused_since(into).is_none() {
            return;
        }
        self.mute_taps(into);
        self.write_down(into);
        if !was_paused {
            self.tell_pause(now, into, true);
        }
    }

    /// A call is over, and its pauses with it. One that may go on elsewhere, or under another number, stays paused, if it
    /// can be told from others.
    pub(super) fn end_pauses_of(&mut self, now: Now, key: CallKey, may_go_on: bool) {
        for held in self.pauses.values_mut().filter(|held| held.calls.contains(&key)) {
            held.calls.remove(&key);
            let stays = may_go_on && held.word.ucid.is_some();
            if held.calls.is_empty() && held.ended.is_none() && !stays {
                (held.ended, held.unsaid) = (Some(now.mono), true);
            }
        }
    }

    /// Ends what has lasted as long as it may, and forgets what is long over.
    pub(super) fn pauses_due(&mut self, now: Now) {
        let due = |held: &&Held| held.ended.is_none() && held.ends <= now.mono;
        let over: Vec<_> = self.pauses.values().filter(due).map(|held| held.word.id).collect();
        for id in over {
            self.end_pause(now, id, Resumed::Timeout);
        }
        self.pauses.retain(|_, held| held.ended.is_none_or(|at| now.mono < at + REMEMBERED));
        self.arm_pauses();
    }

    /// What a phantom is to be told before it is asked into a call: since when that is paused.
    pub(super) fn mute_new(&mut self, key: CallKey, device: &Extension) -> Option<WallTime> {
        let since = self.paused_since(key)?;
        self.order_pause(device, PauseChange::From(since));
        Some(since)
    }

    /// A device leaves its call, and with it the pause.
    pub(super) fn unmute(&mut self, now: Now, device: &Extension) {
        if let Some(tap) = self.taps.get_mut(device)
            && tap.muted.take().is_some()
        {
            self.order_pause(device, PauseChange::Until(now.wall));
        }
    }

    /// Writes down in a recording that its call is paused.
    pub(super) fn note_pause(&mut self, key: CallKey) {
        let Some(held) = self.active_pauses(key).max_by_key(|held| held.ends) else { return };
        let (from, until, by) = (held.from, held.until, held.word.by.clone());
        let which = Some(held.word.id);
        let id = self.work.get(&key).and_then(|work| work.recording);
        let Some(active) = id.and_then(|id| self.recordings.get_mut(&id)) else { return };
        let pauses = &mut active.draft.pauses;
        match pauses.last_mut().filter(|last| last.stretch.to.is_none()) {
            Some(open) => (open.id, open.until) = (which, until),
            None => {
                let stretch = Stretch { from, to: None };
                pauses.push(Pause { id: which, stretch, until, by, resumed: None });
            }
        }
    }

    fn begin_asked(
        &mut self,
        now: Now,
        key: CallKey,
        recording: RecordingId,
        most: Duration,
        by: &str,
    ) -> Result<(), Refusal> {
        if self.pauses.len() >= PAUSES_MAX {
            return Err(Refusal::Unavailable);
        }
        // Two may be asked for in one microsecond, and a clock that is set back comes by the same one again.
        let mut id = PauseId { node: self.node, at: now.wall.as_micros() };
        while self.pauses.contains_key(&id) {
            id.at += 1;
        }
        let left = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        let word = self.word_of(key, id, recording, by, left).ok_or(Refusal::NoCall)?;
        self.hold_pause(now, word, WallTime::from_micros(id.at));
        self.attach_pause(now, id, key);
        Ok(())
    }

    fn resume_call(&mut self, now: Now, key: CallKey) {
        let active: Vec<PauseId> = self.active_pauses(key).map(|held| held.word.id).collect();
        for id in active {
            self.end_pause(now, id, Resumed::Person);
        }
    }

    fn learn_pause(&mut self, now: Now, word: &PauseWord) {
        let Some(held) = self.pauses.get_mut(&word.id) else {
            if self.pauses.len() < PAUSES_MAX {
                self.hold_pause(now, word.clone(), now.wall);
                self.find_calls(now, word.id);
            }
            return;
        };
        match (held.ended, word.leftms) {
            (Some(_), 0) => held.unsaid = false,
            (Some(_), _) => {}
            (None, 0) => self.end_pause(now, word.id, Resumed::Person),
            (None, _) => {
                let known = held.word.joined.len();
                held.word.joined.extend(word.joined.iter().chain(&word.ucid).cloned());
                if held.word.joined.len() > known {
                    self.find_calls(now, word.id);
                }
            }
        }
    }

    /// Pauses the calls that are meant by that, also one that is lost sight of while its phantom is yet to be taken out.
    fn find_calls(&mut self, now: Now, id: PauseId) {
        let Some(held) = self.pauses.get(&id).filter(|held| held.ended.is_none()) else { return };
        let meant = self.tracker.calls().filter(|call| self.is_meant(call, &held.word));
        let fading = self.recordings.values().filter(|active| {
            let mut ucids = active.draft.ucid.iter().chain(&active.draft.formerucids);
            active.end.is_some() && ucids.any(|ucid| held.word.names(ucid))
        });
        let meant = meant.map(|call| call.key).chain(fading.map(|active| active.call));
        let meant: BTreeSet<_> = meant.filter(|key| !held.calls.contains(key)).collect();
        for key in meant {
            self.attach_pause(now, id, key);
        }
    }

    fn hold_pause(&mut self, now: Now, word: PauseWord, from: WallTime) {
        let left = Duration::from_millis(word.leftms);
        let (ends, until) = (now.mono + left, now.wall + left);
        let ended = (word.leftms == 0).then_some(now.mono);
        let (calls, unsaid) = (BTreeSet::new(), false);
        self.pauses.insert(word.id, Held { word, calls, from, ends, until, ended, unsaid });
        self.arm_pauses();
    }

    pub(super) fn attach_pause(&mut self, now: Now, id: PauseId, key: CallKey) {
        let was_paused = self.paused_since(key).is_some();
        if let Some(held) = self.pauses.get_mut(&id) {
            held.calls.insert(key);
        }
        self.mute_taps(key);
        self.write_down(key);
        if !was_paused {
            self.tell_pause(now, key, true);
        }
        self.touched.insert(key);
    }

    fn end_pause(&mut self, now: Now, id: PauseId, why: Resumed) {
        let Some(held) = self.pauses.get_mut(&id) else { return };
        held.ended = Some(now.mono);
        for key in held.calls.clone() {
            if self.paused_since(key).is_none() {
                self.unmute_taps(now, key);
                self.end_in_draft(now, key, why);
            }
        }
    }

    fn end_in_draft(&mut self, now: Now, key: CallKey, why: Resumed) {
        let recording = self.work.get(&key).and_then(|work| work.recording);
        if let Some(active) = recording.and_then(|id| self.recordings.get_mut(&id)) {
            active.draft.pauses.iter_mut().for_each(|pause| pause.end(now.wall, why));
        }
        self.write_down(key);
        self.tell_pause(now, key, false);
        self.touched.insert(key);
    }

    fn unmute_taps(&mut self, now: Now, key: CallKey) {
        let muted = self.taps.values_mut().filter(|tap| tap.call == key && tap.muted.is_some());
        for tap in muted {
            tap.muted = None;
            let (device, change) = (tap.phantom.clone(), PauseChange::Until(now.wall));
            self.orders.push_back(Order::Pause(PauseOrder { device, change }));
        }
    }

    /// Has all devices in a paused call discard what they hear.
    fn mute_taps(&mut self, key: CallKey) {
        let Some(since) = self.paused_since(key) else { return };
        let loud = self.taps.values_mut().filter(|tap| tap.call == key && tap.muted.is_none());
        let mut devices = Vec::new();
        for tap in loud {
            tap.muted = Some(since);
            devices.push(tap.phantom.clone());
        }
        for device in devices {
            self.order_pause(&device, PauseChange::From(since));
        }
    }

    fn order_pause(&mut self, device: &Extension, change: PauseChange) {
        self.orders.push_back(Order::Pause(PauseOrder { device: device.clone(), change }));
    }

    fn tell_pause(&mut self, now: Now, key: CallKey, paused: bool) {
        let Some(call) = self.tracker.call(key) else { return };
        let view = self.view(call);
        if view.recorded.is_none() {
            return;
        }
        let event = match paused {
            true => LiveEvent::RecordingPaused(view),
            false => LiveEvent::RecordingResumed { call: view, pausedms: self.paused_ms(now, key) },
        };
        self.orders.push_back(Order::Live(event));
    }

    fn arm_pauses(&mut self) {
        let end = |held: &Held| held.ended.map_or(held.ends, |at| at + REMEMBERED);
        match self.pauses.values().map(end).min() {
            Some(next) => self.timers.set(Timer::Pauses, next),
            None => self.timers.stop(&Timer::Pauses),
        }
    }

    fn active_pauses(&self, key: CallKey) -> impl Iterator<Item = &Held> {
        let active = move |held: &&Held| held.calls.contains(&key) && held.ended.is_none();
        self.pauses.values().filter(active)
    }

    /// The call that is meant, and the name of its recording, whoever makes it.
    fn recorded_call(&self, target: &Target) -> Result<(CallKey, RecordingId), Refusal> {
        let call = match target {
            Target::Recording(name) => {
                let own = self.recordings.values().find(|active| active.draft.groupname() == *name);
                let own = own.and_then(|active| self.tracker.call(active.call));
                let claims = |call: &&TrackedCall| {
                    self.group.matches(call).any(|claimed| claimed.recording == *name)
                };
                own.or_else(|| self.tracker.calls().find(claims)).ok_or(Refusal::NotFound)?
            }
            target => self.find_call(target).ok_or(Refusal::NoCall)?,
        };
        let own = self.work.get(&call.key).and_then(|work| work.recording);
        let own =
            own.and_then(|id| self.recordings.get(&id)).map(|active| active.draft.groupname());
        let open = || {
            let mut claims = self.group.matches(call).filter(|claimed| claimed.over.is_none());
            claims.next().map(|claimed| claimed.recording)
        };
        let recording = own.or_else(open).ok_or(Refusal::NotFound)?;
        Ok((call.key, recording))
    }

    fn is_meant(&self, call: &TrackedCall, word: &PauseWord) -> bool {
        let by_name =
            || self.group.matches(call).any(|claimed| claimed.recording == word.recording);
        let mut known = call.ucid.iter().chain(&call.former);
        match (&word.ucid, &call.ucid) {
            _ if known.any(|ucid| word.names(ucid)) => true,
            (Some(_), Some(_)) => by_name(),
            _ => call.ids.contains(&CallId::new(&word.callid)) || by_name(),
        }
    }

    fn word_of(
        &self,
        key: CallKey,
        id: PauseId,
        recording: RecordingId,
        by: &str,
        leftms: u64,
    ) -> Option<PauseWord> {
        let call = self.tracker.call(key)?;
        let (ucid, callid) = (call.ucid.clone(), call.id().to_string());
        let joined = call.former.iter().cloned().collect();
        Some(PauseWord { id, recording, ucid, joined, callid, by: by.to_owned(), leftms })
    }

    fn words_of(&self, now: Now, key: CallKey) -> Vec<PauseWord> {
        let its = self.pauses.values().filter(|held| held.calls.contains(&key));
        its.map(|held| self.told(now, held)).collect()
    }

    fn paused_ms(&self, now: Now, key: CallKey) -> u64 {
        let id = self.work.get(&key).and_then(|work| work.recording);
        let active = id.and_then(|id| self.recordings.get(&id));
        match active {
            Some(active) => {
                let lasted = |pause: &Pause| {
                    pause.stretch.to.unwrap_or(now.wall).millis_after(pause.stretch.from)
                };
                active.draft.pauses.iter().map(lasted).sum()
            }
            None => self.paused_since(key).map_or(0, |from| now.wall.millis_after(from)),
        }
    }

    /// The other nodes that the switch or the group says hear the call. A registration on a station is seen in
    /// no call: there it may be any.
    fn hearers(&self, key: CallKey) -> Vec<NodeId> {
        let Some(call) = self.tracker.call(key) else { return Vec::new() };
        let visible = self.is_seen_in_calls();
        let peers = call.parties.iter().filter(|party| party.kind == PartyKind::PeerPhantom);
        let numbers: Vec<_> = peers.filter_map(|party| party.name.number.as_ref()).collect();
        let holds = |node: NodeId| {
            let mut held = self.group.matches(call).filter_map(|claimed| claimed.holder);
            held.any(|holder| holder.node == node)
        };
        let hears = |node: NodeId| {
            !visible
                || holds(node)
                || numbers
                    .iter()
                    .any(|n| self.group.owner_of(n).is_some_and(|(own, _)| own == node))
        };
        self.group.peers.keys().copied().filter(|node| hears(*node)).collect()
    }

    /// What others are told of a pause: all that its calls were joined with is named.
    fn told(&self, now: Now, held: &Held) -> PauseWord {
        let mut word = held.word.clone();
        word.leftms = match held.ended {
            Some(_) => 0,
            // One that is due in this moment is told to be over when it is.
            None => u64::try_from(held.ends.since(now.mono).as_millis()).unwrap_or(u64::MAX).max(1),
        };
        for call in held.calls.iter().filter_map(|key| self.tracker.call(*key)) {
            word.joined.extend(call.ucid.iter().chain(&call.former).cloned());
        }
        word
    }

    /// What an earlier build wrote down has no name.
    fn id_of(&self, pause: &Pause) -> PauseId {
        pause.id.unwrap_or(PauseId { node: self.node, at: pause.stretch.from.as_micros() })
    }
}

impl PauseWord {
    fn names(&self, ucid: &Ucid) -> bool {
        self.ucid.as_ref() == Some(ucid) || self.joined.contains(ucid)
    }
}

/// How much of a pause is left, milliseconds. A clock that was set back meanwhile makes none longer than it was to be.
fn left_of(pause: &Pause, now: WallTime) -> u64 {
    let left = pause.until.micros_since(now).min(pause.until.micros_since(pause.stretch.from));
    u64::try_from(left).map_or(0, |left| left / 1000)
}
