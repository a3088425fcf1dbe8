//! The people of a site: they call, answer, hold, transfer and hang up through this handle.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::server::Inner;
use crate::switch::{AgentState, Extension, Refusal, Serial, Switch};
use crate::time::Time;
use crate::view::CallView;

/// How often a condition is looked at while nothing changes.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A call in progress, by its serial number. It stays valid across transfers as long as the
/// interaction lives under that number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CallRef {
    /// Number of the interaction.
    pub serial: u32,
}

/// The switch, as people use it. Every method acts at once; events have been queued to all CTI
/// links when it returns.
#[derive(Clone)]
pub struct SwitchHandle {
    inner: Arc<Inner>,
}

impl SwitchHandle {
    pub(crate) const fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    fn act<R>(&self, change: impl FnOnce(&mut Switch, Time) -> R) -> R {
        self.inner.act(|world, now| change(&mut world.switch, now))
    }

    /// A call comes in from outside to a VDN, a skill or a station.
    ///
    /// # Errors
    /// No trunk is free, nothing has the number dialled, or the station dialled is busy.
    pub fn inbound_call(&self, caller: &str, dialled: &str) -> Result<CallRef, Refusal> {
        self.inbound_call_with(caller, dialled, &[])
    }

    /// The same with user-to-user bytes.
    ///
    /// # Errors
    /// As `inbound_call`.
    pub fn inbound_call_with(
        &self,
        caller: &str,
        dialled: &str,
        user_data: &[u8],
    ) -> Result<CallRef, Refusal> {
        self.act(|switch, now| switch.inbound(now, caller, dialled, user_data)).map(call_ref)
    }

    /// One station calls another (or a VDN).
    ///
    /// # Errors
    /// The caller is busy or the number is unknown. A busy destination is a call that fails.
    pub fn internal_call(&self, from: &str, to: &str) -> Result<CallRef, Refusal> {
        self.outbound_call(from, to)
    }

    /// A station calls an outside number.
    ///
    /// # Errors
    /// The station is busy or unknown. Busy trunks are a call that fails.
    pub fn outbound_call(&self, station: &str, number: &str) -> Result<CallRef, Refusal> {
        self.act(|switch, now| switch.originate(now, &station.into(), number, &[])).map(call_ref)
    }

    /// A ringing station answers.
    ///
    /// # Errors
    /// Nothing rings there.
    pub fn answer(&self, station: &str) -> Result<CallRef, Refusal> {
        self.act(|switch, now| switch.answer(now, &station.into())).map(call_ref)
    }

    /// The outside party of an outbound call answers.
    ///
    /// # Errors
    /// It does not ring there.
    pub fn answer_outside(&self, call: CallRef) -> Result<(), Refusal> {
        self.act(|switch, now| switch.answer_outside(now, Serial(call.serial)))
    }

    /// A station puts its active call on hold.
    ///
    /// # Errors
    /// It has none.
    pub fn hold(&self, station: &str) -> Result<(), Refusal> {
        self.act(|switch, now| switch.hold(now, &station.into(), None))
    }

    /// A station takes its held call back.
    ///
    /// # Errors
    /// It has none, or is active in another call.
    pub fn retrieve(&self, station: &str) -> Result<(), Refusal> {
        self.act(|switch, now| switch.retrieve(now, &station.into(), None))
    }

    /// A station holds its call and calls somebody else.
    ///
    /// # Errors
    /// It has no active call, or the number is impossible.
    pub fn consult(&self, station: &str, other: &str) -> Result<CallRef, Refusal> {
        self.act(|switch, now| switch.consult(now, &station.into(), None, other)).map(call_ref)
    }

    /// Connects the held call with the other one and leaves.
    ///
    /// # Errors
    /// Not one of each, or too many parties.
    pub fn transfer(&self, station: &str) -> Result<(), Refusal> {
        self.act(|switch, now| switch.transfer(now, &station.into(), None)).map(|_| ())
    }

    /// Makes one call of the held and the active one.
    ///
    /// # Errors
    /// Not one of each, or too many parties.
    pub fn conference(&self, station: &str) -> Result<(), Refusal> {
        self.act(|switch, now| switch.conference(now, &station.into(), None)).map(|_| ())
    }

    /// Sends the active call to another station and leaves.
    ///
    /// # Errors
    /// No active call, or it cannot ring there.
    pub fn single_step_transfer(&self, station: &str, to: &str) -> Result<(), Refusal> {
        let (station, to) = (Extension::from(station), Extension::from(to));
        self.act(|switch, now| switch.single_step_transfer(now, &station, None, &to)).map(|_| ())
    }

    /// A station picks up what rings at another.
    ///
    /// # Errors
    /// Nothing rings there, or the station is busy.
    pub fn pickup(&self, station: &str, alerting: &str) -> Result<CallRef, Refusal> {
        let (station, alerting) = (Extension::from(station), Extension::from(alerting));
        self.act(|switch, now| switch.pickup(now, &station, &alerting)).map(call_ref)
    }

    /// A ringing call goes to another station.
    ///
    /// # Errors
    /// Nothing rings there, or it cannot ring at the other.
    pub fn divert(&self, from: &str, to: &str) -> Result<(), Refusal> {
        let (from, to) = (Extension::from(from), Extension::from(to));
        self.act(|switch, now| switch.divert(now, &from, &to))
    }

    /// A station hangs up its active (or ringing, or failed) call.
    ///
    /// # Errors
    /// It has none.
    pub fn hangup(&self, station: &str) -> Result<(), Refusal> {
        self.act(|switch, now| switch.hang_up(now, &station.into()))
    }

    /// The outside party hangs up.
    ///
    /// # Errors
    /// The call is over, or has no outside party.
    pub fn hangup_outside(&self, call: CallRef) -> Result<(), Refusal> {
        self.act(|switch, now| switch.hang_up_outside(now, Serial(call.serial)))
    }

    /// All persons hang up, one after another; recorders stay until they leave.
    pub fn hangup_all(&self, call: CallRef) {
        self.act(|switch, now| switch.hang_up_people(now, Serial(call.serial)));
    }

    /// Changes the state of an agent.
    ///
    /// # Errors
    /// No such agent.
    pub fn set_agent(&self, agent: &str, state: AgentState) -> Result<(), Refusal> {
        self.act(|switch, now| switch.set_agent(now, agent, state))
    }

    /// An agent who is logged out logs in at this telephone.
    ///
    /// # Errors
    /// No such agent or telephone, he is logged in already, or somebody else is there.
    pub fn log_on(&self, agent: &str, station: &str) -> Result<(), Refusal> {
        self.act(|switch, now| switch.log_on(now, agent, &station.into()))
    }

    /// Telephones without any call.
    #[must_use]
    pub fn free_telephones(&self) -> Vec<String> {
        self.inner
            .read(|world, _| world.switch.free_telephones().map(ToString::to_string).collect())
    }

    /// A call in progress.
    #[must_use]
    pub fn call(&self, call: CallRef) -> Option<CallView> {
        self.inner.read(|world, now| {
            let call = world.switch.call_of(Serial(call.serial)).ok()?;
            Some(CallView::new(call, now, &self.inner.clock))
        })
    }

    /// Waits until a condition on a call in progress holds (`None` once it is over).
    ///
    /// Returns whether the condition came true in time.
    pub async fn wait(
        &self,
        call: CallRef,
        limit: Duration,
        condition: impl Fn(Option<&CallView>) -> bool,
    ) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            let mut change = std::pin::pin!(self.inner.change());
            // From here on no change is missed.
            change.as_mut().enable();
            if condition(self.call(call).as_ref()) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            // The number of frames grows without any change, so it looks again now and then.
            let again = deadline.min(Instant::now() + LOOK_AGAIN);
            // Either way it looks again.
            let _ = tokio::time::timeout_at(again, change).await;
        }
    }

    /// Waits until it rings somewhere and tells where.
    pub async fn wait_alerting(&self, call: CallRef, limit: Duration) -> Option<String> {
        let rings = |view: Option<&CallView>| view.is_none_or(|view| view.alerting().is_some());
        self.wait(call, limit, rings).await;
        self.call(call)?.alerting().map(str::to_owned)
    }
}

const fn call_ref(serial: Serial) -> CallRef {
    CallRef { serial: serial.0 }
}
