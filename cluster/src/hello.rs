//! The first words on a connection: who speaks, for which group, in which version of the protocol,
//! from which disk. It decides whether the two may talk at all, and says clearly why not.
//!
//! Hello and answer open with four letters and the version, and a refusal is plain text, so that
//! programs of any two versions can tell each other why they do not talk.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use storage_core::NodeId;

use crate::marker::{ClusterId, DiskId};

/// The version of what follows the hello.
pub const PROTOCOL_VERSION: u16 = 1;
const MAGIC: [u8; 4] = *b"ALGP";
/// Longest hello or answer.
pub(crate) const HELLO_MAX: usize = 64 * 1024;

/// What the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// Raft messages and pings, for as long as both live.
    Link,
    /// One request and its answer.
    Request,
}

/// How far a member is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// It has no log yet.
    Fresh,
    /// It is in the group, whose members it knows.
    Member(Vec<NodeId>),
}

/// What a connection opens with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) purpose: Purpose,
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) disk: DiskId,
    /// Names the process: another one has another.
    pub(crate) process: u64,
    pub(crate) stage: Stage,
    /// Where the speaker listens, for members that have not heard of it yet.
    pub(crate) address: String,
}

/// What it is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) cluster: ClusterId,
    pub(crate) disk: DiskId,
    pub(crate) stage: Stage,
}

/// Why two members do not talk. The text is for people; the code is for the other side.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// Not our protocol at all.
    #[error("it does not speak this protocol")]
    Malformed,
    /// Another version of it.
    #[error(
        "it speaks version {theirs} of the peer protocol, this node speaks {ours}: install the same version on both"
    )]
    Version {
        /// Its version.
        theirs: u16,
        /// Ours.
        ours: u16,
    },
    /// It refused, and says why.
    #[error("it refused: {reason}")]
    Refused {
        /// What kind of refusal.
        code: RefusalCode,
        /// Its words.
        reason: String,
    },
    /// It belongs to another group.
    #[error(
        "it belongs to group {theirs}, this node to group {ours}: check al_peers and al_clusterca"
    )]
    OtherCluster {
        /// Its group.
        theirs: ClusterId,
        /// Ours.
        ours: ClusterId,
    },
    /// It is known with another disk.
    #[error(
        "node {node} came back with another disk than the one it had: if its disk was lost, remove \
         node {node} from the group and add it again under a number that was never used; if two \
         nodes have the number {node}, give one of them another"
    )]
    OtherDisk {
        /// Who.
        node: NodeId,
    },
    /// The certificate is another member's.
    #[error("its certificate is not node {node}'s")]
    OtherCertificate {
        /// Who it says it is.
        node: NodeId,
    },
    /// Another process with the same number is connected and alive.
    #[error("two nodes have the number {node} (al_nodeid): give one of them another")]
    Duplicate {
        /// The number.
        node: NodeId,
    },
    /// The connection was meant for somebody else.
    #[error("it was meant for node {meant}, this is node {own}: check the addresses in al_peers")]
    Astray {
        /// For whom.
        meant: NodeId,
        /// Who got it.
        own: NodeId,
    },
    /// It was removed from the group.
    #[error("node {node} was removed from the group; a number is never used again")]
    Removed {
        /// Who.
        node: NodeId,
    },
}

/// Kinds of refusal that the refused side acts upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// To be tried again later; a person may have to do something.
    Other,
    /// The refused member's disk is not the one it had. It must stop.
    OtherDisk,
    /// The refused member was removed. It must stop.
    Removed,
    /// Its number is in use.
    Duplicate,
}

impl RefusalCode {
    const fn byte(self) -> u8 {
        match self {
            Self::Other => 1,
            Self::OtherDisk => 2,
            Self::Removed => 3,
            Self::Duplicate => 4,
        }
    }

    const fn from_byte(byte: u8) -> Self {
        match byte {
            2 => Self::OtherDisk,
            3 => Self::Removed,
            4 => Self::Duplicate,
            _ => Self::Other,
        }
    }
}

impl HelloError {
    const fn code(&self) -> RefusalCode {
        match self {
            Self::OtherDisk { .. } => RefusalCode::OtherDisk,
            Self::Removed { .. } => RefusalCode::Removed,
            Self::Duplicate { .. } => RefusalCode::Duplicate,
            _ => RefusalCode::Other,
        }
    }
}

fn opening() -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    bytes
}

fn split(bytes: &[u8]) -> Result<(u16, &[u8]), HelloError> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(HelloError::Malformed)?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or(HelloError::Malformed)?;
    Ok((u16::from_le_bytes(*version), rest))
}

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        // Numbers only: there is nothing in it that postcard cannot write.
        postcard::to_extend(self, opening()).expect("a hello has a plain form")
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        let (theirs, rest) = split(bytes)?;
        if theirs != PROTOCOL_VERSION {
            return Err(HelloError::Version { theirs, ours: PROTOCOL_VERSION });
        }
        postcard::from_bytes(rest).map_err(|_| HelloError::Malformed)
    }
}

/// Who opens a connection, by the payload of its first frame behind the kind: for whatever carries
/// connections and treats members differently. `None` if it is no hello, or there is TLS around it.
#[must_use]
pub fn speaker(payload: &[u8]) -> Option<NodeId> {
    Hello::decode(payload).ok().map(|hello| hello.from)
}

/// The bytes of an answer.
pub(crate) fn encode_answer(answer: &Result<Welcome, HelloError>) -> Vec<u8> {
    let mut bytes = opening();
    match answer {
        Ok(welcome) => {
            bytes.push(0);
            // Numbers only, as above.
            postcard::to_extend(welcome, bytes).expect("a welcome has a plain form")
        }
        Err(error) => {
            bytes.push(error.code().byte());
            bytes.extend_from_slice(error.to_string().as_bytes());
            bytes
        }
    }
}

/// Reads an answer.
pub(crate) fn decode_answer(bytes: &[u8]) -> Result<Welcome, HelloError> {
    let (theirs, rest) = split(bytes)?;
    match rest.split_first().ok_or(HelloError::Malformed)? {
        (0, rest) if theirs == PROTOCOL_VERSION => {
            postcard::from_bytes(rest).map_err(|_| HelloError::Malformed)
        }
        (0, _) => Err(HelloError::Version { theirs, ours: PROTOCOL_VERSION }),
        (code, text) => Err(HelloError::Refused {
            code: RefusalCode::from_byte(*code),
            reason: String::from_utf8_lossy(text).into_owned(),
        }),
    }
}

/// The name of a group without certificates: drawn from its first list of members, so that two
/// lists that differ do not meet by accident.
pub(crate) fn cluster_of_peers(peers: &BTreeMap<NodeId, String>) -> ClusterId {
    let mut digest = Sha256::new();
    for (node, address) in peers {
        digest.update(format!("{node}={address}\n"));
    }
    let mut id = [0; 16];
    id.copy_from_slice(&digest.finalize()[..16]);
    ClusterId(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hello() -> Hello {
        Hello {
            purpose: Purpose::Link,
            from: NodeId(1),
            to: NodeId(2),
            cluster: ClusterId([3; 16]),
            disk: DiskId([4; 16]),
            process: 5,
            stage: Stage::Member(vec![NodeId(1), NodeId(2)]),
            address: "10.0.0.1:7400".into(),
        }
    }

    #[test]
    fn a_hello_survives_and_another_version_is_named() {
        let mut bytes = hello().encode();
        assert_eq!(Hello::decode(&bytes), Ok(hello()));
        assert_eq!((speaker(&bytes), speaker(&bytes[1..])), (Some(NodeId(1)), None));
        bytes[4] = 9;
        assert_eq!(Hello::decode(&bytes), Err(HelloError::Version { theirs: 9, ours: 1 }));
    }

    #[test]
    fn a_refusal_is_understood_by_any_version() {
        let mut bytes = encode_answer(&Err(HelloError::Removed { node: NodeId(7) }));
        bytes[4] = 200;
        let Err(HelloError::Refused { code, reason }) = decode_answer(&bytes) else { panic!() };
        assert_eq!(code, RefusalCode::Removed);
        assert!(reason.contains("node 7"), "{reason}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Hello::decode(&bytes);
            let _ = decode_answer(&bytes);
        }
    }
}
