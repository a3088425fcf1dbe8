//! The desk at which people sign in: users file, attempts and sessions together. What a signed-in
//! user may do is decided in `protocol`.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use storage_core::{MonoTime, Redacted, Scope, WallTime};
use tokio::sync::Semaphore;

use super::backend::{Code, Failure};
use super::session::{Identity, Session, Sessions};
use super::stats::Stats;
use super::throttle::Throttle;
use crate::audit::{Asked, Clerk};
use crate::stamp::Stamp;
use crate::users::{NAME_BYTES_MAX, User, Users};

/// Password checks at once: each takes a processor and 19 MiB.
const CHECKS_AT_ONCE: usize = 2;
/// How long one who signs in waits for his turn.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// How often the users file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Somebody who has just signed in, or shown his token.
pub struct SignedIn {
    /// The token.
    pub token: String,
    /// What stands behind it.
    pub session: Arc<Session>,
}

/// The desk.
pub struct Desk {
    file: PathBuf,
    users: RwLock<Arc<Users>>,
    seen: Mutex<Option<Stamp>>,
    sessions: Sessions,
    throttle: Mutex<Throttle>,
    checks: Arc<Semaphore>,
    started: Instant,
    stats: Arc<Stats>,
    clerk: Arc<Clerk>,
}

impl Desk {
    /// A desk with the users of `file`. A file that is absent or wrong is logged and leaves nobody
    /// able to sign in until it is put right: recording must not wait for it. A session that nobody uses
    /// for `idle` ends. Blocking.
    pub fn open(
        file: PathBuf,
        idle: Option<Duration>,
        stats: Arc<Stats>,
        clerk: Arc<Clerk>,
    ) -> Arc<Self> {
        let desk = Arc::new(Self {
            file,
            users: RwLock::default(),
            seen: Mutex::new(None),
            sessions: Sessions::new(idle),
            throttle: Mutex::default(),
            checks: Arc::new(Semaphore::new(CHECKS_AT_ONCE)),
            started: Instant::now(),
            stats,
            clerk,
        });
        if fs::metadata(&desk.file).is_err() {
            let file = desk.file.display();
            tracing::warn!(%file, "nobody can sign in: no users file; see `astlogger user add`");
        }
        desk.refresh();
        desk
    }

    /// Looks at the users file, and for sessions that are over, for ever.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.refresh_off_loop().await;
            self.sessions.sweep(wall_now());
        }
    }

    /// Signs in by name and password.
    ///
    /// # Errors
    /// `notauthenticated` if they are wrong, `busy` after too many attempts or when too many sign
    /// in at once.
    pub async fn by_password(
        self: &Arc<Self>,
        peer: IpAddr,
        name: String,
        password: String,
    ) -> Result<SignedIn, Failure> {
        if name.len() > NAME_BYTES_MAX {
            return Err(self.refuse(peer, &name).await);
        }
        self.begin(peer, &name)?;
        self.refresh_off_loop().await;
        match self.check(name.clone(), password).await? {
            Some((user, scope)) => {
                let now = self.now();
                self.lock_throttle().succeeded(now, &name, peer);
                self.open_session(peer, Identity::local(&user, scope), None).await
            }
            None => Err(self.refuse(peer, &name).await),
        }
    }

    /// Signs in somebody for whom a provider vouches, for so long at the most.
    ///
    /// # Errors
    /// `busy`, when there are too many sessions or the users have just changed.
    pub async fn by_provider(
        &self,
        peer: IpAddr,
        who: Identity,
        lifetime: Option<Duration>,
    ) -> Result<SignedIn, Failure> {
        self.open_session(peer, who, lifetime).await
    }

    /// Signs somebody out who has not asked for it, and writes down why. `address` is where he signed in.
    pub async fn end(&self, session: &Session, address: IpAddr, because: &'static str) {
        self.sign_out(session);
        let (user, role) = (session.who().by.user.clone(), session.role());
        tracing::warn!(user = %Redacted(&user), %role, because, "signed out");
        let arguments = serde_json::json!({ "because": because });
        let (role, action) = (Some(role.as_str()), "signout".to_owned());
        // It shows nothing: the clerk logs what he cannot write down.
        let _ = self.clerk.note(Asked { user, role, address, action, arguments }, None).await;
    }

    /// Writes down somebody for whom a provider vouches and who is nobody here.
    pub async fn refused_by_provider(&self, peer: IpAddr, name: &str, code: Code) {
        self.stats.signin_failures.inc();
        tracing::warn!(user = %Redacted(name), %peer, "sign-in by a provider refused");
        self.note(peer, name, None, Some(code)).await;
    }

    /// The users as the file has them now.
    pub fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn open_session(
        &self,
        peer: IpAddr,
        who: Identity,
        lifetime: Option<Duration>,
    ) -> Result<SignedIn, Failure> {
        let (token, session) = match lifetime {
            Some(lifetime) => self.sessions.open_for(wall_now(), who, lifetime)?,
            None => self.sessions.open(wall_now(), who)?,
        };
        // The users may have been read anew since they were looked at, and whom that ends did not have
        // this session yet.
        if !self.is_current(&session) {
            self.sessions.revoke(&token);
            return Err(Failure::new(Code::Busy, "the users have changed; try again"));
        }
        let (name, role) = (&session.who().by.user, session.role());
        tracing::info!(user = %Redacted(name), %role, %peer, "signed in");
        self.note(peer, name, Some(role.as_str()), None).await;
        Ok(SignedIn { token, session })
    }

    /// Signs in by a token that was given out before.
    ///
    /// # Errors
    /// `notauthenticated` if it is none, or no longer.
    pub fn by_token(&self, token: &str) -> Result<Arc<Session>, Failure> {
        self.sessions.find(wall_now(), token).ok_or_else(|| {
            Failure::new(Code::NotAuthenticated, "the token is unknown or expired; sign in again")
        })
    }

    /// Ends a session, its token, and the sockets that live on it.
    pub fn sign_out(&self, session: &Session) {
        self.sessions.retain(|other| !std::ptr::eq(other, session));
    }

    fn now(&self) -> MonoTime {
        let elapsed = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
        MonoTime::from_micros(elapsed)
    }

    fn begin(&self, peer: IpAddr, name: &str) -> Result<(), Failure> {
        let now = self.now();
        self.lock_throttle().begin(now, name, peer).map_err(|wait| {
            self.stats.signin_failures.inc();
            let seconds = wait.as_secs() + 1;
            let message = format!("too many failed attempts; try again in {seconds} s");
            Failure::new(Code::Busy, message)
        })
    }

    async fn check(
        &self,
        name: String,
        password: String,
    ) -> Result<Option<(User, Scope)>, Failure> {
        let turn = Arc::clone(&self.checks).acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(TURN_WITHIN, turn).await else {
            return Err(Failure::new(Code::Busy, "too many sign in at once; try again"));
        };
        let users = self.users();
        let checked = tokio::task::spawn_blocking(move || {
            // Held here and not by the caller, who may go away while this goes on.
            let _permit = permit;
            users.verify(&name, &password).map(|user| (user.clone(), users.scope(user)))
        });
        checked.await.map_err(|error| Failure::new(Code::Internal, error.to_string()))
    }

    async fn refuse(&self, peer: IpAddr, name: &str) -> Failure {
        self.stats.signin_failures.inc();
        tracing::warn!(user = %Redacted(name), %peer, "sign-in refused");
        let code = Code::NotAuthenticated;
        self.note(peer, name, None, Some(code)).await;
        Failure::new(Code::NotAuthenticated, "unknown user or wrong password")
    }

    async fn note(
        &self,
        address: IpAddr,
        name: &str,
        role: Option<&'static str>,
        outcome: Option<Code>,
    ) {
        let user = name.chars().take(NAME_BYTES_MAX).collect();
        let action = "authenticate".to_owned();
        let asked = Asked { user, role, address, action, arguments: Value::Null };
        // It shows nothing: the clerk lets it pass, and logs what he cannot write down.
        let _ = self.clerk.note(asked, outcome).await;
    }

    async fn refresh_off_loop(self: &Arc<Self>) {
        let desk = Arc::clone(self);
        // A panic in there has been reported; the users stay as they are.
        let _ = tokio::task::spawn_blocking(move || desk.refresh()).await;
    }

    fn refresh(&self) {
        // While the file is away (an editor between two renames) the users stay as they are.
        let Ok(found) = fs::metadata(&self.file) else { return };
        let stamp = Stamp::of(&found);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref() == Some(&stamp) {
            return;
        }
        *seen = Some(stamp);
        if found.mode() & 0o037 != 0 {
            let file = self.file.display();
            tracing::warn!(%file, "others can read or change the users file; `chmod 640` it");
        }
        match Users::load(&self.file) {
            Ok(users) => {
                let users = Arc::new(users);
                *self.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&users);
                for user in users.teamless() {
                    let (user, team) = (Redacted(&user.name), user.team.as_deref());
                    tracing::warn!(%user, team, "sees nothing: the users file has no such [[team]]");
                }
                self.sessions.retain(|session| is_current(&users, session));
                tracing::info!(users = users.as_slice().len(), "users file read");
            }
            Err(error) => tracing::error!(%error, "users stay as they were"),
        }
    }

    fn is_current(&self, session: &Session) -> bool {
        is_current(&self.users(), session)
    }

    fn lock_throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the file still has this user as he signed in, or still has none of his name if a provider vouched for
/// him, and lets him see the same.
fn is_current(users: &Users, session: &Session) -> bool {
    let who = session.who();
    users.find(&who.by.user) == who.local.as_ref()
        && users.scope_of(who.team.as_deref()) == who.scope
}

/// The wall clock, for expiry.
pub(super) fn wall_now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime::default() + since
}
