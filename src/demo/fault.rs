//! What is broken and repaired while the calls go on, per scenario, as a list of steps; and the hand
//! that carries the steps out. Which calls are up meanwhile is in `script`.

use std::time::Duration;

use anyhow::{Result, bail};
use storage_core::NodeId;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until};

use crate::command::Scenario;

use super::site::{GroupSite, leads_alone};
use super::wires::Way;

/// The active node, on AES 0, and the other recorder.
pub const ACTIVE: NodeId = NodeId(1);
pub const OTHER: NodeId = NodeId(2);

/// Which part of the scenario's length passes before something breaks.
const BEFORE: (u32, u32) = (1, 4);
/// Recorders go on without the broken one for so long.
const BROKEN: Duration = Duration::from_secs(3);
/// Within this the other recorder must lead.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);
/// Within this the active must lead again: it starts, registers its phantoms, and proves itself.
const HAND_BACK_LIMIT: Duration = Duration::from_secs(60);
/// Calls go on for so long after the last step.
const AFTER: Duration = Duration::from_secs(2);
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// `kill -9`.
    Kill(NodeId),
    /// The process is started again.
    Start(NodeId),
    /// The network between the node and the other members drops everything.
    CutOff(NodeId),
    /// It carries again.
    Heal(NodeId),
    /// The connection to an AES breaks and is refused for so long.
    CutAes(usize, Duration),
    /// Nothing, until this node leads recording.
    AwaitLead(NodeId),
    /// Nothing, until this node leads recording and nobody else says that it does.
    AwaitLeadAlone(NodeId),
    /// Nothing for so long.
    Wait(Duration),
}

/// When something begins to go wrong, after the first call.
pub fn first_fault(length: Duration) -> Duration {
    length * BEFORE.0 / BEFORE.1
}

/// What happens in a scenario, one after the other, from [`first_fault`] on.
pub fn steps(scenario: Scenario) -> Vec<Act> {
    let returns = [Act::AwaitLeadAlone(ACTIVE), Act::Wait(AFTER)];
    let mut steps = match scenario {
        Scenario::Single | Scenario::All => return Vec::new(),
        Scenario::HotStandby | Scenario::ZeroHole | Scenario::ActiveActive | Scenario::Trunk => {
            vec![Act::Kill(ACTIVE), Act::AwaitLead(OTHER), Act::Wait(BROKEN), Act::Start(ACTIVE)]
        }
        Scenario::Partition => vec![
            Act::CutOff(ACTIVE),
            // The active does not know of it and may go on saying that it leads.
            Act::AwaitLead(OTHER),
            Act::Wait(BROKEN),
            Act::Heal(ACTIVE),
        ],
        Scenario::AesDown => vec![Act::CutAes(0, BROKEN * 2), Act::AwaitLead(OTHER)],
    };
    steps.extend(returns);
    steps
}

impl Act {
    /// What a person is told when it happens.
    fn words(self) -> Option<String> {
        Some(match self {
            Self::Kill(node) => format!("kill -9 of recorder {node}"),
            Self::Start(node) => format!("Recorder {node} is started again"),
            Self::CutOff(node) => format!("Recorder {node} is cut off from the other members"),
            Self::Heal(node) => format!("Recorder {node} reaches the other members again"),
            Self::CutAes(aes, length) => {
                format!("The link to AES {aes} is cut for {} s", length.as_secs())
            }
            Self::AwaitLead(_) | Self::AwaitLeadAlone(_) | Self::Wait(_) => return None,
        })
    }

    async fn carry_out(self, group: &mut GroupSite) -> Result<()> {
        match self {
            Self::Kill(node) => group.member(node)?.node.kill().await?,
            Self::Start(node) => {
                let node = &mut group.member(node)?.node;
                node.start()?;
                node.ready(READY_LIMIT).await?;
            }
            Self::CutOff(node) => group.isolate(node, Way::Stalled),
            Self::Heal(node) => group.isolate(node, Way::Open),
            Self::CutAes(aes, length) => group.site.faults().cut_aes(aes, length),
            Self::AwaitLead(node) => {
                let what = format!("recorder {node} leads");
                let leads = |sight: &super::Sight| sight.node == node && sight.leads();
                group.until(&what, TAKEOVER_LIMIT, |seen| seen.iter().any(leads)).await?;
            }
            Self::AwaitLeadAlone(node) => {
                let what = format!("recorder {node} alone leads");
                group.until(&what, HAND_BACK_LIMIT, |seen| leads_alone(seen, node)).await?;
            }
            Self::Wait(length) => tokio::time::sleep(length).await,
        }
        Ok(())
    }
}

/// Carries the steps out, the first at `begin`, and says what happens.
///
/// # Errors
/// The first step that does not go as it should; what is broken then is repaired all the same.
pub async fn carry_out(
    steps: &[Act],
    begin: Instant,
    group: &mut GroupSite,
    says: &UnboundedSender<String>,
) -> Result<()> {
    let say = |line: String| {
        // Nobody listens any more: then nobody needs to be told.
        drop(says.send(line));
    };
    sleep_until(begin).await;
    let mut broke = Instant::now();
    for (number, step) in steps.iter().enumerate() {
        if let Some(words) = step.words() {
            say(words);
            broke = Instant::now();
        }
        if let Err(error) = step.carry_out(group).await {
            for repair in steps[number + 1..].iter().filter(|step| step.repairs()) {
                // The first failure is the one that is told.
                drop(repair.carry_out(group).await);
            }
            bail!(error);
        }
        if let Act::AwaitLead(node) | Act::AwaitLeadAlone(node) = step {
            say(format!("Recorder {node} leads, {} ms later", broke.elapsed().as_millis()));
        }
    }
    Ok(())
}

impl Act {
    const fn repairs(self) -> bool {
        matches!(self, Self::Start(_) | Self::Heal(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_breaks_is_repaired_and_the_active_leads_in_the_end() {
        for scenario in [
            Scenario::HotStandby,
            Scenario::ZeroHole,
            Scenario::ActiveActive,
            Scenario::Trunk,
            Scenario::Partition,
            Scenario::AesDown,
        ] {
            let plan = steps(scenario);
            let at = |act: Act| plan.iter().position(|step| *step == act);
            for (breaks, repairs) in
                [(Act::Kill(ACTIVE), Act::Start(ACTIVE)), (Act::CutOff(ACTIVE), Act::Heal(ACTIVE))]
            {
                assert_eq!(at(breaks).is_some(), at(repairs).is_some(), "{scenario:?}");
                assert!(at(breaks) <= at(repairs), "{scenario:?}");
            }
            assert_eq!(plan.iter().rev().nth(1), Some(&Act::AwaitLeadAlone(ACTIVE)));
            assert!(plan.iter().any(|step| step.words().is_some()));
        }
        assert!(steps(Scenario::Single).is_empty());
    }
}
