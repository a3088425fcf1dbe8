//! What a member is for and what it is to do now. Words only: who decides is the group's matter.

use serde::{Deserialize, Serialize};

/// What `al_serverrole` configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Triggers always, at once, whenever it is alive.
    Active,
    /// Triggers only while the active cannot.
    Backup,
    /// Triggers always, right after the active.
    Parallel,
    /// Votes only: no AES, no phantoms, no audio.
    Witness,
}

impl Role {
    /// The word that users write.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Backup => "backup",
            Self::Parallel => "parallel",
            Self::Witness => "witness",
        }
    }
}

/// What a member is to do at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duty {
    /// Trigger at once.
    Lead,
    /// Trigger right after the lead.
    Follow,
    /// Track the calls, and be ready.
    Standby,
    /// Nothing.
    None,
}

impl Duty {
    /// The word that users see.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lead => "lead",
            Self::Follow => "follow",
            Self::Standby => "standby",
            Self::None => "none",
        }
    }
}
