//! The control plane as one machine: the AES link's notices go to the calls, the calls' orders go to
//! the link, and what neither can do goes out as an [`Action`]. It decides nothing of its own but
//! which words of the one are which words of the other.
//!
//! Use: give one input, then take actions until there are none, then the next input.

use std::collections::{BTreeMap, VecDeque};

use storage_core::journal::Fact;
use storage_core::{Draft, MonoTime, NodeId, Now, RecordingId, SegmentId, WallTime};

use crate::Receiver;
use crate::call::order::Ticket;
use crate::call::{
    CallView, Calls, Claimed, JoinRefusal, Mandate, Order, Over, Patience, PauseDone, PauseOrder,
    PauseRequest, PauseWord, Peer, Refusal, Request, RingOrder, TriggerConfig,
};
use crate::dmcc::{CstaError, Link, LinkConfig, Notice, Output};
use crate::media::MediaNotice;
use crate::media::srtp::Protection;

/// What the shell shall do.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "an action lives for a moment in a short queue")]
pub enum Action {
    /// Open a socket to the AES and tell the outcome.
    Connect,
    /// Close the socket, or give up opening it.
    Close,
    /// Write this to the socket. It may hold a password: never log it.
    Send(Vec<u8>),
    /// Append this to the capture journal, in this order.
    Capture(Fact),
    /// Tell the media thread, in order with the facts: what is to become of a phantom's ring.
    Ring(RingOrder),
    /// Tell the media thread, in order with the facts: what a device hears is discarded, or no more.
    Pause(PauseOrder),
    /// Tell the media thread, in order with the facts: the media of a phantom is protected so from
    /// now on. Keys are in it: it goes nowhere else.
    Protect {
        /// Which phantom.
        phantom: Receiver,
        /// When the switch said so.
        at: WallTime,
        /// How; `None`: it is sent nothing any more.
        protection: Option<Protection>,
        /// One stream carries several segments in turn, so this holds for each of them.
        stands: bool,
    },
    /// Something of calls for people, metrics or the asker.
    Tell(Order),
    /// Something of the link for logs, alarms and metrics.
    Link(Notice),
}

/// What the group of nodes tells the recorder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupWord {
    /// What this node is to do.
    Mandate(Mandate),
    /// All other nodes that record.
    Peers(BTreeMap<NodeId, Peer>),
    /// Limits that were changed while it runs.
    Limits {
        /// How long to wait for the others.
        patience: Patience,
        /// `al_maxparties`.
        max_parties: usize,
    },
    /// What the group knows of a recording.
    Claimed(Box<Claimed>),
    /// The group has done with a recording: it is published and listed.
    Closed(RecordingId, Over),
    /// A recording is none after all: nothing was heard in it, or it was given up.
    Withdrawn(RecordingId),
    /// The group's name of a recording that is kept here under another.
    Named {
        /// The name here.
        recording: RecordingId,
        /// The group's.
        name: RecordingId,
    },
    /// This capture does not count any more: leave its call.
    Yield(SegmentId),
    /// A recording is paused, or goes on again.
    Pause(Box<PauseWord>),
}

/// Link and calls, wired together.
#[derive(Debug)]
pub struct Controller {
    link: Link,
    calls: Calls,
    actions: VecDeque<Action>,
}

impl Controller {
    /// A control plane that does nothing before [`Self::start`].
    #[must_use]
    pub fn new(link: LinkConfig, trigger: TriggerConfig) -> Self {
        Self { link: Link::new(link), calls: Calls::new(trigger), actions: VecDeque::new() }
    }

    /// Begins: the link connects; `open` are the recordings that a crash left open.
    pub fn start(&mut self, now: Now, open: Vec<Draft>) {
        self.calls.adopt(now, open);
        self.link.start(now.mono);
        self.settle(now);
    }

    /// The socket is up.
    pub fn handle_connected(&mut self, now: Now, jitter: u32) {
        self.link.handle_connected(now.mono, jitter);
        self.settle(now);
    }

    /// The socket could not be opened.
    pub fn handle_connect_failed(&mut self, now: Now, jitter: u32) {
        self.link.handle_connect_failed(now.mono, jitter);
        self.settle(now);
    }

    /// The socket is gone.
    pub fn handle_closed(&mut self, now: Now, jitter: u32) {
        self.link.handle_closed(now.mono, jitter);
        self.settle(now);
    }

    /// Bytes from the socket, split anyhow.
    pub fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        self.link.handle_bytes(now.mono, bytes);
        self.settle(now);
    }

    /// The media thread noticed something.
    pub fn handle_media(&mut self, now: Now, notice: &MediaNotice) {
        self.calls.handle_media_notice(now, notice);
        self.settle(now);
    }

    /// Somebody asks for something.
    pub fn handle_request(&mut self, now: Now, request: &Request) {
        self.calls.handle_request(now, request);
        self.settle(now);
    }

    /// Somebody pauses a recording, or resumes it. In force once the actions are carried out.
    ///
    /// # Errors
    /// As [`Calls::pause`].
    pub fn handle_pause(&mut self, now: Now, request: &PauseRequest) -> Result<PauseDone, Refusal> {
        let done = self.calls.pause(now, request);
        self.settle(now);
        done
    }

    /// A timer may have run out.
    pub fn handle_timeout(&mut self, now: Now) {
        self.link.handle_timeout(now.mono);
        self.calls.handle_timeout(now);
        self.settle(now);
    }

    /// The group has something to say.
    pub fn handle_group(&mut self, now: Now, word: GroupWord) {
        let calls = &mut self.calls;
        match word {
            GroupWord::Mandate(mandate) => calls.set_mandate(now, mandate),
            GroupWord::Peers(peers) => {
                // A phantom of another node sees the calls that it is in wherever they are taken.
                let phantoms = peers.values().flat_map(|peer| &peer.phantoms).cloned();
                self.link.watch_also(now.mono, phantoms.collect());
                calls.set_peers(now, peers);
            }
            GroupWord::Limits { patience, max_parties } => {
                calls.set_limits(now, patience, max_parties);
            }
            GroupWord::Claimed(claimed) => calls.handle_claimed(now, *claimed),
            GroupWord::Closed(name, over) => calls.handle_closed(now, name, over),
            GroupWord::Withdrawn(name) => calls.handle_withdrawn(now, name),
            GroupWord::Named { recording, name } => calls.handle_named(now, recording, name),
            GroupWord::Pause(word) => calls.handle_pause(now, &word),
            GroupWord::Yield(segment) => calls.handle_yield(now, segment),
        }
        self.settle(now);
    }

    /// Ends all recordings and takes all phantoms out of their calls.
    pub fn drain(&mut self, now: Now) {
        self.calls.drain(now);
        self.settle(now);
    }

    /// Ends the session with the AES.
    pub fn stop(&mut self, now: Now) {
        self.link.stop(now.mono);
        self.settle(now);
    }

    /// The session has ended, or was not ended in time: nothing is captured any more.
    pub fn finish(&mut self, now: Now) {
        self.calls.finish(now);
        self.settle(now);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] wants to be called.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        [self.link.poll_timeout(), self.calls.poll_timeout()].into_iter().flatten().min()
    }

    /// The calls in progress.
    #[must_use]
    pub fn calls(&self) -> Vec<CallView> {
        self.calls.calls()
    }

    /// The machine of calls, to look at.
    #[must_use]
    pub const fn call_machine(&self) -> &Calls {
        &self.calls
    }

    /// The link, to look at.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Carries notices and orders to and fro until both machines are quiet.
    fn settle(&mut self, now: Now) {
        loop {
            if let Some(output) = self.link.poll_output() {
                self.take_output(now, output);
            } else if let Some(order) = self.calls.poll_order() {
                self.take_order(now, order);
            } else {
                return;
            }
        }
    }

    fn take_output(&mut self, now: Now, output: Output) {
        match output {
            Output::Connect => self.actions.push_back(Action::Connect),
            Output::Close => self.actions.push_back(Action::Close),
            Output::Send(bytes) => self.actions.push_back(Action::Send(bytes)),
            Output::Notice(notice) => self.take_notice(now, notice),
        }
    }

    fn take_order(&mut self, now: Now, order: Order) {
        let mono = now.mono;
        match order {
            Order::Join { ticket, call, party, phantom } => {
                self.link.join(mono, ticket.0, &call, party, &phantom);
            }
            Order::Attach { receiver } => self.link.attach(mono, &receiver),
            Order::Leave { phantom, call } => self.link.leave(mono, &phantom, &call),
            Order::AskLinkage { call, party } => self.link.call_linkage(mono, &call, party),
            Order::SnapshotCall { call, party } => self.link.snapshot_call(mono, &call, party),
            Order::Capture(fact) => self.actions.push_back(Action::Capture(fact)),
            Order::Ring(order) => self.actions.push_back(Action::Ring(order)),
            Order::Pause(order) => self.actions.push_back(Action::Pause(order)),
            told => self.actions.push_back(Action::Tell(told)),
        }
    }

    fn take_notice(&mut self, now: Now, notice: Notice) {
        let calls = &mut self.calls;
        match notice {
            Notice::Call(event) => calls.handle_call_event(now, &event),
            Notice::Agent(event) => calls.handle_agent(now, &event),
            Notice::Snapshot(snapshot) => calls.handle_snapshot(now, &snapshot),
            Notice::ResyncBegan => calls.begin_resync(now),
            Notice::ResyncDone { unseen } => calls.end_resync(now, &unseen),
            Notice::SnapshotCallGone { call, .. } => calls.handle_unknown_call(now, &call),
            Notice::Linkage { call, ucid: Some(ucid) } => calls.handle_ucid(now, &call, ucid),
            Notice::Joined { ticket, .. } => calls.handle_joined(now, Ticket(ticket)),
            Notice::JoinRefused { ticket, error, .. } => {
                calls.handle_join_refused(now, Ticket(ticket), &join_refusal(&error));
            }
            // After a loss of the link the resync shows whether the phantom is in the call.
            Notice::JoinTimedOut { .. } if !self.link.is_up() => {}
            Notice::JoinTimedOut { ticket, .. } => {
                calls.handle_join_refused(now, Ticket(ticket), &JoinRefusal::LinkDown);
            }
            Notice::Left { phantom, .. } => calls.handle_left(now, &phantom),
            Notice::MediaStarted { phantom, source, codec, packet_ms, protection } => {
                calls.handle_media_started(now, &phantom, source, &codec, packet_ms);
                let (at, protection, stands) = (now.wall, Some(protection), calls.listens());
                self.actions.push_back(Action::Protect { phantom, at, protection, stands });
            }
            Notice::MediaStopped { phantom } => {
                calls.handle_media_stopped(now, &phantom);
                self.forget_keys(now, phantom);
            }
            watched => self.take_watched(now, watched),
        }
    }

    /// What a device that listens is sent next has keys of its own.
    fn forget_keys(&mut self, now: Now, phantom: Receiver) {
        if self.calls.listens() {
            let (at, protection, stands) = (now.wall, None, true);
            self.actions.push_back(Action::Protect { phantom, at, protection, stands });
        }
    }

    /// Notices that matter to the calls and to people both.
    fn take_watched(&mut self, now: Now, notice: Notice) {
        let calls = &mut self.calls;
        match &notice {
            Notice::SessionUp { .. } => calls.handle_link(now, true),
            Notice::SessionDown { .. } => calls.handle_link(now, false),
            Notice::PhantomReady { phantom } => calls.handle_phantom_ready(now, phantom),
            Notice::PhantomLost { phantom, .. } => {
                calls.handle_phantom_lost(now, phantom);
                self.forget_keys(now, phantom.clone());
            }
            Notice::PhantomRefused { phantom, .. } => calls.handle_phantom_refused(now, phantom),
            // What is not there need not be taken out; of anything else the calls' watchdog asks
            // again.
            Notice::LeaveRefused { phantom, error, .. } if error.is_gone() => {
                calls.handle_left(now, phantom);
            }
            _ => {}
        }
        self.actions.push_back(Action::Link(notice));
    }
}

/// What a refusal means for the call, by category and never by its exact word (register no. 14).
fn join_refusal(error: &CstaError) -> JoinRefusal {
    if error.is_party_limit() {
        JoinRefusal::PartyLimit
    } else if error.is_busy() {
        JoinRefusal::PhantomBusy
    } else if error.is_gone() {
        JoinRefusal::CallGone
    } else {
        JoinRefusal::Other(error.to_string())
    }
}
