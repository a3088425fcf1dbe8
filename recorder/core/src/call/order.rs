//! What the call machine wants done. Each variant's comment tells the shell what to do.

use std::net::SocketAddr;
use std::time::Duration;

use storage_core::completeness::SeenCall;
use storage_core::journal::Fact;
use storage_core::record::{Scope, TriggerKind};
use storage_core::{CallId, Extension, RecordingId, SegmentId, Ucid, WallTime};

use super::request::Refusal;
use super::view::LiveEvent;
use crate::Receiver;

/// Names one attempt to put a phantom into a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// A capture, as the group has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The name under which this node keeps the recording.
    pub recording: RecordingId,
    /// The name by which the group knows it, as far as known here.
    pub name: RecordingId,
    /// The capture.
    pub segment: SegmentId,
    /// When its first packet was received.
    pub from: WallTime,
    /// The call's identity.
    pub ucid: Option<Ucid>,
    /// The call's number.
    pub callid: CallId,
    /// When the call was established, if seen.
    pub began: Option<WallTime>,
    /// Which copy.
    pub copy: u8,
    /// Which recording of the call in this copy.
    pub take: u16,
    /// Under which grant it was begun.
    pub epoch: u64,
    /// What it follows.
    pub scope: Scope,
    /// Who asked for it.
    pub trigger: TriggerKind,
    /// The rule that decided.
    pub rule: String,
    /// The station for which it is made.
    pub extension: Extension,
}

/// What is to become of what a phantom hears in a call that another node records. Nothing of it is
/// written down unless the ring becomes a segment: `SegmentOpened` under the ring's number turns what the
/// ring holds into the segment's begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingChange {
    /// Keep in a ring what comes from now on, and what came since then.
    Begin {
        /// Since when, by the clock of the packets' receive times.
        since: WallTime,
        /// For how long it is kept.
        reach: Duration,
    },
    /// The media comes from there.
    Source(Option<SocketAddr>),
    /// Forget all of it.
    End,
}

/// An order to a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingOrder {
    /// What hears.
    pub receiver: Receiver,
    /// The number that its segment has if there comes to be one.
    pub segment: SegmentId,
    /// What is to be done.
    pub change: RingChange,
}

/// From when, or until when, what a device hears is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseChange {
    /// Discard and forget what was received since then, by the clock of the packets' receive times, and
    /// whatever comes.
    From(WallTime),
    /// Up to then only.
    Until(WallTime),
}

/// An order to all receivers of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PauseOrder {
    /// What hears.
    pub device: Extension,
    /// What is to be done.
    pub change: PauseChange,
}

/// One thing to do. All orders are taken before the next input is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Add the phantom to the call as a silent party (single-step conference), and report the
    /// outcome under this ticket with `handle_joined` or `handle_join_refused`.
    Join {
        /// Names this attempt.
        ticket: Ticket,
        /// The call.
        call: CallId,
        /// A party of it, whose connection the request names; a trunk is written
        /// `T<group>#<member>`.
        party: Extension,
        /// Which phantom.
        phantom: Extension,
    },
    /// Clear the phantom's connection, and report with `handle_left`.
    Leave {
        /// Which phantom; always one of ours.
        phantom: Extension,
        /// The call.
        call: CallId,
    },
    /// A receiver that should hear its station hears nothing: see to it that it does, unless nothing
    /// can be done about it. What becomes of it is reported as for any.
    Attach {
        /// Which; always one of ours.
        receiver: Receiver,
    },
    /// Ask for the call's identity, and report with `handle_ucid`.
    AskLinkage {
        /// The call.
        call: CallId,
        /// A party of it.
        party: Extension,
    },
    /// Ask who is in the call, and report with `handle_snapshot`, or `handle_unknown_call` if the
    /// switch knows no such call.
    SnapshotCall {
        /// The call.
        call: CallId,
        /// A party of it.
        party: Extension,
    },
    /// Append to the capture journal. The media thread obeys `SegmentOpened` and `SegmentClosed`
    /// in this order: what reaches a phantom's port between them belongs to the segment.
    Capture(Fact),
    /// Tell the media thread, in order with the facts: what a phantom hears is kept in memory.
    Ring(RingOrder),
    /// Tell the media thread, in order with the facts: a recording is paused or goes on.
    Pause(PauseOrder),
    /// Claim a capture in the group's ledger: its first packet is written, or its terms have
    /// changed. Nothing waits for it.
    Claim(Box<Claim>),
    /// A claimed capture has ended.
    SegmentEnded {
        /// Which.
        segment: SegmentId,
        /// When.
        at: WallTime,
    },
    /// A recording is over, for the whole group.
    RecordingOver {
        /// The group's name of it, as far as known here.
        name: RecordingId,
        /// Somebody stopped it.
        stopped: bool,
    },
    /// Answer a request.
    Answer {
        /// The request's number.
        request: u64,
        /// The recording that it started, widened or stopped.
        result: Result<RecordingId, Refusal>,
    },
    /// Raise an alarm; the same one is not raised twice before it is cleared.
    Alarm(Alarm),
    /// The reason for this alarm is gone.
    AlarmCleared(Alarm),
    /// Tell people who watch.
    Live(LiveEvent),
    /// Count a call that should have been recorded and was not, not even in part.
    Missed {
        /// The call's identity, if it had one.
        ucid: Option<Ucid>,
        /// The call's last number.
        call: CallId,
        /// Why.
        reason: MissedReason,
    },
    /// Write down what this node saw of a call that is over.
    CallOver(Box<SeenCall>),
    /// Time from the switch's `Established` to the first packet in the capture.
    CaptureDelay(Duration),
}

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// A call has been up for five seconds and is not recorded.
    CallNotRecorded {
        /// The call's last number.
        call: CallId,
        /// The station.
        extension: Extension,
        /// What stands in the way.
        reason: MissedReason,
    },
    /// A phantom in a call receives nothing, or nothing of one side.
    NoMedia {
        /// The phantom.
        phantom: Receiver,
    },
    /// A phantom that is in no call receives media.
    StrayMedia {
        /// The phantom.
        phantom: Extension,
    },
    /// A phantom does not get out of a call.
    PhantomStuck {
        /// The phantom.
        phantom: Extension,
    },
}

impl Alarm {
    /// Its stable name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CallNotRecorded { .. } => "callnotrecorded",
            Self::NoMedia { .. } => "nomedia",
            Self::StrayMedia { .. } => "straymedia",
            Self::PhantomStuck { .. } => "phantomstuck",
        }
    }
}

/// Why a call was missed, or is in danger of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MissedReason {
    /// No phantom was free.
    NoPhantom,
    /// The switch refused.
    Refused,
    /// The AES could not be reached.
    LinkDown,
    /// The call had no place for another party.
    PartyLimit,
    /// The switch sent no audio.
    NoMedia,
    /// The capture could not be written.
    DiskFull,
}

impl MissedReason {
    /// Value of the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoPhantom => "nophantom",
            Self::Refused => "refused",
            Self::LinkDown => "linkdown",
            Self::PartyLimit => "partylimit",
            Self::NoMedia => "nomedia",
            Self::DiskFull => "diskfull",
        }
    }
}

/// Why the switch did not let a phantom in, by category (dossier 6.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinRefusal {
    /// The call has as many parties as it may.
    PartyLimit,
    /// The phantom is in another call or not in service.
    PhantomBusy,
    /// There is no such call or party any more.
    CallGone,
    /// The request was not sent, or no answer came before the link was lost.
    LinkDown,
    /// Anything else, in the switch's words.
    Other(String),
}
