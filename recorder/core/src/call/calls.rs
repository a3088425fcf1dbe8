//! The call machine: everything that tells of calls, phantoms, media and people's wishes comes in
//! here, and [`Order`]s come out. It holds the parts together and decides nothing by itself: the
//! tracker knows the calls, the trigger what to do about them, the taps how phantoms get in and out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use storage_core::draft::{Draft, Ending};
use storage_core::{CallId, Duty, Extension, MonoTime, NodeId, Now, RecordingId, SegmentId, Ucid};

use super::event::{AgentEvent, CallEvent, CallSnapshot};
use super::group::{Book, Claimed, Mandate, Over, Patience, Peer};
use super::listen::Ears;
use super::method::Method;
use super::order::{Alarm, JoinRefusal, Order, Ticket};
use super::pause::Pauses;
use super::pool::{PhantomState, Pool};
use super::recording::{Active, Missed, Seeds};
use super::request::{Refusal, Request};
use super::roster::Roster;
use super::rule::Rules;
use super::serve::Waiting;
use super::tap::Tap;
use super::timer::{Timer, Timers};
use super::tracked::{CallKey, TrackedCall};
use super::tracker::{CallEnd, Change, Tracker};
use super::trigger::Work;
use super::view::{CallView, LiveEvent, RecordedView, view_of};
use crate::Receiver;
use crate::media::MediaNotice;

/// What the call machine must know beforehand.
#[derive(Clone, Debug)]
pub struct TriggerConfig {
    /// This node.
    pub node: NodeId,
    /// Who is who.
    pub roster: Roster,
    /// How calls come to be heard.
    pub method: Method,
    /// The recording rules.
    pub rules: Rules,
    /// `al_maxparties`: no phantom of ours makes a call reach more than this.
    pub max_parties: usize,
    /// How long to wait for the other nodes.
    pub patience: Patience,
    /// `al_standbyring`: so much of each call that another node records is kept in memory here; zero:
    /// nothing is.
    pub ring: Duration,
    /// Random bits for the names of recordings; fresh at each start.
    pub id_seed: u128,
    /// First number for segments, above all that the capture journal holds.
    pub first_segment: SegmentId,
}

/// All calls, and what this node does about them.
///
/// After each input all orders are to be taken with [`Self::poll_order`]; when
/// [`Self::poll_timeout`] has come, [`Self::handle_timeout`] is to be called.
#[derive(Debug)]
pub struct Calls {
    pub(super) node: NodeId,
    pub(super) rules: Rules,
    pub(super) max_parties: usize,
    pub(super) patience: Patience,
    pub(super) ring: Duration,
    pub(super) group: Book,
    /// When this node was last given the lead.
    pub(super) mandated_at: MonoTime,
    pub(super) tracker: Tracker,
    pub(super) pool: Pool,
    pub(super) ears: Ears,
    pub(super) timers: Timers,
    pub(super) orders: VecDeque<Order>,
    pub(super) work: BTreeMap<CallKey, Work>,
    pub(super) taps: BTreeMap<Extension, Tap>,
    pub(super) recordings: BTreeMap<RecordingId, Active>,
    pub(super) judged: BTreeMap<RecordingId, Missed>,
    pub(super) adoptable: BTreeMap<RecordingId, Draft>,
    pub(super) requests: BTreeMap<u64, Waiting>,
    pub(super) pauses: Pauses,
    pub(super) alarms: BTreeSet<Alarm>,
    /// Calls to look at before the input in hand is done with.
    pub(super) touched: BTreeSet<CallKey>,
    pub(super) seeds: Seeds,
    pub(super) link_up: bool,
    /// Whether the switch has named all calls that are up.
    pub(super) calls_known: bool,
    /// When the link came back, until the calls are known again.
    pub(super) link_back: Option<MonoTime>,
    pub(super) draining: bool,
    /// Since when the capture cannot be written.
    pub(super) not_writing: Option<MonoTime>,
    /// When the media thread was held up last.
    pub(super) stalled: Option<MonoTime>,
    segment: SegmentId,
    ticket: Ticket,
}

impl Calls {
    /// A machine that knows no call, no phantom and no duty yet, and whose link is down.
    #[must_use]
    pub fn new(config: TriggerConfig) -> Self {
        Self {
            node: config.node,
            rules: config.rules,
            max_parties: config.max_parties,
            patience: config.patience,
            ring: config.ring,
            group: Book::new(),
            mandated_at: MonoTime::default(),
            pool: Pool::new(&config.method.devices(&config.roster)),
            ears: Ears::new(&config.method),
            tracker: Tracker::new(config.roster),
            timers: Timers::default(),
            orders: VecDeque::new(),
            work: BTreeMap::new(),
            taps: BTreeMap::new(),
            recordings: BTreeMap::new(),
            judged: BTreeMap::new(),
            adoptable: BTreeMap::new(),
            requests: BTreeMap::new(),
            pauses: Pauses::new(),
            alarms: BTreeSet::new(),
            touched: BTreeSet::new(),
            seeds: Seeds::new(config.id_seed),
            link_up: false,
            calls_known: false,
            link_back: None,
            draining: false,
            not_writing: None,
            stalled: None,
            segment: config.first_segment,
            ticket: Ticket(0),
        }
    }

    /// An event of a call-control monitor.
    pub fn handle_call_event(&mut self, now: Now, event: &CallEvent) {
        self.tracker.handle_event(now, event);
        self.settle(now);
    }

    /// An agent logged in or out.
    pub fn handle_agent(&mut self, now: Now, event: &AgentEvent) {
        self.tracker.handle_agent(now, event);
        self.settle(now);
    }

    /// Answer to [`Order::SnapshotCall`], or a call found while resynchronising.
    pub fn handle_snapshot(&mut self, now: Now, snapshot: &CallSnapshot) {
        self.tracker.handle_snapshot(now, snapshot);
        self.settle(now);
    }

    /// The switch denies knowing this call.
    pub fn handle_unknown_call(&mut self, now: Now, call: &CallId) {
        self.tracker.handle_unknown(now, call);
        self.settle(now);
    }

    /// Answer to [`Order::AskLinkage`].
    pub fn handle_ucid(&mut self, now: Now, call: &CallId, ucid: Ucid) {
        self.tracker.handle_ucid(call, ucid);
        self.settle(now);
    }

    /// The link to the switch is up or down. While it is down media goes on and calls are kept;
    /// after it, [`Self::begin_resync`] is to follow.
    pub fn handle_link(&mut self, now: Now, up: bool) {
        self.link_up = up;
        if up {
            self.link_back = Some(now.mono);
        } else {
            self.calls_known = false;
            self.tracker.begin_resync();
            self.block_unrecorded();
        }
        self.settle(now);
    }

    /// From here on every call that is up will be named by a snapshot or an event.
    pub fn begin_resync(&mut self, now: Now) {
        self.tracker.begin_resync();
        self.settle(now);
    }

    /// Every call that is up has been named, also through our phantoms; but for those that could be
    /// seen only through `unseen`, which could not be asked.
    pub fn end_resync(&mut self, now: Now, unseen: &[Extension]) {
        self.tracker.end_resync(now, unseen);
        self.drain_changes(now);
        self.check_taps(now);
        self.calls_known = true;
        self.forget_closed();
        self.resume_adoptable(now);
        self.look_for_orphans_soon(now);
        self.touched.extend(self.tracker.calls().map(|call| call.key));
        self.settle(now);
    }

    /// The switch has let a phantom in.
    pub fn handle_joined(&mut self, now: Now, ticket: Ticket) {
        self.tap_joined(now, ticket);
        self.settle(now);
    }

    /// The switch has not let a phantom in.
    pub fn handle_join_refused(&mut self, now: Now, ticket: Ticket, why: &JoinRefusal) {
        self.tap_refused(now, ticket, why);
        self.settle(now);
    }

    /// A phantom has left its call, or the switch says that it is not in it. Where
    /// [`Order::Leave`] fails otherwise nothing is to be told: it is ordered again.
    pub fn handle_left(&mut self, now: Now, phantom: &Extension) {
        self.tap_left(now, phantom);
        self.settle(now);
    }

    /// A phantom is registered.
    pub fn handle_phantom_ready(&mut self, now: Now, receiver: impl Into<Receiver>) {
        let receiver = receiver.into();
        let phantom = &receiver.device;
        self.ear_is_registered(&receiver, true);
        self.pool.ready(now.mono, phantom);
        if self.taps.contains_key(phantom) {
            // It was lost in a call and is still being taken out of it.
            if self.moves_devices() {
                self.pool.busy(phantom, PhantomState::Leaving);
            }
        } else {
            self.evict_stray(now, phantom);
        }
        self.touch_waiting();
        self.settle(now);
    }

    /// A phantom is not registered any more: what it heard ends, another goes on. Of a device that hears
    /// each side by itself the other side goes on.
    pub fn handle_phantom_lost(&mut self, now: Now, receiver: impl Into<Receiver>) {
        let receiver = receiver.into();
        if self.loses_ear(&receiver) {
            self.pool.lost(&receiver.device);
            self.end_tap_of_lost(now, &receiver.device);
        }
        self.settle(now);
    }

    /// The switch refuses to register a phantom.
    pub fn handle_phantom_refused(&mut self, now: Now, receiver: impl Into<Receiver>) {
        let receiver = receiver.into();
        if self.loses_ear(&receiver) {
            self.pool.refused(&receiver.device);
            self.end_tap_of_lost(now, &receiver.device);
        }
        self.settle(now);
    }

    /// `MediaStartEvent` of a phantom: from where, which codec (`g711a`, …), how much in a packet.
    pub fn handle_media_started(
        &mut self,
        now: Now,
        receiver: impl Into<Receiver>,
        source: Option<SocketAddr>,
        codec: &str,
        packetms: u32,
    ) {
        let receiver = receiver.into();
        self.ear_is_sent(now, &receiver, source, codec, packetms);
        self.tap_is_sent(now, &receiver, source, codec, packetms);
        self.settle(now);
    }

    /// `MediaStopEvent` of a phantom. It may start again, as after a hold, so it ends nothing.
    pub fn handle_media_stopped(&mut self, now: Now, receiver: impl Into<Receiver>) {
        let receiver = receiver.into();
        self.ear_is_silent(&receiver);
        if let Some(leg) = self.leg_of(&receiver) {
            leg.media = None;
        }
        self.settle(now);
    }

    /// What the media thread has noticed.
    pub fn handle_media_notice(&mut self, now: Now, notice: &MediaNotice) {
        match notice {
            MediaNotice::FirstPacket { segment, received, captured } => {
                self.segment_heard(*segment, *received, *captured);
            }
            MediaNotice::Silent { segment } => self.segment_silent(now, *segment),
            MediaNotice::Audible { segment } => self.segment_audible(*segment),
            MediaNotice::Writing(writing) => {
                self.not_writing = (!writing).then(|| self.not_writing.unwrap_or(now.mono));
                self.touch_all(now);
            }
            MediaNotice::Stalled => self.stalled = Some(now.mono),
            MediaNotice::Stray { phantom } => self.phantom_strays(now, phantom),
        }
        self.settle(now);
    }

    /// A person asks for something; [`Order::Answer`] follows within three seconds.
    pub fn handle_request(&mut self, now: Now, request: &Request) {
        self.serve(now, request);
        self.settle(now);
    }

    /// The group tells this node what to do. Recordings in progress go on under any duty.
    pub fn set_mandate(&mut self, now: Now, mandate: Mandate) {
        let before = std::mem::replace(&mut self.group.mandate, mandate);
        let led = |mandate: &Mandate| (mandate.duty == Duty::Lead, mandate.epoch);
        if mandate.duty == Duty::Lead && led(&before) != led(&mandate) {
            self.mandated_at = now.mono;
        }
        if before != mandate {
            self.touch_all(now);
        }
    }

    /// The other nodes that record, all of them.
    pub fn set_peers(&mut self, now: Now, peers: BTreeMap<NodeId, Peer>) {
        if self.group.peers == peers {
            return;
        }
        let phantoms = peers.values().flat_map(|peer| &peer.phantoms).cloned().collect();
        self.tracker.learn_peer_phantoms(phantoms);
        self.group.peers = peers;
        self.look_for_orphans_soon(now);
        self.touch_all(now);
    }

    /// How long to wait for the others, and how many parties a call may have.
    pub fn set_limits(&mut self, now: Now, patience: Patience, max_parties: usize) {
        (self.patience, self.max_parties) = (patience, max_parties);
        self.touch_all(now);
    }

    /// What the group knows of a recording has changed.
    pub fn handle_claimed(&mut self, now: Now, claimed: Claimed) {
        let name = claimed.recording;
        self.group.put(claimed);
        self.look_for_orphans_soon(now);
        self.follow_claimed(name);
        self.settle(now);
    }

    /// The group has done with a recording: it is published and listed.
    pub fn handle_closed(&mut self, now: Now, name: RecordingId, over: Over) {
        self.close_claimed(name, over);
        self.settle(now);
    }

    /// A recording is none after all: nothing was heard in it, or it was given up. Its call is looked
    /// at as if it had never been.
    pub fn handle_withdrawn(&mut self, now: Now, name: RecordingId) {
        self.follow_claimed(name);
        self.group.remove(name);
        self.settle(now);
    }

    /// The group's name of a recording is another than the one given here: another node was first.
    pub fn handle_named(&mut self, now: Now, id: RecordingId, name: RecordingId) {
        let other = Some(name).filter(|name| *name != id);
        // One that a crash left open may still wait for its call to be seen.
        if let Some(draft) = self.adoptable.get_mut(&id) {
            draft.name = other;
        }
        if let Some(active) = self.recordings.get_mut(&id) {
            active.draft.name = other;
            let key = active.call;
            if self.work_of(key).recording == Some(id) {
                self.tracker.mark_recorded(key, Some(name));
            }
            self.write_down(key);
            self.show(key);
        }
        self.settle(now);
    }

    /// Another node's capture counts, or somebody stopped the recording: this one leaves its call.
    pub fn handle_yield(&mut self, now: Now, segment: SegmentId) {
        if let Some(id) = self.tap_with(segment).and_then(|(_, tap)| tap.recording) {
            self.end_recording(now, id, None, Ending::Yielded);
        }
        self.settle(now);
    }

    /// Ends all recordings and starts none; [`Self::is_idle`] tells when it is done. Where there
    /// are other nodes the recordings are theirs to go on with.
    pub fn drain(&mut self, now: Now) {
        self.draining = true;
        self.refuse_waiting(None, Refusal::Unavailable);
        let end = if self.group.peers.is_empty() { Ending::Over } else { Ending::Yielded };
        for id in self.recordings.keys().copied().collect::<Vec<_>>() {
            self.end_recording(now, id, None, end);
        }
        self.end_adoptable(now, end);
        self.drop_rings(now);
        self.settle(now);
    }

    /// The session has ended: whatever phantom had not left by then hears nothing any more.
    pub fn finish(&mut self, now: Now) {
        for phantom in self.taps.keys().cloned().collect::<Vec<_>>() {
            self.close_segments(now, &phantom);
        }
        for id in self.recordings.keys().copied().collect::<Vec<_>>() {
            self.finish_if_quiet(now, id);
        }
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.tracker.handle_timeout(now);
        while let Some(timer) = self.timers.expire(now.mono) {
            match timer {
                Timer::Call(key) => {
                    self.touched.insert(key);
                }
                Timer::Tap(phantom) => self.tap_overdue(now, &phantom),
                Timer::Request(request) => self.request_overdue(now, request),
                Timer::Judge(id) => {
                    self.orders.extend(self.judged.remove(&id).map(|missed| missed.order));
                }
                Timer::Phantoms => self.touch_waiting(),
                Timer::Adoption => self.end_adoptable(now, Ending::Over),
                Timer::Orphans => self.look_for_orphans(),
                Timer::Pauses => self.pauses_due(now),
            }
        }
        self.settle(now);
    }

    /// The next thing to do.
    pub fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.timers.next().into_iter().chain(self.tracker.deadline()).min()
    }

    /// The calls in progress.
    #[must_use]
    pub fn calls(&self) -> Vec<CallView> {
        self.tracker.calls().map(|call| self.view(call)).collect()
    }

    /// How many calls are in progress. One in which nobody is but recorders is none: so an observer
    /// looks that dials.
    #[must_use]
    pub fn calls_active(&self) -> usize {
        self.tracker.calls().filter(|call| call.real().next().is_some()).count()
    }

    /// Events of calls that were not tracked because there were impossibly many.
    #[must_use]
    pub const fn calls_refused(&self) -> u64 {
        self.tracker.refused()
    }

    /// How many recordings are in progress.
    #[must_use]
    pub fn recordings_active(&self) -> usize {
        self.recordings.len()
    }

    /// How many phantoms are in each state.
    #[must_use]
    pub fn phantoms(&self, now: Now) -> BTreeMap<PhantomState, usize> {
        self.pool.counts(now.mono)
    }

    /// Whether no recording is in progress and no phantom is in a call.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.recordings.is_empty() && self.taps.is_empty()
    }

    /// The calls as the tracker knows them.
    #[must_use]
    pub const fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    pub(super) const fn next_segment(&mut self) -> SegmentId {
        let segment = self.segment;
        self.segment = SegmentId(segment.0 + 1);
        segment
    }

    pub(super) const fn next_ticket(&mut self) -> Ticket {
        self.ticket = Ticket(self.ticket.0 + 1);
        self.ticket
    }

    /// Tells people what has changed about a call.
    pub(super) fn show(&mut self, key: CallKey) {
        let Some(call) = self.tracker.call(key) else { return };
        let view = self.view(call);
        // A receiver lifted by mistake is no call yet.
        if view.parties.iter().all(|party| party.state == "initiated") {
            return;
        }
        let shown = &mut self.work_of(key).shown;
        if shown.as_ref() == Some(&view) {
            return;
        }
        let event = match shown.replace(view.clone()) {
            None => LiveEvent::CallStarted(view),
            Some(_) => LiveEvent::CallUpdated(view),
        };
        self.orders.push_back(Order::Live(event));
    }

    pub(super) fn tell_recording_started(&mut self, key: CallKey) {
        if let Some(call) = self.tracker.call(key) {
            self.orders.push_back(Order::Live(LiveEvent::RecordingStarted(self.view(call))));
        }
    }

    pub(super) fn view(&self, call: &TrackedCall) -> CallView {
        let id = self.work.get(&call.key).and_then(|work| work.recording);
        let paused = self.paused_since(call.key).is_some();
        let recorded = id.and_then(|id| self.recordings.get(&id)).map(|active| RecordedView {
            recordingid: active.draft.groupname(),
            phantom: self.tap_of(active.draft.recordingid).map(|tap| tap.phantom.clone()),
            node: self.node,
            scope: active.draft.scope,
            trigger: active.draft.trigger,
            paused,
            capture: Some(active.draft.recordingid),
        });
        view_of(&self.tracker, call, recorded.or_else(|| self.recorded_elsewhere(call)))
    }

    /// What another node records of the call.
    fn recorded_elsewhere(&self, call: &TrackedCall) -> Option<RecordedView> {
        let mut held = self.group.matches(call).filter_map(|claimed| {
            let holder = claimed.holder.filter(|holder| holder.node != self.node)?;
            Some((claimed, holder))
        });
        held.next().map(|(claimed, holder)| RecordedView {
            recordingid: claimed.recording,
            phantom: None,
            node: holder.node,
            scope: claimed.scope,
            trigger: claimed.trigger,
            paused: self.paused_since(call.key).is_some(),
            capture: None,
        })
    }

    fn touch_all(&mut self, now: Now) {
        self.touched.extend(self.tracker.calls().map(|call| call.key));
        self.settle(now);
    }

    /// Follows up what an input has changed until nothing is left to look at. Deciding about a
    /// call touches no other call, so this ends.
    pub(super) fn settle(&mut self, now: Now) {
        self.drain_changes(now);
        while let Some(key) = self.touched.pop_first() {
            self.decide(now, key);
            self.drain_changes(now);
        }
    }

    fn drain_changes(&mut self, now: Now) {
        while let Some(change) = self.tracker.poll_change() {
            match change {
                Change::Updated(key) => self.touch_with_neighbours(now, key),
                Change::PhantomIn { call, phantom } => self.phantom_came(now, call, &phantom),
                Change::PhantomOut { call, phantom } => self.phantom_went(now, call, &phantom),
                Change::Merged { from, into } => self.call_merged(now, &from, into),
                Change::Ended(call, end) => self.call_ended(now, &call, end),
                Change::Doubt(key) => self.ask_snapshot(key),
            }
        }
    }

    fn touch_with_neighbours(&mut self, now: Now, key: CallKey) {
        self.follow_ears(now, key);
        let Some(call) = self.tracker.call(key) else { return };
        self.touched.extend(self.tracker.linked(call));
        self.touched.insert(key);
    }

    /// Two calls are one: the longer recording goes on, the other ends where it is.
    fn call_merged(&mut self, now: Now, from: &TrackedCall, into: CallKey) {
        self.follow_ears(now, from.key);
        for tap in self.taps.values_mut().filter(|tap| tap.call == from.key) {
            tap.call = into;
        }
        let work = self.work_of(from.key);
        let (recording, asked) = (work.recording, work.asked.take());
        if let Some(id) = recording {
            self.leave_to_heir(id, into);
        }
        self.move_pauses(now, from.key, into);
        self.part_with(now, from, Ending::Over);
        self.move_requests(from.key, into);
        let work = self.work_of(into);
        work.asked = work.asked.or(asked);
        self.touched.insert(into);
    }

    fn call_ended(&mut self, now: Now, call: &TrackedCall, end: CallEnd) {
        self.follow_ears(now, call.key);
        // Others may see it still; if they do not, nobody goes on with its recording, and it is over.
        let lost_sight = matches!(end, CallEnd::Unseen | CallEnd::Unknown);
        let ending = match lost_sight && self.group.peers.values().any(|peer| peer.alive) {
            true => Ending::Yielded,
            false => Ending::Over,
        };
        self.part_with(now, call, ending);
        self.end_pauses_of(now, call.key, lost_sight || end == CallEnd::Replaced);
        for phantom in self.phantoms_at(call.key) {
            self.take_out(now, &phantom);
        }
        self.refuse_waiting(Some(call.key), Refusal::NoCall);
        self.touched.extend(self.tracker.linked(call));
    }

    /// Ends what is going on for a call that is no more, and tells people.
    fn part_with(&mut self, now: Now, call: &TrackedCall, ending: Ending) {
        let recording = self.work_of(call.key).recording;
        if let Some(id) = recording {
            self.end_recording(now, id, Some(call), ending);
        }
        let mut work = self.work.remove(&call.key).unwrap_or_default();
        self.orders.extend(self.account_of(now, call, &mut work));
        if recording.is_none() {
            self.orders.extend(self.missed_order(now, call, &work));
        }
        self.bury_claimed(now, call);
        self.timers.stop(&Timer::Call(call.key));
        self.touched.remove(&call.key);
        self.orders.extend(work.shown.map(|view| Order::Live(LiveEvent::CallEnded(view))));
        if let Some(alarm) = work.alarm {
            self.clear(alarm);
        }
    }
}
