//! What each request asks of the node, for WebSocket and HTTP alike: on a blocking thread where
//! that may block. It forms the reply's members. Who may ask was decided before
//! (`protocol`), but for one thing: whether a call is the agent's own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};
use storage_core::hold::RELEASE_WITHIN;
use storage_core::marks::{Marking, Score, Scoring};
use storage_core::query::Query;
use storage_core::scorecard::Scorecard;
use storage_core::{Extension, Recording, RecordingId, Scope, Ucid, WallTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::arguments::{Arguments, FetchArguments};
use super::backend::{
    Audio, Backend, CallList, Code, DeleteRequest, Failure, FetchFormat, Hearing, HoldRequest,
    Listing, MarkRequest, PauseRequest, SearchedSites, StartRequest, StopRequest, Target,
    Unreachable,
};
use super::board::Place;
use super::fetch::Fetch;
use super::outbox::REPLY_BYTES_MAX;
use super::session::Session;
use super::waveform::waveform;
use crate::audit_pages::{Listing as AuditListing, Question as AuditQuestion};
use crate::completeness::{self, truncate};
use crate::group::choose::is_meant;
use crate::users::UserRole;

/// Questions to catalog and disk at once, over all sockets.
const QUESTIONS_AT_ONCE: usize = 16;
/// Fetches at once, over all sockets: each holds a file open.
const FETCHES_AT_ONCE: usize = 256;
/// The node answers a start within 3 s; after this it has forgotten us.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The node behind, and how much is asked of it at once.
pub struct Node {
    /// The node.
    pub backend: Arc<dyn Backend>,
    questions: Arc<Semaphore>,
    fetches: Arc<Semaphore>,
}

/// A recording's audio, open.
pub struct Opened {
    /// To read from.
    pub audio: Box<dyn Audio>,
    /// How much of it there is.
    pub bytes: u64,
    /// Names these bytes, for those who keep them: of the recording as it lies now, in this form.
    pub tag: String,
    /// Taken while it is open.
    pub slot: OwnedSemaphorePermit,
}

impl Node {
    /// This node, asked nothing yet.
    pub fn new(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            questions: Arc::new(Semaphore::new(QUESTIONS_AT_ONCE)),
            fetches: Arc::new(Semaphore::new(FETCHES_AT_ONCE)),
        }
    }

    /// `listrecordings`: a page, shorter than asked for where it would be too long to send.
    ///
    /// # Errors
    /// What the node says.
    pub async fn list(&self, scope: &Scope, query: Query) -> Result<Map<String, Value>, Failure> {
        let query = Query { scope: scope.clone(), ..query };
        self.ask(move |backend| page(backend, query)).await
    }

    /// `listholds`: which recordings are under legal hold, by whom, since when and why. Those who ask neither search
    /// nor listen, so they are not told who talked with whom.
    ///
    /// # Errors
    /// What the node says.
    pub async fn holds(&self, scope: &Scope, query: Query) -> Result<Map<String, Value>, Failure> {
        const TOLD: [&str; 6] =
            ["recordingid", "started", "durationms", "extension", "holdmark", "site"];
        let mut body = self.list(scope, query).await?;
        let mut held = body.remove("recordings").unwrap_or_default();
        for record in held.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            record.retain(|name, _| TOLD.contains(&name.as_str()));
        }
        body.insert("holds".to_owned(), held);
        Ok(body)
    }

    /// One record. One that the asker may not see is not there.
    ///
    /// # Errors
    /// `notfound`, and what the node says.
    pub async fn recording(&self, scope: &Scope, id: RecordingId) -> Result<Recording, Failure> {
        let found = self.ask(move |backend| backend.recording(id)).await?;
        let found = found.filter(|recording| scope.holds(recording));
        found.ok_or_else(|| Failure::new(Code::NotFound, format!("no recording {id}")))
    }

    /// The same as it is told, with the name of its site if that is another one.
    ///
    /// # Errors
    /// As `recording`.
    pub async fn record(&self, scope: &Scope, id: RecordingId) -> Result<Value, Failure> {
        let mut record = json(self.recording(scope, id).await?)?;
        if let Some(site) = self.ask(move |backend| backend.other_site(id)).await? {
            record["site"] = site.into();
        }
        Ok(record)
    }

    /// Opens a recording's audio.
    ///
    /// # Errors
    /// `busy`, `notfound`, `unavailable`, and what else the node says.
    pub async fn audio(
        &self,
        scope: &Scope,
        id: RecordingId,
        format: FetchFormat,
    ) -> Result<Opened, Failure> {
        self.check_seen(scope, id).await?;
        let slot = self.fetch_slot()?;
        let opened = self.ask(move |backend| {
            let audio = backend.open_audio(id, format)?;
            let tag = match format {
                FetchFormat::Original => audio.mark(),
                converted => format!("{}-{}", audio.mark(), converted.as_str()),
            };
            Ok(Opened { bytes: audio.bytes(), tag, audio, slot })
        });
        opened.await
    }

    /// A place among the fetches.
    ///
    /// # Errors
    /// `busy`.
    pub fn fetch_slot(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let slot = Arc::clone(&self.fetches).try_acquire_owned();
        slot.map_err(|_| Failure::new(Code::Busy, "too many fetches; try again"))
    }

    /// What a recording's audio looks like.
    ///
    /// # Errors
    /// As `audio`; `internal` if it cannot be read.
    pub async fn waveform(
        &self,
        scope: &Scope,
        id: RecordingId,
        points: usize,
    ) -> Result<Value, Failure> {
        let opened = self.audio(scope, id, FetchFormat::Wav).await?;
        self.ask(move |_| waveform(id, opened, points)).await
    }

    /// `fetchrecording`: the reply's members and the fetch that begins after it.
    ///
    /// # Errors
    /// As `audio`; `badvalue` for an offset beyond the end.
    pub async fn fetch(
        &self,
        scope: &Scope,
        place: Place,
        wanted: FetchArguments,
    ) -> Result<(Map<String, Value>, Fetch), Failure> {
        let opened = self.audio(scope, wanted.recording, wanted.format).await?;
        let (opened, sha256) = self
            .ask(move |_| {
                let sha256 = opened.audio.sha256();
                Ok((opened, sha256))
            })
            .await?;
        let size = opened.bytes;
        if wanted.offset > size {
            let message = format!("`offset` is beyond the end; there are {size} bytes");
            return Err(Failure::new(Code::BadValue, message));
        }
        let end = wanted.length.map_or(size, |count| wanted.offset.saturating_add(count).min(size));
        let mut body = Map::new();
        body.insert("recordingid".to_owned(), wanted.recording.to_string().into());
        body.insert("format".to_owned(), wanted.format.as_str().into());
        body.insert("fetch".to_owned(), place.number().into());
        // What follows, and what there is: the same unless a part was asked for.
        body.insert("bytes".to_owned(), (end - wanted.offset).into());
        body.insert("size".to_owned(), size.into());
        if let Some(sha256) = sha256 {
            body.insert("sha256".to_owned(), sha256.into());
        }
        Ok((body, Fetch::new(place, opened.audio, wanted.offset, end, opened.slot)))
    }

    /// `listcalls`: as many calls as fit, and how many there are.
    ///
    /// # Errors
    /// `unavailable` if the node does not answer.
    pub async fn calls(&self, scope: &Scope) -> Result<Map<String, Value>, Failure> {
        let CallList { mut calls, unreachable } = self.calls_in_progress().await?;
        calls.retain(|call| is_seen(scope, call));
        let mut body = Map::new();
        body.insert("total".to_owned(), calls.len().into());
        truncate(&mut calls, REPLY_BYTES_MAX);
        body.insert("calls".to_owned(), calls.into());
        name_unreachable(&mut body, &unreachable)?;
        Ok(body)
    }

    /// All calls in progress, whoever asks.
    ///
    /// # Errors
    /// `unavailable` if the node does not answer.
    pub async fn calls_in_progress(&self) -> Result<CallList, Failure> {
        answer(self.backend.calls()).await
    }

    /// `listen`.
    ///
    /// # Errors
    /// `nocall`, `busy`, `unavailable`, and what else the node says.
    pub async fn listen(&self, scope: &Scope, ucid: &Ucid) -> Result<Hearing, Failure> {
        self.check_team(scope, &Target::Ucid(ucid.clone())).await?;
        answer(self.backend.listen(ucid)).await?
    }

    /// Whether the asker may still hear a call, as far as is known.
    pub async fn may_hear(&self, scope: &Scope, ucid: &Ucid) -> bool {
        let seen = self.check_team(scope, &Target::Ucid(ucid.clone())).await;
        seen.err().is_none_or(|failure| failure.code != Code::NoCall)
    }

    /// The calls in progress at the asker's own station; none for one who is tied to no station.
    ///
    /// # Errors
    /// `unavailable` if the node does not answer.
    pub async fn own_calls(&self, session: &Session) -> Result<Map<String, Value>, Failure> {
        let CallList { mut calls, unreachable } = self.calls_in_progress().await?;
        let own = session.extension().map(Extension::as_str);
        calls.retain(|call| {
            let stations = call["extensions"].as_array().into_iter().flatten();
            stations.filter_map(Value::as_str).any(|station| Some(station) == own)
        });
        let mut body = Map::new();
        body.insert("calls".to_owned(), calls.into());
        name_unreachable(&mut body, &unreachable)?;
        Ok(body)
    }

    /// `completeness` of the asker's calls: as many of those that lack something as fit, and how many there are.
    ///
    /// # Errors
    /// `unavailable`, `internal`.
    pub async fn completeness(
        &self,
        scope: &Scope,
        day: WallTime,
    ) -> Result<Map<String, Value>, Failure> {
        let scope = scope.clone();
        let report = self.ask(move |backend| completeness::of_day(backend, day, &scope)).await?;
        Ok(report.body(REPLY_BYTES_MAX))
    }

    /// `listaudit`: as many lines as fit.
    ///
    /// # Errors
    /// `unavailable` if the log cannot be read.
    pub async fn audit(&self, question: AuditQuestion) -> Result<Map<String, Value>, Failure> {
        let listed = self.ask(move |backend| backend.audit(&question)).await?;
        let AuditListing { node, page, unreachable } = listed;
        let mut body = Map::new();
        body.insert("node".to_owned(), node.0.into());
        body.insert("entries".to_owned(), json(page.entries)?);
        if page.more {
            body.insert("cursor".to_owned(), page.places.to_string().into());
        }
        name_unreachable(&mut body, &unreachable)?;
        Ok(body)
    }

    /// `startrecording`.
    ///
    /// # Errors
    /// `badvalue`, `forbidden`, and what the node says.
    pub async fn start(
        &self,
        session: &Session,
        arguments: &Arguments<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        let (target, scope) = arguments.start()?;
        self.check_own(session, &target).await?;
        let request = StartRequest { target, scope, by: session.by() };
        let id = answer(self.backend.start_recording(request)).await??;
        Ok(naming(id))
    }

    /// `stoprecording`.
    ///
    /// # Errors
    /// `badvalue`, `forbidden`, and what the node says.
    pub async fn stop(
        &self,
        session: &Session,
        arguments: &Arguments<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        let target = arguments.stop()?;
        self.check_own(session, &target).await?;
        let request = StopRequest { target, by: session.by() };
        let id = answer(self.backend.stop_recording(request)).await??;
        Ok(naming(id))
    }

    /// `pauserecording` and `resumerecording`.
    ///
    /// # Errors
    /// `badvalue`, `forbidden`, and what the node says.
    pub async fn pause(
        &self,
        session: &Session,
        arguments: &Arguments<'_>,
        pause: bool,
    ) -> Result<Map<String, Value>, Failure> {
        let target = arguments.stop()?;
        self.check_own(session, &target).await?;
        let request = PauseRequest { target, pause, by: session.by() };
        let done = answer(self.backend.pause_recording(request)).await??;
        let mut body = naming(done.recordingid);
        body.insert("pausedms".to_owned(), done.pausedms.into());
        Ok(body)
    }

    /// `repairrecording`.
    ///
    /// # Errors
    /// `badvalue`, `notfound`, `unavailable`, and what the node says.
    pub async fn repair(
        &self,
        scope: &Scope,
        arguments: &Arguments<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        let id = arguments.recording()?;
        self.check_seen(scope, id).await?;
        Ok(naming(self.backend.repair(id).await?))
    }

    /// Whoever may see everything need not wait for the record.
    async fn check_seen(&self, scope: &Scope, id: RecordingId) -> Result<(), Failure> {
        if scope.is_all() { Ok(()) } else { self.recording(scope, id).await.map(drop) }
    }

    /// `tagrecording`.
    ///
    /// # Errors
    /// `badvalue`, `forbidden`, `notfound`, `unavailable`, and what else the node says.
    pub async fn tag(
        &self,
        session: &Session,
        arguments: &Arguments<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        let (recording, marking) = (arguments.recording()?, arguments.marking()?);
        if session.role() == UserRole::Agent {
            let record = self.recording(&Scope::ALL, recording).await?;
            if !session.extension().is_some_and(|own| is_of(&record, own)) {
                let message = "agents write about recordings of their own calls only";
                return Err(Failure::new(Code::Forbidden, message));
            }
        } else {
            self.check_seen(session.scope(), recording).await?;
        }
        let request = MarkRequest { recording, marking, by: session.by() };
        let record = answer(self.backend.mark(request)).await??;
        let mut body = naming(recording);
        body.insert("tags".to_owned(), json(&record.tags)?);
        body.insert("notes".to_owned(), json(&record.notes)?);
        Ok(body)
    }

    /// `legalhold`: as much as one person can do of it.
    ///
    /// # Errors
    /// `badvalue`, `forbidden`, `notfound`, `unavailable`, and what else the node says.
    pub async fn hold(
        &self,
        session: &Session,
        arguments: &Arguments<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        let (recording, holding) = (arguments.recording()?, arguments.holding()?);
        self.check_seen(session.scope(), recording).await?;
        let request = HoldRequest { recording, holding, by: session.by() };
        let record = answer(self.backend.hold(request)).await??;
        let mut body = naming(recording);
        body.insert("hold".to_owned(), record.hold.into());
        let Some(mark) = &record.holdmark else { return Ok(body) };
        body.insert("holdmark".to_owned(), json(mark)?);
        if let Some(release) = mark.pending(mark.last_stamp().at) {
            let before = release.stamp.at + RELEASE_WITHIN;
            body.insert("releaserequestedby".to_owned(), release.by.clone().into());
            body.insert("releasebefore".to_owned(), json(before)?);
            let message = format!(
                "the recording stays under legal hold until another admin than {} asks for its release, too, before \
                 {before}",
                release.by
            );
            body.insert("message".to_owned(), message.into());
        }
        Ok(body)
    }

    /// `deleterecording`.
    ///
    /// # Errors
    /// `badvalue`, `forbidden` under legal hold, `notfound`, `unavailable`, and what else the node says.
    pub async fn delete(
        &self,
        session: &Session,
        arguments: &Arguments<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        let (recording, reason) = (arguments.recording()?, arguments.reason()?);
        self.check_seen(session.scope(), recording).await?;
        let request = DeleteRequest { recording, reason, by: session.by().user };
        let tombstone = answer(self.backend.delete(request)).await??;
        let mut body = naming(recording);
        body.insert("at".to_owned(), json(tombstone.at)?);
        Ok(body)
    }

    /// `scorerecording`: the judgement takes the place of an earlier one of his by the same scorecard.
    ///
    /// # Errors
    /// `badvalue`, `notfound`, `unavailable`, and what else the node says.
    pub async fn score(
        &self,
        cards: &[Scorecard],
        session: &Session,
        arguments: &Arguments<'_>,
    ) -> Result<Map<String, Value>, Failure> {
        let bad = |message: String| Failure::new(Code::BadValue, message);
        let (recording, (name, answers, comment)) = (arguments.recording()?, arguments.scoring()?);
        let card = cards.iter().find(|card| card.name == name).ok_or_else(|| {
            bad("`scorecard`: there is none of this name; `listscorecards` tells those there are".to_owned())
        })?;
        let rated = card.rate(&answers).map_err(|error| bad(error.to_string()))?;
        let scoring =
            Scoring::new(name, rated, &comment).map_err(|error| bad(error.to_string()))?;
        self.check_seen(session.scope(), recording).await?;
        let marking = Marking::scored(scoring.clone());
        let request = MarkRequest { recording, marking, by: session.by() };
        let record = answer(self.backend.mark(request)).await??;
        let user = &session.who().by.user;
        let is_it = |score: &Score| {
            score.by == *user
                && score.scorecard == scoring.scorecard
                && score.answers == scoring.answers
        };
        if !record.scores.iter().any(is_it) {
            let message =
                "the recorder that was to keep the score is of an earlier version: update it";
            return Err(Failure::new(Code::Unavailable, message));
        }
        let mut body = naming(recording);
        body.insert("percent".to_owned(), json(scoring.percent)?);
        body.insert("scores".to_owned(), json(&record.scores)?);
        Ok(body)
    }

    async fn check_own(&self, session: &Session, target: &Target) -> Result<(), Failure> {
        if session.role() != UserRole::Agent {
            return self.check_team(session.scope(), target).await;
        }
        let own = match (session.extension(), target) {
            (None, _) => false,
            (Some(own), Target::Extension(extension)) => own == extension,
            (Some(own), _) => answer(self.backend.concerns(target, own)).await?,
        };
        if own {
            return Ok(());
        }
        Err(Failure::new(
            Code::Forbidden,
            "agents start, stop and pause recordings of their own calls only",
        ))
    }

    /// A call of other teams is answered like one that is not there.
    async fn check_team(&self, scope: &Scope, target: &Target) -> Result<(), Failure> {
        if scope.is_all() {
            return Ok(());
        }
        if let Target::Extension(station) = target
            && !scope.has(station.as_str())
        {
            return Err(Failure::new(Code::NoCall, "there is no such call"));
        }
        let calls = answer(self.backend.calls()).await?.calls;
        let is_it = |call: &Value| is_meant(call, target) && is_seen(scope, call);
        if calls.iter().any(is_it) {
            return Ok(());
        }
        Err(Failure::new(Code::NoCall, "there is no such call"))
    }

    /// Asks a question that may block. It goes on when nobody waits for it any more, so it keeps
    /// its permit itself.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Backend) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let internal = |reason: &str| Failure::new(Code::Internal, reason);
        let turn = Arc::clone(&self.questions).acquire_owned().await;
        let turn = turn.map_err(|_| internal("the server is going down"))?;
        let backend = Arc::clone(&self.backend);
        let asked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            question(backend.as_ref())
        });
        asked.await.map_err(|_| internal("the question could not be answered"))?
    }
}

/// `listscorecards`.
///
/// # Errors
/// None that is known: every form has a form in JSON.
pub fn scorecards(cards: &[Scorecard]) -> Result<Map<String, Value>, Failure> {
    Ok(Map::from_iter([("scorecards".to_owned(), json(cards)?)]))
}

/// Whether one of the call's stations may be seen.
/// Whether somebody with this scope sees that call.
pub fn is_seen(scope: &Scope, call: &Value) -> bool {
    let stations = call["extensions"].as_array().into_iter().flatten();
    scope.is_all() || stations.filter_map(Value::as_str).any(|station| scope.has(station))
}

/// A record as the member of a reply.
///
/// # Errors
/// `unavailable` if it is too long for one reply.
pub fn record(value: Value) -> Result<Map<String, Value>, Failure> {
    if value.to_string().len() > REPLY_BYTES_MAX {
        return Err(too_long());
    }
    let mut body = Map::new();
    body.insert("recording".to_owned(), value);
    Ok(body)
}

fn page(backend: &dyn Backend, mut query: Query) -> Result<Map<String, Value>, Failure> {
    // Halving from 1000 ends after ten turns.
    loop {
        let Listing { mut page, unreachable, all_sites } = backend.find(&query)?;
        // A peer of an earlier version knows nothing of scopes, or of one of the filters.
        page.recordings.retain(|recording| query.matches(recording));
        let found = page.recordings.len();
        let recordings = with_sites(json(&page.recordings)?, all_sites.as_ref());
        if recordings.to_string().len() <= REPLY_BYTES_MAX {
            let mut body = Map::new();
            body.insert("recordings".to_owned(), recordings);
            if let Some(cursor) = page.cursor {
                body.insert("cursor".to_owned(), cursor.into());
            }
            if let Some(total) = page.total {
                body.insert("total".to_owned(), total.into());
            }
            name_unreachable(&mut body, &unreachable)?;
            name_sites(&mut body, all_sites);
            return Ok(body);
        }
        if found <= 1 {
            return Err(too_long());
        }
        query.limit = found / 2;
    }
}

/// Records, each with the name of its site where all sites were searched.
fn with_sites(mut recordings: Value, searched: Option<&SearchedSites>) -> Value {
    let Some(SearchedSites::All(sites)) = searched else { return recordings };
    for recording in recordings.as_array_mut().into_iter().flatten() {
        let id = recording["recordingid"].as_str().and_then(|id| id.parse().ok());
        if let Some(site) = id.and_then(|id: RecordingId| sites.get(&id)) {
            recording["site"] = site.as_str().into();
        }
    }
    recordings
}

/// Whether all sites were searched; nothing is said where they never are.
fn name_sites(body: &mut Map<String, Value>, searched: Option<SearchedSites>) {
    let searched = match searched {
        None => return,
        Some(SearchedSites::All(_)) => "all",
        Some(SearchedSites::OwnOnly { because }) => {
            body.insert("allsitesfailure".to_owned(), because.into());
            "own"
        }
    };
    body.insert("searchedsites".to_owned(), searched.into());
}

/// The members that could not be asked; nothing is said when there are none.
fn name_unreachable(
    body: &mut Map<String, Value>,
    unreachable: &[Unreachable],
) -> Result<(), Failure> {
    if !unreachable.is_empty() {
        body.insert("unreachable".to_owned(), json(unreachable)?);
    }
    Ok(())
}

fn json(value: impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::new(Code::Internal, error.to_string()))
}

fn too_long() -> Failure {
    Failure::new(
        Code::Unavailable,
        "the record is too long for a reply; get it from /api/recordings/RECORDINGID",
    )
}

/// Whether a recording is of a call in which this station talked.
fn is_of(record: &Recording, extension: &Extension) -> bool {
    let is_it = |who: &str| who == extension.as_str();
    record.extension == *extension || record.parties.iter().any(|party| is_it(&party.who))
}

fn naming(id: RecordingId) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("recordingid".to_owned(), id.to_string().into());
    body
}

async fn answer<T>(asked: BoxFuture<'static, T>) -> Result<T, Failure> {
    tokio::time::timeout(ANSWER_WITHIN, asked)
        .await
        .map_err(|_| Failure::new(Code::Unavailable, "the recorder does not answer"))
}
