//! The control port: other processes make calls and break things through lines of JSON on loopback.
//!
//! One request a line, one answer a line. A request names what to `do`; an answer has `ok`, and
//! `error` if that is false. `{"do":"help"}` lists the requests. Examples:
//!
//! ```text
//! {"do":"call","from":"5551230001","to":"50100"}       {"ok":true,"call":7}
//! {"do":"answer","station":"31001"}                    {"ok":true,"call":7}
//! {"do":"cut","aes":0,"ms":5000}                       {"ok":true}
//! {"do":"hangup","station":"31009"}                    {"ok":false,"error":"station 31009 has no active call"}
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::handle::CallRef;
use crate::server::Site;
use crate::switch::{AgentState, Refusal};
use crate::traffic::{Mix, TrafficPlan};
use crate::view::{CallView, FinishedCall};

/// Longest request.
const LINE_MAX: u64 = 64 * 1024;

/// What people can be asked to do, and what can be looked at.
#[derive(Deserialize, Debug)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Request {
    Help,
    Call {
        from: String,
        to: String,
        #[serde(default)]
        userdata: String,
    },
    Dial {
        station: String,
        to: String,
    },
    Answer {
        station: String,
    },
    AnswerOutside {
        call: u32,
    },
    Hold {
        station: String,
    },
    Retrieve {
        station: String,
    },
    Consult {
        station: String,
        to: String,
    },
    Transfer {
        station: String,
    },
    Conference {
        station: String,
    },
    SendOn {
        station: String,
        to: String,
    },
    Pickup {
        station: String,
        from: String,
    },
    Divert {
        from: String,
        to: String,
    },
    Hangup {
        station: String,
    },
    HangupOutside {
        call: u32,
    },
    HangupAll {
        call: u32,
    },
    Agent {
        agent: String,
        state: AgentWord,
        #[serde(default)]
        reason: u16,
    },
    LogOn {
        agent: String,
        station: String,
    },
    Traffic {
        calls: u32,
        concurrent: usize,
        #[serde(default)]
        seed: u64,
        #[serde(default)]
        talkms: Option<(u64, u64)>,
        #[serde(default)]
        inboundonly: bool,
    },
    Calls,
    History,
    Status,
}

/// What can be broken.
#[derive(Deserialize, Debug)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Fault {
    Cut { aes: usize, ms: u64 },
    Restart { aes: usize, ms: u64 },
    Hang { aes: usize, ms: u64 },
    EndSessions { aes: usize },
    Tlink { aes: usize, up: bool },
    Delay { aes: usize, ms: u64 },
    LoseEvents { aes: usize, name: String, count: u32 },
    RefuseRequests { aes: usize, name: String, count: u32 },
    RefuseRegistrations { aes: usize, count: u32 },
    DropRtp { share: f64 },
    Mute { phantom: String, frames: u32 },
    ChangeKeys { phantom: String },
    BusyOut { phantom: String },
    Release { phantom: String },
    Unregister { phantom: String },
}

const HELP: &str = "call from to [userdata]; dial station to; answer station; answeroutside call; \
    hold, retrieve, transfer, conference, hangup station; consult, sendon station to; \
    pickup station from; divert from to; hangupoutside, hangupall call; \
    agent agent state(ready notready aftercall loggedoff) [reason]; logon agent station; \
    traffic calls concurrent [seed talkms inboundonly]; calls; history; status; \
    cut, restart, hang, delay aes ms; endsessions aes; tlink aes up; \
    loseevents, refuserequests aes name count; refuseregistrations aes count; droprtp share; \
    mute phantom frames; changekeys, busyout, release, unregister phantom";

#[derive(Deserialize, Clone, Copy, Debug)]
#[serde(rename_all = "lowercase")]
enum AgentWord {
    Ready,
    NotReady,
    AfterCall,
    LoggedOff,
}

/// Serves clients until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, site: Site) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: wait for some to become free.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let site = site.clone();
        tokio::spawn(async move {
            // A client that breaks off is its own affair.
            let _ = client(stream, site).await;
        });
    }
}

async fn client(stream: TcpStream, site: Site) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).await?;
        if read == 0 {
            return Ok(());
        }
        let answer = read_and_answer(&site, &line);
        writer.write_all(format!("{answer}\n").as_bytes()).await?;
        if !line.ends_with(b"\n") {
            // Longer than a line may be, or the client has gone: what follows is not a request.
            return Ok(());
        }
    }
}

fn read_and_answer(site: &Site, line: &[u8]) -> Value {
    let request = match serde_json::from_slice(line) {
        Ok(request) => return answer(site, request),
        Err(error) => error,
    };
    match serde_json::from_slice(line) {
        Ok(fault) => {
            break_something(site, fault);
            json!({"ok": true})
        }
        Err(fault) => {
            // Of the two complaints the one about what was meant.
            let unknown = request.to_string().starts_with("unknown variant");
            let error = if unknown { fault } else { request };
            failure(&format!("{error}; {{\"do\":\"help\"}} lists the requests"))
        }
    }
}

fn answer(site: &Site, request: Request) -> Value {
    let switch = site.switch();
    let outside = |serial| CallRef { serial };
    match request {
        Request::Help => json!({"ok": true, "help": HELP}),
        Request::Call { from, to, userdata } => {
            placed(switch.inbound_call_with(&from, &to, userdata.as_bytes()))
        }
        Request::Dial { station, to } => placed(switch.outbound_call(&station, &to)),
        Request::Answer { station } => placed(switch.answer(&station)),
        Request::AnswerOutside { call } => done(switch.answer_outside(outside(call))),
        Request::Hold { station } => done(switch.hold(&station)),
        Request::Retrieve { station } => done(switch.retrieve(&station)),
        Request::Consult { station, to } => placed(switch.consult(&station, &to)),
        Request::Transfer { station } => done(switch.transfer(&station)),
        Request::Conference { station } => done(switch.conference(&station)),
        Request::SendOn { station, to } => done(switch.single_step_transfer(&station, &to)),
        Request::Pickup { station, from } => placed(switch.pickup(&station, &from)),
        Request::Divert { from, to } => done(switch.divert(&from, &to)),
        Request::Hangup { station } => done(switch.hangup(&station)),
        Request::HangupOutside { call } => done(switch.hangup_outside(outside(call))),
        Request::HangupAll { call } => {
            switch.hangup_all(outside(call));
            json!({"ok": true})
        }
        Request::Agent { agent, state, reason } => {
            done(switch.set_agent(&agent, state.with(reason)))
        }
        Request::LogOn { agent, station } => done(switch.log_on(&agent, &station)),
        Request::Traffic { calls, concurrent, seed, talkms, inboundonly } => {
            let usual = TrafficPlan::default();
            let mix = if inboundonly { Mix::INBOUND } else { Mix::EVERYTHING };
            let talk_ms = talkms.unwrap_or(usual.talk_ms);
            let plan = TrafficPlan { calls, concurrent, seed, mix, talk_ms, ..usual };
            // It runs to its end by itself; `calls` and `history` show what becomes of it.
            drop(site.run_traffic(plan));
            json!({"ok": true})
        }
        Request::Calls => {
            let calls: Vec<Value> = site.calls().iter().map(call).collect();
            json!({"ok": true, "calls": calls})
        }
        Request::History => {
            let calls: Vec<Value> = site.history().iter().map(finished).collect();
            json!({"ok": true, "calls": calls})
        }
        Request::Status => status(site),
    }
}

fn break_something(site: &Site, fault: Fault) {
    let faults = site.faults();
    match fault {
        Fault::Cut { aes, ms } => faults.cut_aes(aes, Duration::from_millis(ms)),
        Fault::Restart { aes, ms } => faults.restart_aes(aes, Duration::from_millis(ms)),
        Fault::Hang { aes, ms } => faults.hang_aes(aes, Duration::from_millis(ms)),
        Fault::EndSessions { aes } => faults.end_sessions(aes),
        Fault::Tlink { aes, up } => faults.set_tlink(aes, up),
        Fault::Delay { aes, ms } => faults.delay_requests(aes, ms),
        Fault::LoseEvents { aes, name, count } => faults.lose_events(aes, &name, count),
        Fault::RefuseRequests { aes, name, count } => faults.refuse_requests(aes, &name, count),
        Fault::RefuseRegistrations { aes, count } => faults.refuse_registrations(aes, count),
        Fault::DropRtp { share } => faults.drop_rtp(share),
        Fault::Mute { phantom, frames } => faults.mute_phantom(&phantom, frames),
        Fault::ChangeKeys { phantom } => faults.change_keys(&phantom),
        Fault::BusyOut { phantom } => faults.busy_out(&phantom),
        Fault::Release { phantom } => faults.release_busy_out(&phantom),
        Fault::Unregister { phantom } => faults.unregister(&phantom),
    }
}

impl AgentWord {
    const fn with(self, reason: u16) -> AgentState {
        match self {
            Self::Ready => AgentState::Ready,
            Self::NotReady => AgentState::NotReady(reason),
            Self::AfterCall => AgentState::AfterCall,
            Self::LoggedOff => AgentState::LoggedOff,
        }
    }
}

fn placed(result: Result<CallRef, Refusal>) -> Value {
    match result {
        Ok(call) => json!({"ok": true, "call": call.serial}),
        Err(refusal) => failure(&refusal.to_string()),
    }
}

fn done(result: Result<(), Refusal>) -> Value {
    match result {
        Ok(()) => json!({"ok": true}),
        Err(refusal) => failure(&refusal.to_string()),
    }
}

fn status(site: &Site) -> Value {
    json!({
        "ok": true,
        "calls": site.calls().len(),
        "packets": site.packets_sent(),
        "stuckphantoms": site.stuck_phantoms(),
        "partylimitrefusals": site.party_limit_refusals(),
        "registered": site.registered(),
    })
}

fn failure(error: &str) -> Value {
    json!({"ok": false, "error": error})
}

fn call(call: &CallView) -> Value {
    let parties: Vec<Value> = call
        .parties
        .iter()
        .map(|party| {
            json!({
                "device": party.device,
                "number": party.number,
                "state": party.state.word(),
                "recorder": party.recorder,
            })
        })
        .collect();
    json!({
        "call": call.serial,
        "ucid": call.ucid,
        "callid": call.call_id,
        "calling": call.calling,
        "called": call.called,
        "frames": call.frames,
        "parties": parties,
    })
}

fn finished(call: &FinishedCall) -> Value {
    let streams: Vec<Value> = call
        .streams
        .iter()
        .map(|stream| {
            json!({
                "phantom": stream.phantom,
                "aes": stream.aes,
                "first": stream.first_frame,
                "last": stream.last_frame,
                "sent": stream.sent,
                "dropped": stream.dropped,
            })
        })
        .collect();
    json!({
        "call": call.serial,
        "ucid": call.ucid,
        "formerucids": call.former_ucids,
        "mergedinto": call.merged_into,
        "calling": call.calling,
        "called": call.called,
        "stations": call.stations,
        "answered": call.answered,
        "frames": call.frames,
        "startedms": unix_ms(call.started),
        "endedms": unix_ms(call.ended),
        "streams": streams,
    })
}

fn unix_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
