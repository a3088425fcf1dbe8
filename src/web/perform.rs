//! What a request does on one socket: the replies it puts there, the fetch that begins behind one,
//! the events that are heard. When the socket is read, written and closed is `ws`'s matter.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::Web;
use super::arguments::Arguments;
use super::audit;
use super::backend::{Code, Event, Failure, Topic};
use super::board::{Board, Kind};
use super::exports;
use super::listen::Listen;
use super::outbox::{Begins, Outbox, Reply};
use super::protocol::{self, Frame, Id, Verb};
use super::requests;
use super::session::Session;
use crate::audit::Asked;
use crate::users::UserRole;

/// What the reader, the sender and the requests of one socket share.
pub struct Link {
    /// The server.
    pub web: Arc<Web>,
    /// Where the socket comes from.
    pub peer: IpAddr,
    /// What waits to be sent.
    pub outbox: Arc<Outbox>,
    /// The fetches and listens that run.
    pub board: Arc<Board>,
    /// Great replies are made one at a time: the permit travels with the reply until it is sent.
    turn: Arc<Semaphore>,
    /// Since the last sign of life.
    pub pings_unanswered: AtomicU32,
}

impl Link {
    /// A socket of which nothing is known but where it comes from.
    pub fn new(web: Arc<Web>, peer: IpAddr) -> Self {
        Self {
            outbox: Arc::new(Outbox::new(Arc::clone(&web.stats))),
            web,
            peer,
            board: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
            pings_unanswered: AtomicU32::new(0),
        }
    }

    /// The client has shown that it is there.
    pub fn alive(&self) {
        self.pings_unanswered.store(0, Ordering::Relaxed);
    }

    /// Puts a small reply.
    pub fn reply(&self, id: &Id, body: Result<Map<String, Value>, Failure>) {
        let text = match body {
            Ok(body) => protocol::success(id, &body),
            Err(failure) => protocol::failure(id, &failure),
        };
        self.outbox.reply(Reply::plain(text));
    }
}

/// Does what is asked and puts the reply.
pub async fn perform(link: &Arc<Link>, frame: Frame, verb: Verb, session: &Session) {
    match verb {
        Verb::FetchRecording => return begin_fetch(link, &frame, session).await,
        Verb::Listen => return begin_listening(link, &frame, session).await,
        Verb::Drill => {
            let asked = audit::asked(session, link.peer, frame.name(), frame.members());
            return link.reply(&frame.id, drill(&link.web, asked).await);
        }
        Verb::ExportRecordings => {
            let asked = audit::asked(session, link.peer, frame.name(), frame.members());
            let begun = exports::begin(&link.web, session, asked, &frame.arguments()).await;
            return link.reply(&frame.id, begun);
        }
        _ => {}
    }
    // What does something has a small reply, and is not to wait for a great one.
    let turn = match verb {
        Verb::StartRecording
        | Verb::StopRecording
        | Verb::PauseRecording
        | Verb::ResumeRecording
        | Verb::RepairRecording
        | Verb::TagRecording
        | Verb::ScoreRecording
        | Verb::LegalHold
        | Verb::DeleteRecording => None,
        _ => Arc::clone(&link.turn).acquire_owned().await.ok(),
    };
    let body = answer(&link.web, verb, &frame.arguments(), session).await;
    let body = match verb {
        Verb::ClusterStatus => body,
        _ => noted(link, &frame, session, body).await,
    };
    let text = match body {
        Ok(body) => protocol::success(&frame.id, &body),
        Err(failure) => protocol::failure(&frame.id, &failure),
    };
    link.outbox.reply(Reply { text: text.into(), begins: None, turn });
}

/// Does what is asked, and forms the members of the reply; for WebSocket and HTTP alike. A drill and the
/// begin of an export are not among it, because those write themselves down.
///
/// # Errors
/// What the request says; `unavailable` for those that are about a socket.
pub async fn answer(
    web: &Web,
    verb: Verb,
    arguments: &Arguments<'_>,
    session: &Session,
) -> Result<Map<String, Value>, Failure> {
    let node = &web.node;
    match verb {
        Verb::StartRecording => node.start(session, arguments).await,
        Verb::StopRecording => node.stop(session, arguments).await,
        Verb::PauseRecording => node.pause(session, arguments, true).await,
        Verb::ResumeRecording => node.pause(session, arguments, false).await,
        Verb::RepairRecording => node.repair(session.scope(), arguments).await,
        Verb::TagRecording => node.tag(session, arguments).await,
        Verb::LegalHold => node.hold(session, arguments).await,
        Verb::ListHolds => node.holds(session.scope(), arguments.holds()?).await,
        Verb::DeleteRecording => node.delete(session, arguments).await,
        Verb::ScoreRecording => node.score(&web.scorecards, session, arguments).await,
        Verb::ListScorecards => requests::scorecards(&web.scorecards),
        Verb::ListRecordings => node.list(session.scope(), arguments.query()?).await,
        Verb::GetRecording => {
            requests::record(node.record(session.scope(), arguments.recording()?).await?)
        }
        Verb::ListCalls => node.calls(session.scope()).await,
        Verb::Completeness => node.completeness(session.scope(), arguments.day()?).await,
        Verb::ListAudit => node.audit(arguments.audit()?).await,
        Verb::SignOut => {
            web.desk.sign_out(session);
            Ok(Map::new())
        }
        Verb::ClusterStatus => Ok(node.backend.cluster_status()),
        Verb::ListExports => Ok(exports::list(web, session)),
        Verb::CancelExport => exports::cancel(web, session, arguments).await,
        Verb::Authenticate
        | Verb::FetchRecording
        | Verb::CancelFetch
        | Verb::Listen
        | Verb::StopListen
        | Verb::Subscribe
        | Verb::Unsubscribe
        | Verb::ExportRecordings
        | Verb::Drill
        | Verb::Later => Err(Failure::new(
            Code::Unavailable,
            "this request needs a WebSocket (/ws); over HTTP sign in at /api/signin, and fetch from \
             /api/recordings/RECORDINGID/audio",
        )),
    }
}

/// What came of a request, once it is in the audit log; else why nobody may see it.
async fn noted<T>(
    link: &Link,
    frame: &Frame,
    session: &Session,
    done: Result<T, Failure>,
) -> Result<T, Failure> {
    let asked = audit::asked(session, link.peer, frame.name(), frame.members());
    link.web.clerk.note(asked, audit::outcome(&done)).await?;
    done
}

/// `signout`: the session ends, and every socket that lives on it; this one behind its reply.
pub async fn sign_out(link: &Link, frame: &Frame, session: &Session) {
    link.web.desk.sign_out(session);
    let done = noted(link, frame, session, Ok(Map::new())).await;
    link.reply(&frame.id, done);
}

/// Answers what this user may not ask, or not now.
pub async fn refuse(link: &Link, frame: &Frame, session: Option<&Session>, failure: Failure) {
    let refused = match session {
        Some(session) if failure.code == Code::Forbidden => {
            noted(link, frame, session, Err(failure)).await
        }
        _ => Err(failure),
    };
    link.reply(&frame.id, refused);
}

/// `drill`. It goes on, and into the audit log, when whoever asked has gone.
///
/// # Errors
/// Why there is none, and what went wrong with it.
pub async fn drill(web: &Web, asked: Asked) -> Result<Map<String, Value>, Failure> {
    let (drills, clerk) = (Arc::clone(&web.drills), Arc::clone(&web.clerk));
    let drilling = tokio::spawn(async move {
        let done = drills.drill().await;
        clerk.note(asked, audit::outcome(&done)).await?;
        done
    });
    let broken = |_| Failure::new(Code::Internal, "the drill broke off");
    let lines = drilling.await.map_err(broken)??;
    Ok(Map::from_iter([("lines".to_owned(), lines.into())]))
}

async fn begin_fetch(link: &Arc<Link>, frame: &Frame, session: &Session) {
    let begun = match frame
        .arguments()
        .fetch()
        .and_then(|wanted| Ok((link.board.enter(Kind::Fetch)?, wanted)))
    {
        Ok((place, wanted)) => link.web.node.fetch(session.scope(), place, wanted).await,
        Err(failure) => Err(failure),
    };
    match noted(link, frame, session, begun).await {
        Ok((body, fetch)) => {
            link.web.stats.fetches.inc();
            let text = protocol::success(&frame.id, &body).into();
            let begins = Some(Box::new(Begins::Fetch(fetch)));
            link.outbox.reply(Reply { text, begins, turn: None });
        }
        Err(failure) => link.reply(&frame.id, Err(failure)),
    }
}

/// `cancelfetch`.
///
/// # Errors
/// `badvalue`, `notfound`.
pub fn cancel(board: &Board, frame: &Frame) -> Result<Map<String, Value>, Failure> {
    let number = frame.arguments().fetch_number()?;
    board.end(Kind::Fetch, number)?;
    let mut body = Map::new();
    body.insert("fetch".to_owned(), number.into());
    Ok(body)
}

async fn begin_listening(link: &Arc<Link>, frame: &Frame, session: &Session) {
    let scope = session.scope().clone();
    let asked = frame.arguments().listen();
    let begun = match asked.and_then(|ucid| Ok((link.board.enter(Kind::Listen)?, ucid))) {
        Ok((place, ucid)) => {
            let hearing = link.web.node.listen(&scope, &ucid).await;
            hearing.map(|hearing| Listen { place, ucid, scope, hearing })
        }
        Err(failure) => Err(failure),
    };
    match noted(link, frame, session, begun).await {
        Ok(listen) => {
            let mut body = Map::new();
            body.insert("listen".to_owned(), listen.place.number().into());
            body.insert("node".to_owned(), listen.hearing.node.0.into());
            body.insert("rate".to_owned(), 8_000.into());
            let text = protocol::success(&frame.id, &body).into();
            let begins = Some(Box::new(Begins::Listen(listen)));
            link.outbox.reply(Reply { text, begins, turn: None });
        }
        Err(failure) => link.reply(&frame.id, Err(failure)),
    }
}

/// `stoplisten`.
///
/// # Errors
/// `badvalue`, `notfound`.
pub fn stop_listening(board: &Board, frame: &Frame) -> Result<Map<String, Value>, Failure> {
    let number = frame.arguments().listen_number()?;
    board.end(Kind::Listen, number)?;
    Ok(Map::from_iter([("listen".to_owned(), number.into())]))
}

/// The members that tell somebody that he is signed in.
pub fn signed_in(token: &str, session: &Session) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("token".to_owned(), token.into());
    body.insert("role".to_owned(), session.role().as_str().into());
    body.insert("expires".to_owned(), session.expires().to_string().into());
    body
}

/// Topics by role: recordings are for those who may list them, calls for those who may list or
/// record them, levels for those who may list calls.
pub fn may_hear(session: &Session, topic: Topic) -> bool {
    match topic {
        Topic::Calls => matches!(session.role(), UserRole::Supervisor | UserRole::Agent),
        Topic::Recordings => matches!(session.role(), UserRole::Supervisor | UserRole::Qa),
        Topic::Cluster | Topic::Alarms => true,
        Topic::Exports => session.role() == UserRole::Qa,
        Topic::Levels => session.role() == UserRole::Supervisor,
    }
}

/// An agent hears of calls at his own station only, a member of a team of its calls and recordings.
pub fn concerns(session: &Session, event: &Event) -> bool {
    if !matches!(event.topic, Topic::Calls | Topic::Recordings) {
        return true;
    }
    if session.role() == UserRole::Agent {
        return session.extension().is_some_and(|own| event.extensions.contains(own));
    }
    let scope = session.scope();
    scope.is_all() || event.extensions.iter().any(|station| scope.has(station.as_str()))
}

/// Topics as the wire has them.
pub fn words(topics: impl IntoIterator<Item = Topic>) -> Value {
    topics.into_iter().map(Topic::as_str).collect()
}
