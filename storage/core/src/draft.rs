//! A recording while its call goes on: what is known of the call so far, in wall time, because
//! the timeline's zero (the first audio) is not fixed before the sealer has seen every packet.
//!
//! The draft is written into the capture journal whenever it changes, so a crash loses nothing.

use serde::{Deserialize, Serialize};

use crate::ids::{Extension, NodeId, RecordingId, Ucid};
use crate::record::{Direction, Scope, TriggerKind};
use crate::time::WallTime;

/// A stretch of wall time; still open while `to` is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Its begin.
    pub from: WallTime,
    /// Its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<WallTime>,
}

/// Somebody's presence in the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Extension, outside number, or trunk (`T<group>#<member>`).
    pub who: String,
    /// When.
    #[serde(flatten)]
    pub stretch: Stretch,
    /// When it had the call on hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Stretch>,
}

/// Why a pause ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resumed {
    /// Somebody resumed the recording.
    Person,
    /// It had lasted as long as it may.
    Timeout,
    /// The recording ended.
    End,
}

/// Names a pause in the whole group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PauseId {
    /// Where it was asked for.
    pub node: NodeId,
    /// When, by that node's clock, microseconds.
    pub at: i64,
}

/// A stretch in which nothing was to be captured, on whatever node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Which, or of several at one time the one that lasts longest; absent in what an earlier build wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<PauseId>,
    /// When.
    #[serde(flatten)]
    pub stretch: Stretch,
    /// When it ends by itself.
    pub until: WallTime,
    /// Who asked for it; empty if that is not known.
    #[serde(default)]
    pub by: String,
    /// Why it ended; absent while it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<Resumed>,
}

impl Pause {
    /// Ends it, if it goes on.
    pub fn end(&mut self, at: WallTime, why: Resumed) {
        if self.stretch.to.is_none() {
            self.stretch.to = Some(at.max(self.stretch.from));
            self.resumed = Some(why);
        }
    }
}

/// Why a recording ended on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// There was nothing more to record.
    Over,
    /// Somebody stopped it.
    Stopped,
    /// Another node went on with it, or was to.
    Yielded,
}

/// An open recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// Its name, given when it was opened.
    pub recordingid: RecordingId,
    /// The group's name of it, where another node was first to claim the call; absent where that
    /// is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<RecordingId>,
    /// The node that opened it.
    pub node: NodeId,
    /// 1, or 2 from a parallel recorder.
    pub copy: u8,
    /// Which recording of the call in this copy, from 1.
    #[serde(default = "first_take")]
    pub take: u16,
    /// What it follows.
    pub scope: Scope,
    /// Who asked for it.
    pub trigger: TriggerKind,
    /// Name of the rule that decided; empty if none did.
    pub rule: String,
    /// The call's identity, if the switch gave one.
    pub ucid: Option<Ucid>,
    /// Other identities that the call, or parts of it, had: a merge may change them.
    pub formerucids: Vec<Ucid>,
    /// The switch's numbers of the call, in order.
    pub callids: Vec<String>,
    /// The monitored station for which it is made.
    pub extension: Extension,
    /// Agent logged in there; empty if none is known.
    pub agentid: String,
    /// Calling number.
    pub calling: String,
    /// Called number.
    pub called: String,
    /// Which way the call goes.
    pub direction: Direction,
    /// Trunk group; empty for an internal call.
    pub trunkgroup: String,
    /// Trunk member; empty for an internal call.
    pub trunkmember: String,
    /// VDN that distributed the call; empty if none.
    pub vdn: String,
    /// Split or skill; empty if none.
    pub split: String,
    /// User-to-user information as text; empty if none.
    pub userdata: String,
    /// Who is and was in the call.
    pub parties: Vec<Presence>,
    /// When it was opened: when a phantom was first asked into the call.
    pub opened: WallTime,
    /// Since when the call should have been recorded, where that was much earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<WallTime>,
    /// When it ended; absent while the call goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<WallTime>,
    /// Why it ended; absent while it goes on, and where only a crash is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,
    /// The call ended while nobody recorded it (a crash), so what came after the last audio is not
    /// known.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cutshort: bool,
    /// The node that opened it began anew while it went on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub resumed: bool,
    /// When it was paused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<Pause>,
}

impl Draft {
    /// A draft that says nothing of its call yet.
    #[must_use]
    pub fn blank(recordingid: RecordingId, node: NodeId, opened: WallTime) -> Self {
        Self {
            recordingid,
            name: None,
            node,
            copy: 1,
            take: first_take(),
            scope: Scope::Station,
            trigger: TriggerKind::Rule,
            rule: String::new(),
            ucid: None,
            formerucids: Vec::new(),
            callids: Vec::new(),
            extension: Extension::new(""),
            agentid: String::new(),
            calling: String::new(),
            called: String::new(),
            direction: Direction::default(),
            trunkgroup: String::new(),
            trunkmember: String::new(),
            vdn: String::new(),
            split: String::new(),
            userdata: String::new(),
            parties: Vec::new(),
            opened,
            due: None,
            ended: None,
            ending: None,
            cutshort: false,
            resumed: false,
            pauses: Vec::new(),
        }
    }

    /// For a capture of which nothing else is left: it is better found without a name than lost.
    #[must_use]
    pub fn lost(recordingid: RecordingId, node: NodeId) -> Self {
        let opened = recordingid.made();
        let ended = Some(opened);
        let ending = Some(Ending::Over);
        Self { ended, ending, cutshort: true, ..Self::blank(recordingid, node, opened) }
    }

    /// Since when there should be audio.
    #[must_use]
    pub fn due(&self) -> WallTime {
        self.due.map_or(self.opened, |due| due.min(self.opened))
    }

    /// The name under which the group knows it and people find it.
    #[must_use]
    pub fn groupname(&self) -> RecordingId {
        self.name.unwrap_or(self.recordingid)
    }
}

const fn first_take() -> u16 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}
