//! A sealed recording as users see it: one JSON object, the same over WebSocket, in the file
//! beside the voice file, and in the catalog. Positions (`…ms`) count from the first audio.

use serde::{Deserialize, Serialize};

use crate::archived::Archived;
use crate::hold::HoldMark;
use crate::ids::{Extension, NodeId, RecordingId, Ucid};
use crate::marks::{Note, Score, TagMark};
use crate::time::WallTime;

/// Which way a call went, seen from the call centre.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From outside.
    #[default]
    Inbound,
    /// To outside.
    Outbound,
    /// Between stations of the switch.
    Internal,
}

impl Direction {
    /// The word that users and rules write.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Internal => "internal",
        }
    }
}

/// What a recording follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The monitored stations in the call.
    #[default]
    Station,
    /// The outside party, to whatever station it is taken, until it leaves.
    Trunk,
}

impl Scope {
    /// As it is written in records and requests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Station => "station",
            Self::Trunk => "trunk",
        }
    }
}

/// Who or what asked for the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TriggerKind {
    /// A recording rule.
    #[default]
    Rule,
    /// The agent.
    Agent,
    /// A supervisor.
    Supervisor,
    /// This node saw that nobody else recorded the call.
    Rescue,
    /// This node took over from another.
    Takeover,
}

impl TriggerKind {
    /// The word that users see, and the value of the metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Agent => "agent",
            Self::Supervisor => "supervisor",
            Self::Rescue => "rescue",
            Self::Takeover => "takeover",
        }
    }
}

/// Why a stretch of a recording holds no audio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GapCause {
    /// The network lost the packets.
    Loss,
    /// A recorder went away and another (or the same, restarted) went on.
    Takeover,
    /// Somebody paused the recording.
    Paused,
    /// The call was held and `al_hold = "skip"`.
    Hold,
    /// The switch sent nothing.
    NoMedia,
    /// There was no room to write it down.
    DiskFull,
}

/// Which voices of a call a channel of a voice file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The recorded station's own: the left channel.
    Agent,
    /// Everybody else's: the right channel.
    Others,
}

impl Side {
    /// In the order of the channels.
    pub const ALL: [Self; 2] = [Self::Agent, Self::Others];

    /// As it is written in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Others => "others",
        }
    }
}

/// A stretch without audio; the voice file holds silence of the same length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Where it begins.
    pub startms: u64,
    /// Where audio goes on.
    pub endms: u64,
    /// Why.
    pub cause: GapCause,
    /// Of two channels the one that has no audio; absent where there is none at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
}

/// A stretch on a recording's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Where it begins.
    pub startms: u64,
    /// Where it ends.
    pub endms: u64,
}

/// A stretch that was not to be recorded; the voice file holds silence of the same length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Where it begins.
    pub startms: u64,
    /// Where it ends.
    pub endms: u64,
    /// Who asked for it; empty if that is not known.
    #[serde(default)]
    pub by: String,
}

/// Who was in the call, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Extension, outside number, or trunk (`T<group>#<member>`).
    pub who: String,
    /// When it came.
    pub fromms: u64,
    /// When it left.
    pub toms: u64,
    /// When it had the call on hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Span>,
}

/// One stretch of media on one phantom, as it lies in the recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// The node that captured it.
    pub node: NodeId,
    /// The phantom that heard it.
    pub phantom: Extension,
    /// First audio.
    pub startms: u64,
    /// Last audio.
    pub endms: u64,
    /// Codec names as in `al_codecs`; several when it changed, joined by a comma.
    pub codec: String,
    /// Media packets that arrived.
    pub packets: u64,
    /// Packets missing by sequence number.
    pub lost: u64,
    /// Packets that arrived after a packet that follows them.
    pub late: u64,
    /// Packets that arrived again.
    pub duplicate: u64,
    /// Synchronisation sources in order of appearance (RFC 3550, 3), as eight hex digits.
    pub ssrcs: Vec<String>,
    /// By how much the clock of the node that captured it was ahead of the owner's, as it was
    /// measured when the two were joined, milliseconds; absent where the owner captured it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clockoffsetms: Option<f64>,
    /// Which side of the call it heard; absent where it heard all in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
}

/// How it was found where a capture lies beside another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeamMethod {
    /// By what both of them hear.
    Content,
    /// By the clocks of their nodes: they do not overlap, or what they hear does not tell.
    Time,
}

/// Where one capture ends and another one goes on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seam {
    /// Where the later one goes on.
    pub atms: u64,
    /// The node that captured what is before it.
    pub from: NodeId,
    /// The node that captured what is behind it; the same one where a phantom was replaced.
    pub to: NodeId,
    /// How the later one's place was found.
    pub method: SeamMethod,
    /// By how much the later one was moved from where the clocks put it, milliseconds; positive for
    /// later.
    pub shiftms: f64,
    /// How sure that is, 0 to 1; absent where it was not found by content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
}

/// What the network did to the audio.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// Lost packets to expected packets, 0 to 1.
    pub lossratio: f64,
    /// Mean interarrival jitter (RFC 3550, 6.4.1), milliseconds.
    pub jitterms: f64,
    /// Estimated mean opinion score; absent while it is not computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mos: Option<f64>,
    /// Whether one side was silent throughout; absent while it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oneway: Option<bool>,
    /// How fast the sender's clock ran against ours, parts per million.
    pub clockdriftppm: f64,
    /// The longest stretch that the network lost, milliseconds.
    #[serde(default)]
    pub longestlossms: u64,
    /// Level of the talk, dB below a full-scale sine; absent if nobody speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leveldb: Option<f64>,
    /// Samples at the codec's largest value, to all samples.
    #[serde(default)]
    pub clippedratio: f64,
    /// The longest stretch in which nobody speaks, milliseconds; what is missing is none.
    #[serde(default)]
    pub deadairms: u64,
}

/// Form of a voice file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VoiceFormat {
    /// WAV with 16-bit linear PCM.
    Wav,
    /// WAV with G.711 as it was received.
    #[default]
    WavG711,
    /// Ogg Opus.
    Opus,
}

impl VoiceFormat {
    /// Ending of the voice file's name.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Wav | Self::WavG711 => "wav",
            Self::Opus => "opus",
        }
    }
}

/// A sealed recording. Field names are the outside contract.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recording {
    /// Version of this form, so that a later program knows what it reads.
    #[serde(default = "first_version")]
    pub version: u32,
    /// Its name.
    pub recordingid: RecordingId,
    /// Counts its completions, from 1: a capture that was out of reach when it was sealed makes
    /// another.
    #[serde(default = "first_revision")]
    pub revision: u32,
    /// The call's identity, if the switch gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ucid: Option<Ucid>,
    /// Identities that parts of the call had before they were merged into it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formerucids: Vec<Ucid>,
    /// The switch's numbers of the call, in order.
    pub callids: Vec<String>,
    /// The monitored station for which it was made; for scope `trunk` the station that served the
    /// call when it began.
    pub extension: Extension,
    /// Agent logged in there; empty if none was known.
    pub agentid: String,
    /// Calling number.
    pub calling: String,
    /// Called number.
    pub called: String,
    /// Which way the call went.
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
    /// Who was in the call.
    pub parties: Vec<Party>,
    /// First audio.
    pub started: WallTime,
    /// End of the audio.
    pub ended: WallTime,
    /// Length of the voice file.
    pub durationms: u64,
    /// What it follows.
    pub scope: Scope,
    /// Who asked for it.
    pub trigger: TriggerKind,
    /// Name of the rule that decided; empty if none did.
    pub rule: String,
    /// 1, or 2 from a parallel recorder.
    pub copy: u8,
    /// The node that owns it.
    pub node: NodeId,
    /// The recording whose holes were filled in this one; absent if it was not made so. That one is as
    /// it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repairof: Option<RecordingId>,
    /// The other copy of the call that they were filled from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repairedfrom: Option<RecordingId>,
    /// Its stretches of media.
    pub segments: Vec<Segment>,
    /// Where captures were joined, in order; none if there is only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seams: Vec<Seam>,
    /// Where no audio is, and why.
    pub gaps: Vec<Gap>,
    /// Where somebody paused it.
    pub pauses: Vec<Pause>,
    /// Where somebody pressed a key, milliseconds. Which one is not kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keysms: Vec<u64>,
    /// Where the tones of keys were taken out (`al_keytones = "mask"`): silence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<Span>,
    /// Whether everything that can be had is in it. What nobody captured (a takeover's hole, what
    /// the network lost) is declared in `gaps` and does not make it incomplete.
    pub complete: bool,
    /// Nobody saw how the call ended, or the disk has lost captured audio: it will never be complete,
    /// whatever else is found.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cutshort: bool,
    /// What the network did to it.
    pub quality: Quality,
    /// Form of the voice file.
    pub format: VoiceFormat,
    /// Size of the voice file.
    pub bytes: u64,
    /// SHA-256 of the voice file, lower-case hex.
    pub sha256: String,
    /// Whether the voice file beside this record lies encrypted; in a list, on its owner's disk. Length
    /// and checksum are those of the plain file all the same, because that is what everybody is given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encrypted: bool,
    /// What people called it, in alphabetical order.
    pub tags: Vec<String>,
    /// The last change of each tag, those that were removed among them, in alphabetical order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tagmarks: Vec<TagMark>,
    /// What people wrote about it, the oldest first.
    pub notes: Vec<Note>,
    /// How people judged the call, the oldest first; of each of them the last judgement by each
    /// scorecard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Score>,
    /// Legal hold.
    pub hold: bool,
    /// Who set the last legal hold, why, and who wished to release it; absent if there never was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holdmark: Option<HoldMark>,
    /// Where it lies in the archive, since it was read back from there; absent while it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archived: Option<Archived>,
}

const fn first_revision() -> u32 {
    1
}

const fn first_version() -> u32 {
    Recording::VERSION
}

impl Recording {
    /// Whether audio is missing for which a recorder is to blame: what people look for who ask for
    /// incomplete recordings.
    #[must_use]
    pub fn lacks_audio(&self) -> bool {
        let ours = |gap: &Gap| matches!(gap.cause, GapCause::Takeover | GapCause::DiskFull);
        !self.complete || self.gaps.iter().any(ours)
    }

    /// The version that this program writes.
    pub const VERSION: u32 = 1;
}
