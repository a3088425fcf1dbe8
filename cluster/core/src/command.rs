//! What members write into the group's log, and what comes of it. Plain values with a version and
//! a bound; what they do to the state is decided in `state` and `ledger`.

use serde::{Deserialize, Serialize};
use storage_core::countersign::{CheckpointText, CountersignatureText};
use storage_core::record::{Scope, TriggerKind};
use storage_core::{CallId, Duty, Extension, NodeId, RecordingId, Role, SegmentId, Ucid, WallTime};

/// Names a proposal, so that it can be repeated without being done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProposalId {
    /// Who proposes.
    pub node: NodeId,
    /// Which start of that node: counts up over restarts.
    pub boot: u64,
    /// Which proposal of that start.
    pub seq: u64,
}

/// A call as a node knows it. Two references mean the same call if their UCIDs are equal; where
/// one of them has none, the switch's number decides, within a few seconds of the call's begin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallRef {
    /// The call's identity, if the switch gave one.
    pub ucid: Option<Ucid>,
    /// The switch's number of the call; reused within seconds, so never enough on its own.
    pub callid: CallId,
    /// When the call was established; unknown for a call that was found by a snapshot.
    #[serde(with = "crate::micros::option")]
    pub began: Option<WallTime>,
}

/// The phantoms of a member, as far as leading needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phantoms {
    /// None is registered: nothing can be recorded.
    None,
    /// All registered ones are in calls: new calls must be rescued by another member.
    Full,
    /// At least one is free.
    Free,
}

/// What recording needs. A member tells it when it changes; it debounces by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// The AES session is up.
    pub aes: bool,
    /// Its phantoms.
    pub phantoms: Phantoms,
    /// The disk is writable with room.
    pub disk: bool,
    /// RTP arrives on calls in progress (true if there are none).
    pub media: bool,
}

impl Health {
    /// Everything is as it should be.
    pub const GOOD: Self = Self { aes: true, phantoms: Phantoms::Free, disk: true, media: true };

    /// Whether the member can record. A pool that is full does not count: taking all its calls
    /// away would help nobody, and single calls are rescued.
    #[must_use]
    pub fn fit(&self) -> bool {
        self.aes && self.disk && self.media && self.phantoms != Phantoms::None
    }
}

/// What a member says about itself at each start, and when its configuration changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// Who.
    pub node: NodeId,
    /// What it is configured for.
    pub role: Role,
    /// Its phantoms: extensions and ranges as in `al_phantoms`.
    pub phantoms: Vec<String>,
    /// The program's version, for people.
    pub program: String,
}

/// Why duties were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The group's first.
    First,
    /// The lead does not answer.
    Down,
    /// The lead answers but cannot record.
    Unfit,
    /// The preferred member is back and has proved healthy.
    HandBack,
    /// Somebody asked for it.
    Planned,
    /// Somebody took the lead out of service.
    Drained,
    /// Roles or members changed.
    Configured,
    /// Nobody's duty changed, only who answers.
    Liveness,
}

/// Duties for all members, decided by the group's leader; it takes effect where it stands in the
/// log, and that index is the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Index of the grant that the decision was made from. Another one in between makes it void.
    pub expect: u64,
    /// Every member's duty; at most one leads.
    pub duties: Vec<(NodeId, Duty)>,
    /// Who answers.
    pub up: Vec<(NodeId, bool)>,
    /// Whether the new lead also takes the calls in progress.
    pub moves: bool,
    /// Why.
    pub cause: Cause,
}

/// Why and what a recording is made for: what a member must know that goes on with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What it follows; a later claim can widen it.
    pub scope: Scope,
    /// Who asked for it.
    pub trigger: TriggerKind,
    /// The rule that decided; empty if none did.
    pub rule: String,
    /// The station for which it is made.
    pub extension: Extension,
}

/// A capture that has begun, or is about to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Of which call.
    pub call: CallRef,
    /// 1, or 2 from a parallel recorder.
    pub copy: u8,
    /// Which recording of the call, for a call that is recorded several times in turn; from 1.
    pub take: u16,
    /// Who captures.
    pub node: NodeId,
    /// Its capture.
    pub segment: SegmentId,
    /// The recording's name, if this is its first claim.
    pub recording: RecordingId,
    /// When media began, by the claimant's clock.
    #[serde(with = "crate::micros")]
    pub from: WallTime,
    /// The epoch under which it was begun.
    pub epoch: u64,
    /// What is recorded.
    pub terms: Terms,
}

/// Names one stretch of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StretchRef {
    /// Of which recording.
    pub recording: RecordingId,
    /// Who captured it.
    pub node: NodeId,
    /// Its capture there.
    pub segment: SegmentId,
}

/// A voice file that is written and durable, and is the recording once this is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Which recording.
    pub recording: RecordingId,
    /// Who wrote it.
    pub node: NodeId,
    /// 1 for the first, one more each time the recording is completed.
    pub revision: u32,
    /// First audio.
    #[serde(with = "crate::micros")]
    pub from: WallTime,
    /// Last audio.
    #[serde(with = "crate::micros")]
    pub to: WallTime,
    /// Captures whose audio is in the file.
    pub used: Vec<(NodeId, SegmentId)>,
    /// Captures that were looked at and hold nothing that the file lacks.
    pub covered: Vec<(NodeId, SegmentId)>,
    /// SHA-256 of the voice file.
    pub sha256: [u8; 32],
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A member says what it is.
    Announce(Announce),
    /// A member says how it is.
    Health {
        /// Who.
        node: NodeId,
        /// How.
        health: Health,
    },
    /// Duties.
    Grant(Grant),
    /// A capture has begun.
    Claim(Claim),
    /// A capture has ended.
    End {
        /// Which.
        stretch: StretchRef,
        /// When its media ended, by that node's clock.
        #[serde(with = "crate::micros")]
        to: WallTime,
    },
    /// The recording is over: nobody is to add to it, and it may be sealed.
    Over {
        /// Which.
        recording: RecordingId,
        /// Who says so.
        node: NodeId,
        /// Somebody stopped it, so that the rules do not record this call again.
        stopped: bool,
    },
    /// A capture is withdrawn: it holds no audio, or is lost.
    Release {
        /// Which.
        stretch: StretchRef,
    },
    /// The recording is written.
    Seal(Seal),
    /// A member's catalog lists these recordings in these revisions.
    Ack {
        /// Who.
        node: NodeId,
        /// What.
        recordings: Vec<(RecordingId, u32)>,
    },
    /// An operator gives a recording up that nobody will ever seal.
    Resolve {
        /// Which.
        recording: RecordingId,
    },
    /// A member's role is changed while it runs.
    SetRole {
        /// Whose.
        node: NodeId,
        /// The new one.
        role: Role,
    },
    /// A member is taken out of service, or put back.
    Drain {
        /// Who.
        node: NodeId,
        /// Out or back.
        on: bool,
        /// Whether its calls in progress move too.
        moves: bool,
    },
    /// A planned take-over; `None` ends the preference.
    Handover {
        /// Who shall lead.
        to: Option<NodeId>,
    },
    /// A member joins, without a vote until it has caught up.
    AddMember {
        /// Who; a number that was never used.
        node: NodeId,
        /// Where it listens.
        address: String,
    },
    /// A member that has caught up gets its vote.
    PromoteMember {
        /// Who.
        node: NodeId,
    },
    /// A member leaves for good.
    RemoveMember {
        /// Who.
        node: NodeId,
    },
    /// A capture of a member that does not answer, of which the group never heard, by whoever mirrored it.
    HandIn {
        /// Who mirrored it.
        keeper: NodeId,
        /// As its node would have claimed it.
        claim: Claim,
    },
    /// A member's manifest was signed up to here: the others are to look at it and to sign it, too.
    Checkpoint {
        /// Whose.
        node: NodeId,
        /// What it signed.
        checkpoint: CheckpointText,
        /// The member has found that its manifest lacks what others signed before.
        lacks: bool,
    },
    /// A member has signed the last checkpoint of another that continued the ones before.
    Countersign {
        /// Who signed.
        node: NodeId,
        /// What.
        countersignature: Box<CountersignatureText>,
        /// What it signed of that node before, so that the node looks whether its manifest still contains it.
        before: Option<Box<CountersignatureText>>,
    },
}

impl Command {
    /// Whether this member may say this: what a capture, a seal or a health is, its owner tells; of one
    /// that is gone, whoever mirrored it.
    pub(crate) fn speaks_for(&self, proposer: NodeId) -> bool {
        match self {
            Self::Announce(announce) => announce.node == proposer,
            Self::Health { node, .. }
            | Self::Ack { node, .. }
            | Self::Over { node, .. }
            | Self::Checkpoint { node, .. }
            | Self::Countersign { node, .. } => *node == proposer,
            Self::Claim(claim) => claim.node == proposer,
            Self::End { stretch, .. } | Self::Release { stretch } => stretch.node == proposer,
            Self::Seal(seal) => seal.node == proposer,
            Self::HandIn { keeper, .. } => *keeper == proposer,
            _ => true,
        }
    }
}

/// A command with its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Its name.
    pub id: ProposalId,
    /// The proposer will not repeat proposals below this one.
    pub settled: u64,
    /// What it says.
    pub command: Command,
}

/// A command that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Written by a newer program.
    #[error("version {0} of a command is not known here")]
    Version(u8),
    /// Longer than any command may be.
    #[error("a command of {0} bytes is longer than allowed")]
    TooLong(usize),
    /// Not a command.
    #[error("malformed command")]
    Malformed,
}

impl Proposal {
    /// The version of commands that this program writes.
    pub const VERSION: u8 = 1;
    /// Longest encoded command, bytes.
    pub const BYTES_MAX: usize = 64 * 1024;

    /// The form in the log: a version byte, then postcard.
    pub fn encode(&self) -> Result<Vec<u8>, CommandError> {
        let bytes =
            postcard::to_extend(self, vec![Self::VERSION]).map_err(|_| CommandError::Malformed)?;
        if bytes.len() > Self::BYTES_MAX {
            return Err(CommandError::TooLong(bytes.len()));
        }
        Ok(bytes)
    }

    /// Reads it back.
    pub fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(CommandError::TooLong(bytes.len()));
        }
        match bytes.split_first() {
            Some((&Self::VERSION, rest)) => {
                postcard::from_bytes(rest).map_err(|_| CommandError::Malformed)
            }
            Some((&version, _)) => Err(CommandError::Version(version)),
            None => Err(CommandError::Malformed),
        }
    }
}

/// How a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// This capture is the recording now.
    Holds,
    /// It was, until another took over or it ended.
    Held,
    /// Another was first; this one is kept until the recording is sealed.
    Reserve,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, nothing more to say.
    Done,
    /// Done before, under the same name.
    Already,
    /// A claim is in the ledger.
    Claimed {
        /// The recording's name; the first claimant's for everybody.
        recording: RecordingId,
        /// How this claim stands.
        standing: Standing,
        /// Who holds the recording now.
        holder: Option<NodeId>,
    },
    /// Duties changed, in this epoch.
    Granted {
        /// The present epoch.
        epoch: u64,
    },
    /// Not done.
    Refused(Refusal),
}

/// Why a command was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such member.
    #[error("node {0} is not a member of the group")]
    NotMember(NodeId),
    /// The number belongs or belonged to a member.
    #[error("number {0} is or was a member's; choose one that was never used")]
    NumberUsed(NodeId),
    /// It would leave nobody to vote.
    #[error("the last voting member cannot be removed")]
    LastMember,
    /// Two members name the same phantom.
    #[error("phantoms {ours} of node {node} overlap with {theirs} of node {with}")]
    PhantomsOverlap {
        /// Who announced.
        node: NodeId,
        /// What.
        ours: String,
        /// Who has them.
        with: NodeId,
        /// Under which range.
        theirs: String,
    },
    /// Decided from a state that is no more.
    #[error("decided from an older state")]
    Stale,
    /// The ledger does not know it.
    #[error("no such open recording")]
    UnknownRecording,
    /// The ledger does not know the capture.
    #[error("no such capture in the recording")]
    UnknownStretch,
    /// Somebody else is to seal.
    #[error("the recording is to be sealed by another node")]
    NotSealer(Option<NodeId>),
    /// Another member captures it.
    #[error("the recording goes on at node {0}")]
    GoesOn(NodeId),
    /// More than the ledger takes.
    #[error("too many captures or takes of one call")]
    TooMany,
    /// The command contradicts itself.
    #[error("the command makes no sense: {0}")]
    Senseless(&'static str),
    /// What a member captured is handed in, and it answers: it claims that itself.
    #[error("node {0} answers and speaks for itself")]
    Answers(NodeId),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim() -> Proposal {
        Proposal {
            id: ProposalId { node: NodeId(1), boot: 2, seq: 3 },
            settled: 2,
            command: Command::Claim(Claim {
                terms: Terms::default(),
                call: CallRef {
                    ucid: "00001012071700000000".parse().ok(),
                    callid: CallId::new("120"),
                    began: Some(WallTime::from_micros(1_700_000_000_123_456)),
                },
                copy: 1,
                take: 1,
                node: NodeId(1),
                segment: SegmentId(9),
                recording: RecordingId::new(WallTime::from_millis(5), [7; 10]),
                from: WallTime::from_micros(1_700_000_000_123_457),
                epoch: 4,
            }),
        }
    }

    #[test]
    fn a_command_survives_the_log_to_the_microsecond() {
        let bytes = claim().encode().unwrap();
        assert!(bytes.len() < 120, "{}", bytes.len());
        assert_eq!(Proposal::decode(&bytes), Ok(claim()));
    }

    #[test]
    fn newer_oversized_and_empty_commands_are_named() {
        let mut bytes = claim().encode().unwrap();
        bytes[0] = 9;
        assert_eq!(Proposal::decode(&bytes), Err(CommandError::Version(9)));
        assert_eq!(Proposal::decode(&[]), Err(CommandError::Malformed));
        assert!(matches!(Proposal::decode(&[1; 70_000]), Err(CommandError::TooLong(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Proposal::decode(&bytes);
        }
    }
}
