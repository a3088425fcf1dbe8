//! Raft's messages, entries and votes in our own form: serde mirrors, written with postcard,
//! bounded. Protobuf never parses what came from the network or the disk (RUSTSEC-2024-0437): the
//! only protobuf bytes that exist are membership changes that this module writes itself.

use raft::eraftpb;
use serde::{Deserialize, Serialize};
use storage_core::NodeId;

use crate::command::Proposal;

/// A membership change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberChange {
    /// A member with a vote.
    Voter(NodeId),
    /// A member without one.
    Learner(NodeId),
    /// No member any more.
    Remove(NodeId),
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Nothing: a new leader's first entry.
    Empty,
    /// An encoded [`Proposal`].
    Command(Vec<u8>),
    /// A membership change and the encoded [`Proposal`] that asked for it.
    Change(MemberChange, Vec<u8>),
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// The leader's term.
    pub term: u64,
    /// Its place.
    pub index: u64,
    /// What it holds.
    pub body: Body,
}

/// Term, vote and commit index: what must be durable before a message says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The newest term seen.
    pub term: u64,
    /// Who got this member's vote in it; 0 for nobody.
    pub vote: u64,
    /// How far the log is known to be committed.
    pub commit: u64,
}

/// The state up to an entry, in place of the log up to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredState {
    /// Last entry in it.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Members with a vote.
    pub voters: Vec<NodeId>,
    /// Members without one.
    pub learners: Vec<NodeId>,
    /// The encoded state.
    pub state: Vec<u8>,
}

/// Kinds of Raft messages that travel. The others are local to a member, or not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A proposal on its way to the leader.
    Propose,
    /// Entries.
    Append,
    /// Their acknowledgement.
    AppendResponse,
    /// A candidate asks.
    RequestVote,
    /// And is answered.
    RequestVoteResponse,
    /// The state as a whole.
    Snapshot,
    /// The leader lives.
    Heartbeat,
    /// So does the follower.
    HeartbeatResponse,
    /// Somebody asks the leader to step aside.
    TransferLeader,
    /// The leader asks a member to take over.
    TimeoutNow,
    /// A candidate asks whether asking makes sense.
    RequestPreVote,
    /// And is answered.
    RequestPreVoteResponse,
}

const KINDS: [(Kind, eraftpb::MessageType); 12] = [
    (Kind::Propose, eraftpb::MessageType::MsgPropose),
    (Kind::Append, eraftpb::MessageType::MsgAppend),
    (Kind::AppendResponse, eraftpb::MessageType::MsgAppendResponse),
    (Kind::RequestVote, eraftpb::MessageType::MsgRequestVote),
    (Kind::RequestVoteResponse, eraftpb::MessageType::MsgRequestVoteResponse),
    (Kind::Snapshot, eraftpb::MessageType::MsgSnapshot),
    (Kind::Heartbeat, eraftpb::MessageType::MsgHeartbeat),
    (Kind::HeartbeatResponse, eraftpb::MessageType::MsgHeartbeatResponse),
    (Kind::TransferLeader, eraftpb::MessageType::MsgTransferLeader),
    (Kind::TimeoutNow, eraftpb::MessageType::MsgTimeoutNow),
    (Kind::RequestPreVote, eraftpb::MessageType::MsgRequestPreVote),
    (Kind::RequestPreVoteResponse, eraftpb::MessageType::MsgRequestPreVoteResponse),
];

/// A Raft message. The fields are Raft's own; what they mean depends on the kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Which kind.
    pub kind: Kind,
    /// To whom.
    pub to: NodeId,
    /// From whom (for a transfer: to whom the leadership shall go).
    pub from: NodeId,
    /// The sender's term.
    pub term: u64,
    /// Term of the entry at `index`.
    pub log_term: u64,
    /// An index.
    pub index: u64,
    /// Entries that follow it.
    pub entries: Vec<LogEntry>,
    /// The sender's commit index.
    pub commit: u64,
    /// Its term.
    pub commit_term: u64,
    /// The state as a whole.
    pub snapshot: Option<StoredState>,
    /// A snapshot at least so new is asked for.
    pub request_snapshot: u64,
    /// A refusal.
    pub reject: bool,
    /// Where to go on after it.
    pub reject_hint: u64,
    /// Raft's own mark on elections after a transfer.
    pub context: Vec<u8>,
}

/// A message or an entry that is not what it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not in our form.
    #[error("malformed raft message")]
    Malformed,
    /// More than a message may carry.
    #[error("a raft message of {0} bytes is longer than allowed")]
    TooLong(usize),
    /// Entries that do not follow one another, or a state without voters.
    #[error("a raft message contradicts itself: {0}")]
    Senseless(&'static str),
    /// Something in our own raft that has no mirror.
    #[error("raft made something that has no form on the wire: {0}")]
    NoForm(&'static str),
}

impl Message {
    /// Longest message, bytes: a snapshot of a full ledger fits.
    pub const BYTES_MAX: usize = 64 * 1024 * 1024;
    /// Most entries in one message; raft's own limit is 1 MiB of data a message.
    const ENTRIES_MAX: usize = 65_536;

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Numbers, bytes and vectors only: there is nothing in it that postcard cannot write.
        postcard::to_stdvec(self).expect("a message has a plain form")
    }

    /// Reads it back and checks what raft would panic over.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(WireError::TooLong(bytes.len()));
        }
        let message: Self = postcard::from_bytes(bytes).map_err(|_| WireError::Malformed)?;
        message.check()?;
        Ok(message)
    }

    /// What an honest sender never violates and raft does not check.
    fn check(&self) -> Result<(), WireError> {
        if self.entries.len() > Self::ENTRIES_MAX {
            return Err(WireError::Senseless("too many entries"));
        }
        if self.entries.iter().any(|entry| entry.body.bytes() > Proposal::BYTES_MAX) {
            return Err(WireError::Senseless("an entry is too long"));
        }
        match self.kind {
            Kind::Append => {
                let follow = |before: u64, entry: &LogEntry| {
                    before.checked_add(1).filter(|expected| *expected == entry.index)
                };
                if self.entries.iter().try_fold(self.index, follow).is_none() {
                    return Err(WireError::Senseless("entries do not follow one another"));
                }
            }
            Kind::Propose if self.entries.is_empty() => {
                return Err(WireError::Senseless("a proposal of nothing"));
            }
            Kind::Snapshot => {
                let state = self.snapshot.as_ref().ok_or(WireError::Senseless("no state"))?;
                let both = state.voters.iter().any(|node| state.learners.contains(node));
                if state.voters.is_empty() || both || state.index == 0 {
                    return Err(WireError::Senseless("a state with impossible members"));
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(crate) fn from_raft(message: &eraftpb::Message) -> Result<Self, WireError> {
        let kind = KINDS.iter().find(|(_, raft)| *raft == message.get_msg_type());
        let kind = kind.ok_or(WireError::NoForm("message type"))?.0;
        let snapshot = message.snapshot.as_ref().filter(|snapshot| !snapshot.is_empty());
        Ok(Self {
            kind,
            to: node(message.to)?,
            from: node(message.from)?,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message.entries.iter().map(LogEntry::from_raft).collect::<Result<_, _>>()?,
            commit: message.commit,
            commit_term: message.commit_term,
            snapshot: snapshot.map(StoredState::from_raft).transpose()?,
            request_snapshot: message.request_snapshot,
            reject: message.reject,
            reject_hint: message.reject_hint,
            context: message.context.to_vec(),
        })
    }

    pub(crate) fn into_raft(self) -> eraftpb::Message {
        let mut message = eraftpb::Message::default();
        // The table holds every kind, so the search cannot fail; a heartbeat would be harmless.
        let kind = KINDS.iter().find(|(kind, _)| *kind == self.kind);
        message.set_msg_type(kind.map_or(eraftpb::MessageType::MsgHeartbeat, |(_, raft)| *raft));
        message.to = u64::from(self.to.0);
        message.from = u64::from(self.from.0);
        message.term = self.term;
        message.log_term = self.log_term;
        message.index = self.index;
        let entries: Vec<_> = self.entries.into_iter().map(LogEntry::into_raft).collect();
        message.entries = entries.into();
        message.commit = self.commit;
        message.commit_term = self.commit_term;
        if let Some(snapshot) = self.snapshot {
            message.set_snapshot(snapshot.into_raft());
        }
        message.request_snapshot = self.request_snapshot;
        message.reject = self.reject;
        message.reject_hint = self.reject_hint;
        message.context = self.context.into();
        message
    }
}

impl Body {
    fn bytes(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::Command(bytes) | Self::Change(_, bytes) => bytes.len(),
        }
    }
}

impl LogEntry {
    pub(crate) fn from_raft(entry: &eraftpb::Entry) -> Result<Self, WireError> {
        let body = match entry.get_entry_type() {
            eraftpb::EntryType::EntryNormal if entry.data.is_empty() => Body::Empty,
            eraftpb::EntryType::EntryNormal => Body::Command(entry.data.to_vec()),
            eraftpb::EntryType::EntryConfChange => {
                Body::Change(MemberChange::from_protobuf(&entry.data)?, entry.context.to_vec())
            }
            // Only joint changes make these, and we change one member at a time.
            eraftpb::EntryType::EntryConfChangeV2 => {
                return Err(WireError::NoForm("joint membership change"));
            }
        };
        Ok(Self { term: entry.term, index: entry.index, body })
    }

    pub(crate) fn into_raft(self) -> eraftpb::Entry {
        let mut entry =
            eraftpb::Entry { term: self.term, index: self.index, ..eraftpb::Entry::default() };
        match self.body {
            Body::Empty => {}
            Body::Command(bytes) => entry.data = bytes.into(),
            Body::Change(change, command) => {
                entry.set_entry_type(eraftpb::EntryType::EntryConfChange);
                entry.data = change.to_protobuf().into();
                entry.context = command.into();
            }
        }
        entry
    }
}

impl MemberChange {
    /// `eraftpb.ConfChange` with its two fields: `change_type = 2`, `node_id = 3`, both varints.
    /// Proto3 leaves out a field that is zero, as `AddNode` is.
    fn to_protobuf(self) -> Vec<u8> {
        let (kind, NodeId(node)) = match self {
            Self::Voter(node) => (0, node),
            Self::Remove(node) => (1, node),
            Self::Learner(node) => (2, node),
        };
        let mut bytes = Vec::with_capacity(6);
        if kind != 0 {
            bytes.extend([0x10, kind]);
        }
        bytes.push(0x18);
        let mut rest = node;
        while rest >= 0x80 {
            bytes.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
            rest >>= 7;
        }
        bytes.push(u8::try_from(rest).unwrap_or(0));
        bytes
    }

    fn from_protobuf(bytes: &[u8]) -> Result<Self, WireError> {
        const FOREIGN: WireError = WireError::NoForm("membership change");
        let (kind, rest) = match bytes {
            [0x10, kind, rest @ ..] => (*kind, rest),
            rest => (0, rest),
        };
        let [0x18, varint @ ..] = rest else { return Err(FOREIGN) };
        let mut value = 0_u64;
        for (at, byte) in varint.iter().enumerate().take(3) {
            value |= u64::from(byte & 0x7f) << (7 * at);
        }
        let node = NodeId(u16::try_from(value).map_err(|_| FOREIGN)?);
        let change = match kind {
            0 => Self::Voter(node),
            1 => Self::Remove(node),
            2 => Self::Learner(node),
            _ => return Err(FOREIGN),
        };
        // Whatever we did not write ourselves does not come out the same again.
        if change.to_protobuf() == bytes { Ok(change) } else { Err(FOREIGN) }
    }
}

impl Vote {
    pub(crate) const fn from_raft(hard: &eraftpb::HardState) -> Self {
        Self { term: hard.term, vote: hard.vote, commit: hard.commit }
    }

    pub(crate) fn into_raft(self) -> eraftpb::HardState {
        eraftpb::HardState {
            term: self.term,
            vote: self.vote,
            commit: self.commit,
            ..eraftpb::HardState::default()
        }
    }
}

impl StoredState {
    pub(crate) fn from_raft(snapshot: &eraftpb::Snapshot) -> Result<Self, WireError> {
        let meta = snapshot.get_metadata();
        let conf = meta.get_conf_state();
        if !conf.voters_outgoing.is_empty() || !conf.learners_next.is_empty() {
            return Err(WireError::NoForm("joint membership"));
        }
        let nodes = |ids: &[u64]| ids.iter().map(|id| node(*id)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            index: meta.index,
            term: meta.term,
            voters: nodes(&conf.voters)?,
            learners: nodes(&conf.learners)?,
            state: snapshot.data.to_vec(),
        })
    }

    pub(crate) fn into_raft(self) -> eraftpb::Snapshot {
        let mut snapshot =
            eraftpb::Snapshot { data: self.state.into(), ..eraftpb::Snapshot::default() };
        let meta = snapshot.mut_metadata();
        meta.index = self.index;
        meta.term = self.term;
        let ids = |nodes: &[NodeId]| nodes.iter().map(|node| u64::from(node.0)).collect();
        let voters: Vec<u64> = ids(&self.voters);
        meta.mut_conf_state().voters = voters;
        meta.mut_conf_state().learners = ids(&self.learners);
        snapshot
    }
}

fn node(id: u64) -> Result<NodeId, WireError> {
    u16::try_from(id).map(NodeId).map_err(|_| WireError::NoForm("member number above 65535"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn append(index: u64, indices: &[u64]) -> Message {
        let entry = |&index| LogEntry { term: 3, index, body: Body::Command(vec![1, 2, 3]) };
        Message {
            kind: Kind::Append,
            to: NodeId(2),
            from: NodeId(1),
            term: 3,
            log_term: 2,
            index,
            entries: indices.iter().map(entry).collect(),
            commit: 4,
            commit_term: 0,
            snapshot: None,
            request_snapshot: 0,
            reject: false,
            reject_hint: 0,
            context: Vec::new(),
        }
    }

    #[test]
    fn a_message_survives_both_ways() {
        let mut message = append(4, &[5, 6]);
        message.entries[1].body = Body::Change(MemberChange::Learner(NodeId(300)), vec![9]);
        let read = Message::decode(&message.encode()).unwrap();
        assert_eq!(read, message);
        assert_eq!(Message::from_raft(&read.into_raft()), Ok(message));
    }

    #[test]
    fn what_raft_would_panic_over_is_refused() {
        let holes = append(4, &[5, 7]).encode();
        assert!(matches!(Message::decode(&holes), Err(WireError::Senseless(_))));
        assert!(Message::decode(&append(u64::MAX, &[u64::MAX]).encode()).is_err());
        assert!(Message::decode(&append(u64::MAX - 1, &[u64::MAX]).encode()).is_ok());
        let mut nothing = append(4, &[]);
        nothing.kind = Kind::Propose;
        assert!(Message::decode(&nothing.encode()).is_err());
        let mut stateless = append(4, &[]);
        stateless.kind = Kind::Snapshot;
        assert!(Message::decode(&stateless.encode()).is_err());
    }

    #[test]
    fn membership_changes_are_read_as_raft_writes_and_reads_them() {
        for node in [1, 127, 128, 300, 16_384, u16::MAX] {
            let node = NodeId(node);
            for change in
                [MemberChange::Voter(node), MemberChange::Learner(node), MemberChange::Remove(node)]
            {
                assert_eq!(MemberChange::from_protobuf(&change.to_protobuf()), Ok(change));
            }
        }
        for foreign in [&[][..], &[0x10, 0, 0x18, 1], &[0x18], &[0x18, 0xff], &[0x08, 1, 0x18, 1]] {
            assert!(MemberChange::from_protobuf(foreign).is_err(), "{foreign:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Message::decode(&bytes);
        }
    }
}
