//! Agents: who is logged in where, in which state, and who has been idle the longest.

use super::{ConnectionState, Extension, Refusal, StationKind, Switch};
use crate::config::AgentConfig;
use crate::time::Time;

/// Work state of an agent between calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AgentState {
    /// Takes calls.
    Ready,
    /// Takes none; the reason code.
    NotReady(u16),
    /// Writes up the last call.
    AfterCall,
    /// Not there.
    LoggedOff,
}

/// One agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Agent {
    /// The telephone.
    pub station: Extension,
    /// Skills served.
    pub skills: Vec<Extension>,
    /// State.
    pub state: AgentState,
}

/// What changed about an agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentEvent {
    /// Login ID.
    pub agent: String,
    /// The telephone.
    pub station: Extension,
    /// One skill; log-on and log-off are told for each.
    pub skill: Extension,
    /// What changed.
    pub change: AgentChange,
}

/// Kinds of change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AgentChange {
    /// Logged in.
    LoggedOn,
    /// Logged out.
    LoggedOff,
    /// A new work state.
    State(AgentState),
}

impl Agent {
    pub(super) fn new(config: &AgentConfig) -> Self {
        Self {
            station: Extension::from(config.station.as_str()),
            skills: config.skills.iter().map(|skill| Extension::from(skill.as_str())).collect(),
            state: AgentState::Ready,
        }
    }
}

impl Switch {
    /// Changes an agent's state; a log-on or log-off is one too.
    ///
    /// # Errors
    /// No such agent.
    pub fn set_agent(&mut self, now: Time, id: &str, state: AgentState) -> Result<(), Refusal> {
        self.now = now;
        let agent = self.agents.get_mut(id).ok_or_else(|| Refusal::NoSuchNumber(id.to_owned()))?;
        let before = std::mem::replace(&mut agent.state, state);
        let change = match (before, state) {
            (same, new) if same == new => return Ok(()),
            (AgentState::LoggedOff, _) => AgentChange::LoggedOn,
            (_, AgentState::LoggedOff) => AgentChange::LoggedOff,
            (_, new) => AgentChange::State(new),
        };
        let events = agent.skills.iter().map(|skill| AgentEvent {
            agent: id.to_owned(),
            station: agent.station.clone(),
            skill: skill.clone(),
            change,
        });
        self.agent_events.extend(events);
        self.serve_queues();
        Ok(())
    }

    /// An agent logs in at a telephone, and is ready.
    ///
    /// # Errors
    /// No such agent or telephone, he is logged in already, or somebody else is there.
    pub fn log_on(&mut self, now: Time, id: &str, station: &Extension) -> Result<(), Refusal> {
        if self.station_kind(station) != Some(StationKind::Telephone) {
            return Err(Refusal::NotAStation(station.clone()));
        }
        if self.agent_at(station).is_some() {
            return Err(Refusal::Busy(station.clone()));
        }
        let agent = self.agents.get_mut(id).ok_or_else(|| Refusal::NoSuchNumber(id.to_owned()))?;
        if agent.state != AgentState::LoggedOff {
            return Err(Refusal::WrongState(id.to_owned()));
        }
        agent.station = station.clone();
        self.set_agent(now, id, AgentState::Ready)
    }

    /// The telephones at which agents of a skill are logged in, in order.
    #[must_use]
    pub fn logged_on(&self, skill: &Extension) -> Vec<&Extension> {
        let there =
            |agent: &&Agent| agent.state != AgentState::LoggedOff && agent.skills.contains(skill);
        let mut stations: Vec<_> =
            self.agents.values().filter(there).map(|agent| &agent.station).collect();
        stations.sort();
        stations
    }

    /// The agent at a station.
    #[must_use]
    pub fn agent_at(&self, station: &Extension) -> Option<(&str, &Agent)> {
        self.agents
            .iter()
            .find(|(_, agent)| agent.station == *station && agent.state != AgentState::LoggedOff)
            .map(|(id, agent)| (id.as_str(), agent))
    }

    /// Whether a station has a call that is not on hold.
    #[must_use]
    pub fn talks(&self, station: &Extension) -> bool {
        self.find_at(station, ConnectionState::Connected).is_some()
    }

    /// Station of the agent of a skill who has been without calls the longest.
    pub(super) fn longest_idle(&self, skill: &Extension) -> Option<Extension> {
        self.agents
            .values()
            .filter(|agent| agent.state == AgentState::Ready && agent.skills.contains(skill))
            .filter(|agent| self.calls_at(&agent.station).is_empty())
            .filter_map(|agent| {
                let station = self.stations.get(&agent.station)?;
                (!station.busied_out).then_some((station.idle_since, &agent.station))
            })
            .min()
            .map(|(_, station)| station.clone())
    }
}
