//! What the trigger asks of the link: put a phantom into a call, take it out, look at a call. Each
//! is one request and one outcome; whether it is a good idea is decided elsewhere. A party that is
//! not watched is first given a name by the server.

use std::collections::BTreeMap;
use std::time::Duration;

use storage_core::{CallId, Extension};

use super::context::{Answer, Context, Purpose};
use super::device::{DeviceKey, Role};
use super::devices::{Devices, PATIENCE};
use super::error::{CstaError, ErrorCategory};
use super::fields::DeviceId;
use super::notice::Notice;
use super::request::Request;
use super::response::Response;
use super::setup::{call_snapshot, refusal};

/// How long the late answer to a join is still understood: without it a phantom that is in a call
/// after all would be nobody's.
const LATE: Duration = Duration::from_secs(60);
/// Names of parties that are not watched; beyond that they are asked for again.
const NAMES_MAX: usize = 4096;
/// Requests that wait for one party's name.
const WAITING_MAX: usize = 64;

/// Something the trigger asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Join { ticket: u64, call: CallId, party: Extension, phantom: Extension },
    Snapshot { call: CallId, party: Extension },
    Linkage { call: CallId, party: Extension },
}

impl Wish {
    const fn party(&self) -> &Extension {
        match self {
            Self::Join { party, .. }
            | Self::Snapshot { party, .. }
            | Self::Linkage { party, .. } => party,
        }
    }
}

/// What an open request of this part is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tap {
    /// The name of a party.
    Name(Extension),
    /// A wish itself.
    Wish(Wish),
    /// A join that has been told to have timed out.
    Late(Wish),
    /// Taking a phantom out of a call.
    Leave { phantom: Extension, call: CallId },
}

#[derive(Debug, Default)]
pub(super) struct Taps {
    names: BTreeMap<Extension, DeviceId>,
    waiting: BTreeMap<Extension, Vec<Wish>>,
    live: bool,
}

impl Taps {
    /// The session cannot be used; `open` are the requests whose answers will not come.
    pub fn pause(&mut self, cx: &mut Context, open: Vec<Tap>) {
        self.live = false;
        let error = CstaError::new(ErrorCategory::Unanswered, "the connection to the AES was lost");
        for tap in open {
            match tap {
                Tap::Wish(Wish::Join { ticket, phantom, .. }) => {
                    cx.wire.tell(Notice::JoinTimedOut { ticket, phantom });
                }
                Tap::Wish(wish) => refuse(cx, wish, error.clone()),
                Tap::Leave { phantom, call } => {
                    let error = error.clone();
                    cx.wire.tell(Notice::LeaveRefused { phantom, call, error });
                }
                Tap::Name(_) | Tap::Late(_) => {}
            }
        }
        for wish in std::mem::take(&mut self.waiting).into_values().flatten() {
            refuse(cx, wish, not_sent("the connection to the AES was lost"));
        }
    }

    /// A session is up.
    pub fn resume(&mut self, recovered: bool) {
        self.live = true;
        if !recovered {
            self.names.clear();
        }
    }

    /// Carries out a wish, or says why not.
    pub fn wish(&mut self, cx: &mut Context, devices: &Devices, wish: Wish) {
        if !self.live {
            refuse(cx, wish, not_sent("there is no session with the AES"));
            return;
        }
        let party = wish.party().clone();
        match devices.id_of(&party).or_else(|| self.names.get(&party)).cloned() {
            Some(name) => send(cx, devices, wish, &name),
            None => self.wait_for_name(cx, &party, wish),
        }
    }

    fn wait_for_name(&mut self, cx: &mut Context, party: &Extension, wish: Wish) {
        let waiting = self.waiting.entry(party.clone()).or_default();
        if waiting.len() == WAITING_MAX {
            refuse(cx, wish, not_sent("too many requests wait for the name of one party"));
            return;
        }
        waiting.push(wish);
        if waiting.len() > 1 {
            return;
        }
        let switch_name = cx.config.switch_name.as_str();
        let request = Request::GetThirdPartyDeviceId { switch_name, extension: party };
        let purpose = Purpose::Tap(Tap::Name(party.clone()));
        if let Err(error) = cx.wire.send(cx.now, &request, PATIENCE, purpose) {
            self.refuse_waiting(cx, party, &error);
        }
    }

    fn refuse_waiting(&mut self, cx: &mut Context, party: &Extension, error: &CstaError) {
        for wish in self.waiting.remove(party).unwrap_or_default() {
            refuse(cx, wish, error.clone());
        }
    }

    /// Takes one of our phantoms out of a call. Clearing anybody else's connection would end a
    /// real call (dossier 8.4), so a device that is not one of ours is refused here.
    pub fn leave(
        &mut self,
        cx: &mut Context,
        devices: &Devices,
        phantom: &Extension,
        call: &CallId,
    ) {
        let (phantom, call) = (phantom.clone(), call.clone());
        let sent = match devices.phantom_id(&phantom) {
            _ if !self.live => Err(not_sent("there is no session with the AES")),
            None => Err(not_sent("it is none of our phantoms, or not set up")),
            Some(id) => {
                let request = Request::Leave { call: &call, phantom: id };
                let tap = Tap::Leave { phantom: phantom.clone(), call: call.clone() };
                cx.wire.send(cx.now, &request, PATIENCE, Purpose::Tap(tap))
            }
        };
        if let Err(error) = sent {
            cx.wire.tell(Notice::LeaveRefused { phantom, call, error });
        }
    }

    /// The answer to a request of this part, or that none came; `invoke` is the request's number.
    pub fn answer(
        &mut self,
        cx: &mut Context,
        devices: &Devices,
        invoke: u16,
        tap: Tap,
        answer: Answer,
    ) {
        match tap {
            Tap::Name(party) => self.named(cx, devices, &party, answer),
            Tap::Wish(Wish::Join { ticket, phantom, .. }) if is_garbled(&answer) => {
                cx.wire.tell(Notice::JoinTimedOut { ticket, phantom });
            }
            Tap::Wish(wish @ Wish::Join { .. }) if is_unanswered(&answer) => {
                if let Wish::Join { ticket, phantom, .. } = &wish {
                    let (ticket, phantom) = (*ticket, phantom.clone());
                    cx.wire.tell(Notice::JoinTimedOut { ticket, phantom });
                }
                cx.wire.wait_for(invoke, Purpose::Tap(Tap::Late(wish)), cx.now + LATE);
            }
            Tap::Late(_) if is_unanswered(&answer) || is_garbled(&answer) => {}
            Tap::Wish(wish) | Tap::Late(wish) => granted(cx, devices, wish, answer),
            Tap::Leave { phantom, call } => {
                let notice = match answer {
                    Ok(Response::Done) => Notice::Left { phantom, call },
                    other => {
                        let error = refusal(cx, other);
                        Notice::LeaveRefused { phantom, call, error }
                    }
                };
                cx.wire.tell(notice);
            }
        }
    }

    fn named(&mut self, cx: &mut Context, devices: &Devices, party: &Extension, answer: Answer) {
        match answer {
            Ok(Response::DeviceId(name)) => {
                if self.names.len() == NAMES_MAX {
                    self.names.clear();
                }
                self.names.insert(party.clone(), name.clone());
                for wish in self.waiting.remove(party).unwrap_or_default() {
                    send(cx, devices, wish, &name);
                }
            }
            other => {
                let error = refusal(cx, other);
                self.refuse_waiting(cx, party, &error);
            }
        }
    }
}

fn is_unanswered(answer: &Answer) -> bool {
    matches!(answer, Err(error) if error.category == ErrorCategory::Unanswered)
}

/// An answer came and could not be understood, so what it said is not known.
fn is_garbled(answer: &Answer) -> bool {
    matches!(answer, Err(error) if error.category == ErrorCategory::BadAnswer)
}

fn not_sent(why: &str) -> CstaError {
    CstaError::new(ErrorCategory::NotSent, why)
}

fn send(cx: &mut Context, devices: &Devices, wish: Wish, party: &DeviceId) {
    let request = match &wish {
        Wish::Join { call, phantom, .. } => match devices.phantom_id(phantom) {
            Some(id) if devices.phantom_is_ready(phantom) => {
                Request::Join { party, call, phantom: id }
            }
            _ => {
                refuse(cx, wish, not_sent("the phantom is not registered"));
                return;
            }
        },
        Wish::Snapshot { call, .. } => Request::SnapshotCall { party, call },
        Wish::Linkage { call, .. } => Request::GetCallLinkage { party, call },
    };
    let purpose = Purpose::Tap(Tap::Wish(wish.clone()));
    if let Err(error) = cx.wire.send(cx.now, &request, PATIENCE, purpose) {
        refuse(cx, wish, error);
    }
}

fn refuse(cx: &mut Context, wish: Wish, error: CstaError) {
    cx.wire.tell(match wish {
        Wish::Join { ticket, phantom, .. } => Notice::JoinRefused { ticket, phantom, error },
        Wish::Snapshot { call, party } if error.is_gone() => {
            Notice::SnapshotCallGone { call, party }
        }
        Wish::Snapshot { call, .. } => Notice::SnapshotRefused { call, error },
        Wish::Linkage { call, .. } => Notice::Linkage { call, ucid: None },
    });
}

fn granted(cx: &mut Context, devices: &Devices, wish: Wish, answer: Answer) {
    match (&wish, answer) {
        (Wish::Join { ticket, call, phantom, .. }, Ok(Response::Joined(joined))) => {
            cx.wire.tell(Notice::Joined {
                ticket: *ticket,
                phantom: phantom.clone(),
                call: joined.call.unwrap_or_else(|| call.clone()),
                ucid: joined.ucid,
                parties: joined.parties,
            });
        }
        (Wish::Snapshot { call, party }, Ok(Response::Call(snapshot))) => {
            let station = || DeviceKey { role: Role::Station, extension: party.clone() };
            let key = devices.key_of(party).unwrap_or_else(station);
            cx.wire.tell(Notice::Snapshot(call_snapshot(&key, call, *snapshot)));
        }
        (Wish::Linkage { call, .. }, Ok(Response::Linkage(ucid))) => {
            cx.wire.tell(Notice::Linkage { call: call.clone(), ucid });
        }
        (_, answer) => {
            let error = refusal(cx, answer);
            refuse(cx, wish, error);
        }
    }
}
