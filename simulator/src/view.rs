//! What tests and the demonstration see of calls: plain values, with wall times.

use std::time::SystemTime;

use crate::clock::Clock;
use crate::media::StreamRecord;
use crate::switch::{Call, ConnectionState, Device, Direction, Finished};
use crate::time::Time;

/// One party of a call in progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartyView {
    /// Extension, or trunk as `T12#3`.
    pub device: String,
    /// Number: the extension, or the outside number.
    pub number: String,
    /// Connection state.
    pub state: ConnectionState,
    /// Whether it is a recorder's phantom.
    pub recorder: bool,
}

/// A call in progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallView {
    /// Number of the interaction; the time code carries it.
    pub serial: u32,
    /// UCID.
    pub ucid: String,
    /// UCIDs of calls merged into it.
    pub former_ucids: Vec<String>,
    /// Call ID of the moment.
    pub call_id: u32,
    /// Where it came from.
    pub direction: Direction,
    /// Who called.
    pub calling: String,
    /// What was dialled.
    pub called: String,
    /// Who is in it, recorders too.
    pub parties: Vec<PartyView>,
    /// Skill at whose queue it waits.
    pub queued_at: Option<String>,
    /// When it began.
    pub started: SystemTime,
    /// When it was first answered: frame 0.
    pub established: Option<SystemTime>,
    /// Frames since then.
    pub frames: u32,
}

impl CallView {
    pub(crate) fn new(call: &Call, now: Time, clock: &Clock) -> Self {
        Self {
            serial: call.serial.0,
            ucid: call.ucid.to_string(),
            former_ucids: call.former_ucids.iter().map(ToString::to_string).collect(),
            call_id: call.id.0,
            direction: call.direction,
            calling: call.calling.0.clone(),
            called: call.called.0.clone(),
            parties: call
                .parties
                .iter()
                .map(|party| PartyView {
                    device: device_name(&party.device),
                    number: party.number.0.clone(),
                    state: party.state,
                    recorder: party.recorder,
                })
                .collect(),
            queued_at: call.queued_at.as_ref().map(ToString::to_string),
            started: clock.wall(call.started),
            established: call.established.map(|at| clock.wall(at)),
            frames: call.established.map_or(0, |at| now.frames_since(at)),
        }
    }

    /// The phantoms in it.
    #[must_use]
    pub fn recorders(&self) -> Vec<&str> {
        let recorders = self.parties.iter().filter(|party| party.recorder);
        recorders.map(|party| party.device.as_str()).collect()
    }

    /// The extension where it rings.
    #[must_use]
    pub fn alerting(&self) -> Option<&str> {
        let party = self.parties.iter().find(|party| party.state == ConnectionState::Alerting)?;
        Some(&party.device)
    }

    /// State of one party by its extension or trunk.
    #[must_use]
    pub fn state_of(&self, device: &str) -> Option<ConnectionState> {
        self.parties.iter().find(|party| party.device == device).map(|party| party.state)
    }
}

/// A call that is over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FinishedCall {
    /// Number of the interaction.
    pub serial: u32,
    /// UCID it had at its end.
    pub ucid: String,
    /// UCIDs of calls merged into it.
    pub former_ucids: Vec<String>,
    /// The interaction it was merged into; such a call has ended as a call of its own only.
    pub merged_into: Option<u32>,
    /// Where it came from.
    pub direction: Direction,
    /// Who called.
    pub calling: String,
    /// What was dialled.
    pub called: String,
    /// VDN it came through.
    pub vdn: Option<String>,
    /// Skill it came through.
    pub skill: Option<String>,
    /// Trunk group of its outside party.
    pub trunk_group: Option<u16>,
    /// When it began.
    pub started: SystemTime,
    /// When it was first answered: frame 0. `None`: never.
    pub established: Option<SystemTime>,
    /// When it ended.
    pub ended: SystemTime,
    /// Frames between the two.
    pub frames: u32,
    /// Frames until fewer than two people were left in it: those that somebody could hear.
    pub frames_heard: u32,
    /// Stations that talked in it, in order; one may be there twice.
    pub stations: Vec<String>,
    /// Whether anybody ever answered.
    pub answered: bool,
    /// What was sent of it to whom.
    pub streams: Vec<StreamRecord>,
}

pub(crate) fn history(
    finished: &[Finished],
    records: &[StreamRecord],
    clock: &Clock,
) -> Vec<FinishedCall> {
    let mut by_serial = std::collections::BTreeMap::<u32, Vec<StreamRecord>>::new();
    for record in records {
        by_serial.entry(record.serial).or_default().push(record.clone());
    }
    finished
        .iter()
        .map(|over| {
            let call = &over.call;
            FinishedCall {
                serial: call.serial.0,
                ucid: call.ucid.to_string(),
                former_ucids: call.former_ucids.iter().map(ToString::to_string).collect(),
                merged_into: over.merged_into.map(|serial| serial.0),
                direction: call.direction,
                calling: call.calling.0.clone(),
                called: call.called.0.clone(),
                vdn: call.vdn.as_ref().map(ToString::to_string),
                skill: call.skill.as_ref().map(ToString::to_string),
                trunk_group: over.outside.as_ref().map(|(trunk, _)| trunk.group),
                started: clock.wall(call.started),
                established: call.established.map(|at| clock.wall(at)),
                ended: clock.wall(over.ended),
                frames: call.established.map_or(0, |at| over.ended.frames_since(at)),
                frames_heard: call
                    .established
                    .map_or(0, |at| call.lonely_since.unwrap_or(over.ended).frames_since(at)),
                stations: call.answered_by.iter().map(ToString::to_string).collect(),
                answered: call.established.is_some(),
                streams: by_serial.remove(&call.serial.0).unwrap_or_default(),
            }
        })
        .collect()
}

/// `31001` or `T12#3`.
pub(crate) fn device_name(device: &Device) -> String {
    match device {
        Device::Extension(extension) => extension.to_string(),
        Device::Trunk(trunk) => format!("T{}#{}", trunk.group, trunk.member),
    }
}
