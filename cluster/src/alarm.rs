//! What a person has to know about the group, in words that name the thing and the remedy.

use cluster_core::{Alarm, Refusal};
use storage_core::NodeId;

use crate::log_store::LogError;
use crate::marker::MarkerError;

/// Something is wrong, and the member goes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupAlarm {
    /// Two members do not talk.
    #[error("no link with node {node}: {reason}")]
    PeerRefuses {
        /// With whom.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// Somebody wanted in and was turned away.
    #[error("turned away: {reason}")]
    TurnedAway {
        /// Who, and why.
        reason: String,
    },
    /// The group does not know this member.
    #[error("node {node} is not a member of the group it found: add it there with `add member`")]
    NotMember {
        /// This member.
        node: NodeId,
    },
    /// The group refuses what this member is configured for.
    #[error("the group refuses this node's configuration: {reason}")]
    AnnounceRefused {
        /// Why.
        reason: Refusal,
    },
    /// There is no room for the log but what was kept for it.
    #[error(
        "{} has no room left: the log of the group lives on what was kept for it there, and when that is used up this \
         node leaves the group and ends", folder.display()
    )]
    LogFull {
        /// The log's folder.
        folder: std::path::PathBuf,
    },
    /// A peer's clock is far from this one's.
    #[error("the clock of node {node} is {} this node's: check NTP on both", apart(*offset_ms))]
    ClockOff {
        /// Whose.
        node: NodeId,
        /// How far, milliseconds.
        offset_ms: i64,
    },
}

/// How far a clock is off, in whole seconds where that is much.
fn apart(offset_ms: i64) -> String {
    let way = if offset_ms < 0 { "behind" } else { "ahead of" };
    match offset_ms.unsigned_abs() {
        ms @ ..1000 => format!("{ms} ms {way}"),
        ms => format!("{} s {way}", (ms + 500) / 1000),
    }
}

/// The member cannot go on; the process is to end.
#[derive(Debug, thiserror::Error)]
pub enum GroupFailure {
    /// The log cannot be kept.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The mark on the disk cannot be kept.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// What must never happen.
    #[error(transparent)]
    Alarm(#[from] Alarm),
    /// A peer knows this member with another disk.
    #[error("node {by} refuses this node: {reason}")]
    OtherDisk {
        /// Who.
        by: NodeId,
        /// In its words.
        reason: String,
    },
    /// What this member is configured for would harm one that lives.
    #[error(
        "the group refuses this node's configuration: {reason}. Correct al_phantoms of this node or \
         of the other, and start both"
    )]
    Misconfigured {
        /// Why.
        reason: Refusal,
    },
    /// This member was removed from the group.
    #[error(
        "node {by} says that this node was removed from the group. To bring the machine back, \
         empty the group's folder and add it under a number that was never used"
    )]
    Removed {
        /// Who.
        by: NodeId,
    },
}

impl GroupFailure {
    /// It, and what is behind it: which file, and what the operating system said of it.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = self.to_string();
        let mut error: &dyn std::error::Error = self;
        while let Some(source) = error.source() {
            words.push_str(&format!(": {source}"));
            error = source;
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_with_its_way() {
        for (offset_ms, words) in [
            (51, "is 51 ms ahead of this node's"),
            (-999, "is 999 ms behind this node's"),
            (-3_599_999, "is 3600 s behind this node's"),
            (3_600_001, "is 3600 s ahead of this node's"),
        ] {
            let told = GroupAlarm::ClockOff { node: NodeId(2), offset_ms }.to_string();
            assert!(told.contains(words), "{told}");
        }
    }

    #[test]
    fn a_failure_says_what_is_behind_it() {
        let source = std::io::ErrorKind::ReadOnlyFilesystem.into();
        let failure =
            GroupFailure::from(LogError::Io { doing: "write", path: "/group/log".into(), source });
        assert_eq!(
            failure.in_words(),
            "cannot write /group/log: read-only filesystem or storage medium"
        );
    }
}
