//! One WebSocket: a reader that turns frames into requests, a sender that empties the outbox and
//! the fetches, and the end of both. It knows when to close and with which code; what requests
//! mean is decided in `protocol`, what they do in `perform` and `requests`.
//!
//! | closes | when |
//! |---|---|
//! | 1001 | the server stops |
//! | 1002 | the frame breaks RFC 6455 |
//! | 1003 | binary frame |
//! | 1007 | text that is not UTF-8; the third frame in a row that is not one JSON object |
//! | 1008 | not signed in within 30 s; signed out; session revoked or expired |
//! | 1009 | frame or message of more than 64 KiB |
//!
//! A socket that leaves two pings unanswered is dropped. A frame of a fetch or a reply that the
//! socket took counts as an answer: then its pong waits behind what a slow line carries.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::stream::{BoxStream, SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Map, Value};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite;

use super::Web;
use super::arguments::Credentials;
use super::backend::{Code, Event, Failure, Topic};
use super::board::Kind;
use super::fetch::{Fetches, Step};
use super::levels;
use super::listen::{self, Ears};
use super::outbox::{Begins, IN_PROGRESS_BYTES_MAX, Item};
use super::perform::{self, Link};
use super::protocol::{Frame, Verb};
use super::session::Session;
use super::signin::{SignedIn, wall_now};
use super::stats::Counted;
use crate::exports::Told;

/// Requests in progress on one socket.
const IN_PROGRESS_MAX: usize = 64;
/// Frames in a row that are no JSON object.
const BAD_FRAMES_MAX: u32 = 3;
/// Pings that may stay unanswered.
const PINGS_MAX: u32 = 2;
/// How long replies and the closing handshake may take at the end.
const FAREWELL_WITHIN: Duration = Duration::from_secs(2);

/// Why a socket ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The client has gone or says nothing any more.
    Gone,
    /// We close, with this code and reason.
    Close(u16, &'static str),
}

type Flow = ControlFlow<End>;

/// Serves one socket until it ends.
pub async fn serve(socket: WebSocket, web: Arc<Web>, peer: IpAddr, session: Option<Arc<Session>>) {
    let _counted = Counted::new(&web.stats.sockets);
    let (mut sink, mut stream) = socket.split();
    let link = Arc::new(Link::new(web, peer));
    let mut fetches = Fetches::new(Arc::clone(&link.outbox));
    let mut ears = Ears::new(Arc::clone(&link.web), Arc::clone(&link.board));
    let mut reader = Reader::new(Arc::clone(&link), session);
    let end = tokio::select! {
        end = reader.run(&mut stream) => end,
        _ = send(&link, &mut sink, &mut fetches, &mut ears) => End::Gone,
    };
    drop((reader, ears));
    // Nothing here may hold the connection: the client may be the one that stopped reading.
    let _ = timeout(FAREWELL_WITHIN, farewell(&link, end, sink, stream)).await;
}

async fn farewell(
    link: &Link,
    end: End,
    mut sink: SplitSink<WebSocket, Message>,
    mut stream: SplitStream<WebSocket>,
) {
    let End::Close(code, reason) = end else {
        // Flushes the answer to the client's own close.
        let _ = sink.close().await;
        return;
    };
    while let Some(item) = link.outbox.take() {
        if let Item::Reply(reply) = item
            && sink.send(Message::Text(reply.text)).await.is_err()
        {
            return;
        }
    }
    let frame = CloseFrame { code, reason: reason.into() };
    if sink.send(Message::Close(Some(frame))).await.is_ok() {
        while let Some(Ok(_)) = stream.next().await {}
    }
}

/// Sends until the connection fails.
async fn send(
    link: &Link,
    sink: &mut SplitSink<WebSocket, Message>,
    fetches: &mut Fetches,
    ears: &mut Ears,
) -> Result<std::convert::Infallible, axum::Error> {
    loop {
        // In random order, so that none of them starves another.
        tokio::select! {
            item = link.outbox.next() => match item {
                Item::Ping => sink.send(Message::Ping(Vec::new().into())).await?,
                Item::Event(text) => {
                    let bytes = text.len();
                    sink.send(Message::Text(text)).await?;
                    link.outbox.release(bytes);
                }
                Item::Reply(reply) => {
                    let bytes = reply.text.len();
                    sink.send(Message::Text(reply.text)).await?;
                    link.outbox.release(bytes);
                    link.alive();
                    drop(reply.turn);
                    match reply.begins.map(|begins| *begins) {
                        Some(Begins::Fetch(fetch)) => fetches.start(fetch),
                        Some(Begins::Listen(listen)) => ears.start(listen),
                        None => {}
                    }
                }
            },
            step = fetches.next() => match step {
                Step::Event(text) => sink.send(Message::Text(text.into())).await?,
                Step::Frame { frame, then } => {
                    let bytes = frame.len();
                    sink.send(Message::Binary(frame)).await?;
                    link.outbox.release(bytes);
                    link.alive();
                    if let Some(text) = then {
                        sink.send(Message::Text(text.into())).await?;
                    }
                }
            },
            // No sign of life, unlike a fetch's frame: what a call says comes by itself, and is lost unread.
            step = ears.next() => match step {
                listen::Step::Frame(frame) => sink.send(Message::Binary(frame)).await?,
                listen::Step::Event(text) => sink.send(Message::Text(text.into())).await?,
            },
        }
    }
}

struct Reader {
    link: Arc<Link>,
    session: Option<Arc<Session>>,
    /// Ready when the session is over; while there is none, when there should be one.
    deadline: Pin<Box<dyn Future<Output = End> + Send>>,
    topics: BTreeSet<Topic>,
    events: Option<broadcast::Receiver<Arc<Event>>>,
    /// What is told of exports, to whomever.
    exports: Option<broadcast::Receiver<Arc<Told>>>,
    /// How loud the calls are, second by second.
    levels: Option<BoxStream<'static, Utf8Bytes>>,
    /// Each gives back the bytes of its frame.
    requests: JoinSet<usize>,
    bytes_in_progress: usize,
    bad_frames: u32,
}

impl Reader {
    fn new(link: Arc<Link>, session: Option<Arc<Session>>) -> Self {
        let deadline: Pin<Box<dyn Future<Output = End> + Send>> = match &session {
            Some(session) => Box::pin(over(Arc::clone(session))),
            None => Box::pin(unsigned(link.web.limits.signin_within)),
        };
        Self {
            link,
            session,
            deadline,
            topics: BTreeSet::new(),
            events: None,
            exports: None,
            levels: None,
            requests: JoinSet::new(),
            bytes_in_progress: 0,
            bad_frames: 0,
        }
    }

    async fn run(&mut self, stream: &mut SplitStream<WebSocket>) -> End {
        let mut pings = pings(self.link.web.limits.ping_every);
        let web = Arc::clone(&self.link.web);
        loop {
            let readable = self.link.outbox.has_room();
            let outbox = Arc::clone(&self.link.outbox);
            let flow = tokio::select! {
                message = stream.next(), if readable => self.message(message).await,
                () = outbox.room(), if !readable => Flow::Continue(()),
                event = next_event(&mut self.events) => self.event(event),
                told = next_event(&mut self.exports) => self.told(told),
                text = next_levels(&mut self.levels) => {
                    self.link.outbox.event(&text);
                    Flow::Continue(())
                }
                Some(done) = self.requests.join_next() => self.finished(done),
                _ = pings.tick() => self.ping(),
                end = &mut self.deadline => Flow::Break(end),
                () = web.stopping() => Flow::Break(End::Close(1001, "the server stops")),
            };
            if let Flow::Break(end) = flow {
                return end;
            }
        }
    }

    async fn message(&mut self, message: Option<Result<Message, axum::Error>>) -> Flow {
        self.link.alive();
        let end = match message {
            Some(Ok(Message::Text(text))) => return self.text(&text).await,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return Flow::Continue(()),
            Some(Ok(Message::Binary(_))) => End::Close(1003, "frames must be text"),
            Some(Ok(Message::Close(_))) | None => End::Gone,
            Some(Err(error)) => end_of(error),
        };
        if matches!(end, End::Close(..)) {
            self.link.web.stats.bad_frames.inc();
        }
        Flow::Break(end)
    }

    async fn text(&mut self, text: &str) -> Flow {
        let frame = match Frame::parse(text) {
            Ok(frame) => frame,
            Err(failure) => {
                self.link.web.stats.bad_frames.inc();
                self.link.reply(&None, Err(failure));
                self.bad_frames += 1;
                if self.bad_frames >= BAD_FRAMES_MAX {
                    return Flow::Break(End::Close(1007, "frames must be JSON objects"));
                }
                return Flow::Continue(());
            }
        };
        self.bad_frames = 0;
        if frame.is_authenticate() {
            // In turn, so that what a client sends right behind it finds him signed in.
            let signed_in = self.authenticate(&frame).await;
            self.link.reply(&frame.id, signed_in);
            return Flow::Continue(());
        }
        match self.admit(&frame, text.len()) {
            // In turn, too: the end of the session is the end of what is in progress here.
            Ok((session, Verb::SignOut)) => {
                perform::sign_out(&self.link, &frame, &session).await;
                return Flow::Break(End::Close(1008, "signed out"));
            }
            Ok((session, verb)) => self.dispatch(frame, verb, session, text.len()),
            Err(failure) => {
                perform::refuse(&self.link, &frame, self.session.as_deref(), failure).await;
            }
        }
        Flow::Continue(())
    }

    fn admit(&self, frame: &Frame, bytes: usize) -> Result<(Arc<Session>, Verb), Failure> {
        let Some(session) = &self.session else {
            let message = "sign in first, with `authenticate`";
            return Err(Failure::new(Code::NotAuthenticated, message));
        };
        let verb = frame.verb(session.role())?;
        if self.requests.len() >= IN_PROGRESS_MAX
            || self.bytes_in_progress + bytes > IN_PROGRESS_BYTES_MAX
        {
            let message = "too many requests in progress on this socket; wait for replies";
            return Err(Failure::new(Code::Busy, message));
        }
        Ok((Arc::clone(session), verb))
    }

    async fn authenticate(&mut self, frame: &Frame) -> Result<Map<String, Value>, Failure> {
        let desk = &self.link.web.desk;
        let SignedIn { token, session } = match frame.arguments().credentials()? {
            Credentials::Token(token) => {
                let session = desk.by_token(&token)?;
                SignedIn { token, session }
            }
            Credentials::Password { user, password } => {
                desk.by_password(self.link.peer, user, password).await?
            }
        };
        let body = perform::signed_in(&token, &session);
        self.topics.clear();
        self.events = None;
        self.exports = None;
        self.levels = None;
        // Whoever it is now, he asks for himself.
        self.link.board.end_all(Kind::Listen);
        self.deadline = Box::pin(over(Arc::clone(&session)));
        self.session = Some(session);
        Ok(body)
    }

    fn dispatch(&mut self, frame: Frame, verb: Verb, session: Arc<Session>, bytes: usize) {
        match verb {
            Verb::Subscribe => {
                let body = self.subscribe(&frame, &session);
                self.link.reply(&frame.id, body);
            }
            Verb::Unsubscribe => {
                let body = self.unsubscribe(&frame);
                self.link.reply(&frame.id, body);
            }
            Verb::ExportRecordings | Verb::ListExports => {
                // Before it begins, so that nothing of it is missed.
                self.hear(Topic::Exports);
                self.spawn(frame, verb, session, bytes);
            }
            Verb::CancelFetch => {
                let body = perform::cancel(&self.link.board, &frame);
                self.link.reply(&frame.id, body);
            }
            Verb::StopListen => {
                let body = perform::stop_listening(&self.link.board, &frame);
                self.link.reply(&frame.id, body);
            }
            _ => self.spawn(frame, verb, session, bytes),
        }
    }

    fn spawn(&mut self, frame: Frame, verb: Verb, session: Arc<Session>, bytes: usize) {
        let link = Arc::clone(&self.link);
        self.bytes_in_progress += bytes;
        self.requests.spawn(async move {
            perform::perform(&link, frame, verb, &session).await;
            bytes
        });
    }

    /// Events of a topic are heard from now on.
    fn hear(&mut self, topic: Topic) {
        self.topics.insert(topic);
        match topic {
            Topic::Exports => {
                self.exports.get_or_insert_with(|| self.link.web.exports.subscribe());
            }
            Topic::Levels => {}
            _ => {
                self.events.get_or_insert_with(|| self.link.web.node.backend.subscribe());
            }
        }
    }

    fn subscribe(
        &mut self,
        frame: &Frame,
        session: &Arc<Session>,
    ) -> Result<Map<String, Value>, Failure> {
        let wanted = frame.arguments().topics()?;
        let (granted, refused): (Vec<Topic>, Vec<Topic>) =
            wanted.into_iter().partition(|topic| perform::may_hear(session, *topic));
        if granted.contains(&Topic::Levels) && self.levels.is_none() {
            let web = Arc::clone(&self.link.web);
            self.levels = Some(levels::told_to(web, Arc::clone(session)));
        }
        granted.into_iter().for_each(|topic| self.hear(topic));
        let mut body = self.subscribed();
        if !refused.is_empty() {
            body.insert("refused".to_owned(), perform::words(refused));
        }
        Ok(body)
    }

    fn unsubscribe(&mut self, frame: &Frame) -> Result<Map<String, Value>, Failure> {
        for topic in frame.arguments().topics()? {
            self.topics.remove(&topic);
        }
        if !self.topics.contains(&Topic::Exports) {
            self.exports = None;
        }
        if !self.topics.contains(&Topic::Levels) {
            self.levels = None;
        }
        if self.topics.iter().all(|topic| matches!(topic, Topic::Exports | Topic::Levels)) {
            self.events = None;
        }
        Ok(self.subscribed())
    }

    fn subscribed(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("events".to_owned(), perform::words(self.topics.iter().copied()));
        body
    }

    fn event(&mut self, event: Result<Arc<Event>, broadcast::error::RecvError>) -> Flow {
        match event {
            Ok(event) => {
                let concerned = self.topics.contains(&event.topic)
                    && self
                        .session
                        .as_ref()
                        .is_some_and(|session| perform::concerns(session, &event));
                if concerned {
                    self.link.outbox.event(event.text());
                }
            }
            Err(broadcast::error::RecvError::Lagged(events)) => self.link.outbox.lost(events),
            Err(broadcast::error::RecvError::Closed) => self.events = None,
        }
        Flow::Continue(())
    }

    fn told(&mut self, told: Result<Arc<Told>, broadcast::error::RecvError>) -> Flow {
        match told {
            Ok(told) => {
                let his = |session: &Arc<Session>| session.who().by.user == told.user;
                if self.session.as_ref().is_some_and(his) {
                    self.link.outbox.event(&told.text);
                }
            }
            Err(broadcast::error::RecvError::Lagged(events)) => self.link.outbox.lost(events),
            Err(broadcast::error::RecvError::Closed) => self.exports = None,
        }
        Flow::Continue(())
    }

    fn finished(&mut self, done: Result<usize, tokio::task::JoinError>) -> Flow {
        match done {
            Ok(bytes) => {
                self.bytes_in_progress -= bytes;
                Flow::Continue(())
            }
            // A panic: what was asked is unknown, so the client must not wait for the reply.
            Err(error) => {
                tracing::error!(%error, "a request has failed");
                Flow::Break(End::Close(1011, "internal error"))
            }
        }
    }

    fn ping(&self) -> Flow {
        if self.link.pings_unanswered.fetch_add(1, Ordering::Relaxed) >= PINGS_MAX {
            return Flow::Break(End::Gone);
        }
        self.link.outbox.ping();
        Flow::Continue(())
    }
}

async fn over(session: Arc<Session>) -> End {
    let left = session.expires().micros_since(wall_now());
    let left = Duration::from_micros(u64::try_from(left).unwrap_or(0));
    // Whether revoked or expired is the same to the client: he signs in again.
    let _ = timeout(left, session.revoked()).await;
    End::Close(1008, "the session is over; sign in again")
}

async fn unsigned(within: Duration) -> End {
    tokio::time::sleep(within).await;
    End::Close(1008, "not signed in")
}

async fn next_event<T>(
    events: &mut Option<broadcast::Receiver<Arc<T>>>,
) -> Result<Arc<T>, broadcast::error::RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

async fn next_levels(levels: &mut Option<BoxStream<'static, Utf8Bytes>>) -> Utf8Bytes {
    match levels.as_mut() {
        // It has no end.
        Some(levels) => levels.next().await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

fn pings(every: Duration) -> Interval {
    let mut pings = interval_at(Instant::now() + every, every);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}

fn end_of(error: axum::Error) -> End {
    match error.into_inner().downcast::<tungstenite::Error>().as_deref() {
        Ok(tungstenite::Error::Capacity(_)) => End::Close(1009, "at most 64 KiB"),
        Ok(tungstenite::Error::Utf8(_)) => End::Close(1007, "text must be UTF-8"),
        Ok(tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        )) => End::Gone,
        Ok(tungstenite::Error::Protocol(_)) => End::Close(1002, "not the WebSocket protocol"),
        _ => End::Gone,
    }
}
