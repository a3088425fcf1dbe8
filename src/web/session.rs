//! Who is signed in: tokens and what stands behind them. A token is 32 random bytes in hex; only
//! its SHA-256 is kept, so that a copy of this memory signs nobody in. Who gets one is decided in
//! `signin`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use storage_core::{Extension, Scope, WallTime};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::backend::{By, Code, Failure};
use crate::users::{User, UserRole};

/// How long a session lasts.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Sessions at once in all, and of one user; his oldest gives way, one on which no socket lives if
/// there is any: a script that signs in for every question must not throw people out.
const SESSIONS_MAX: usize = 10_000;
const SESSIONS_PER_USER_MAX: usize = 64;

/// Who signs in, and who vouches for him.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// He, as one who asks for something.
    pub by: By,
    /// The team whose recordings and calls are all he sees; none: everything.
    pub team: Option<String>,
    /// Whose recordings and calls that is.
    pub scope: Scope,
    /// He, as the users file had him; none if a provider of OpenID Connect vouched for him.
    pub local: Option<User>,
}

impl Identity {
    /// A user of the users file.
    pub fn local(user: &User, scope: Scope) -> Self {
        let by = By { user: user.name.clone(), role: user.role, extension: user.extension.clone() };
        Self { by, team: user.team.clone(), scope, local: Some(user.clone()) }
    }
}

/// Somebody who has signed in.
#[derive(Debug)]
pub struct Session {
    who: Identity,
    expires: WallTime,
    ended: watch::Sender<bool>,
}

impl Session {
    fn new(who: Identity, expires: WallTime) -> Arc<Self> {
        Arc::new(Self { who, expires, ended: watch::Sender::new(false) })
    }

    /// He, as he was when he signed in.
    pub fn who(&self) -> &Identity {
        &self.who
    }

    /// What he may do.
    pub fn role(&self) -> UserRole {
        self.who.by.role
    }

    /// Whose recordings and calls he may see.
    pub fn scope(&self) -> &Scope {
        &self.who.scope
    }

    /// The station he is tied to.
    pub fn extension(&self) -> Option<&Extension> {
        self.who.by.extension.as_ref()
    }

    /// When the token stops being one.
    pub fn expires(&self) -> WallTime {
        self.expires
    }

    /// He, as one who asks for something.
    pub fn by(&self) -> By {
        self.who.by.clone()
    }

    /// Ready when the token was revoked. Expiry is for the caller to watch.
    pub async fn revoked(&self) {
        // The sender lives in `self`, so the wait can only end by the value.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

struct Entry {
    digest: [u8; 32],
    session: Arc<Session>,
    used: WallTime,
}

impl Entry {
    /// A socket lives on it, or a request that was made by it is being answered.
    fn in_use(&self) -> bool {
        Arc::strong_count(&self.session) > 1
    }

    fn is_over(&self, now: WallTime, idle: Option<Duration>) -> bool {
        let left = idle.is_some_and(|idle| !self.in_use() && self.used + idle <= now);
        left || self.session.expires <= now
    }
}

/// All sessions. The key is the first half of the digest; what proves a token, the whole digest,
/// is compared in constant time.
pub struct Sessions {
    table: Mutex<BTreeMap<[u8; 16], Entry>>,
    idle: Option<Duration>,
}

impl Sessions {
    /// None yet. One that nobody uses for `idle` ends.
    pub fn new(idle: Option<Duration>) -> Self {
        Self { table: Mutex::default(), idle }
    }

    /// Opens a session and makes its token.
    ///
    /// # Errors
    /// `busy` when there are too many; `internal` when the machine gives no random bytes.
    pub fn open(&self, now: WallTime, who: Identity) -> Result<(String, Arc<Session>), Failure> {
        self.open_for(now, who, LIFETIME)
    }

    /// The same for a shorter time.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_for(
        &self,
        now: WallTime,
        who: Identity,
        lifetime: Duration,
    ) -> Result<(String, Arc<Session>), Failure> {
        let token = random_word()?;
        let mut table = self.lock();
        make_room(&mut table, now, &who.by.user);
        if table.len() >= SESSIONS_MAX {
            return Err(Failure::new(Code::Busy, "too many sessions; try again later"));
        }
        let digest = digest(&token);
        let session = Session::new(who, now + lifetime.min(LIFETIME));
        table.insert(key(&digest), Entry { digest, session: Arc::clone(&session), used: now });
        Ok((token, session))
    }

    /// The session of a token, which is used by this.
    pub fn find(&self, now: WallTime, token: &str) -> Option<Arc<Session>> {
        let digest = digest(token);
        let mut table = self.lock();
        let entry = table.get_mut(&key(&digest))?;
        let proved = bool::from(entry.digest.ct_eq(&digest)) && !entry.is_over(now, self.idle);
        proved.then(|| {
            entry.used = now;
            Arc::clone(&entry.session)
        })
    }

    /// Ends what has expired or was not used for too long.
    pub fn sweep(&self, now: WallTime) {
        self.lock().retain(|_, entry| {
            if entry.in_use() {
                entry.used = now;
            }
            let over = entry.is_over(now, self.idle);
            if over {
                entry.session.ended.send_replace(true);
            }
            !over
        });
    }

    /// Ends the session of a token, and with it the sockets that live on it.
    pub fn revoke(&self, token: &str) {
        let digest = digest(token);
        if let Some(entry) = self.lock().remove(&key(&digest)) {
            entry.session.ended.send_replace(true);
        }
    }

    /// Ends all sessions that `keep` does not want.
    pub fn retain(&self, keep: impl Fn(&Session) -> bool) {
        self.lock().retain(|_, entry| {
            let kept = keep(&entry.session);
            if !kept {
                entry.session.ended.send_replace(true);
            }
            kept
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<[u8; 16], Entry>> {
        // Each change is one call on the map: a panic elsewhere leaves it whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(table: &mut BTreeMap<[u8; 16], Entry>, now: WallTime, name: &str) {
    if table.len() >= SESSIONS_MAX {
        table.retain(|_, entry| entry.session.expires > now);
    }
    let his = |entry: &&Entry| entry.session.who.by.user == name;
    if table.values().filter(his).count() < SESSIONS_PER_USER_MAX {
        return;
    }
    let oldest =
        table.values().filter(his).min_by_key(|entry| (entry.in_use(), entry.session.expires));
    if let Some(digest) = oldest.map(|entry| entry.digest)
        && let Some(entry) = table.remove(&key(&digest))
    {
        entry.session.ended.send_replace(true);
    }
}

/// 32 random bytes in hex: what nobody guesses.
///
/// # Errors
/// `internal` when the machine gives no random bytes.
pub(super) fn random_word() -> Result<String, Failure> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| Failure::new(Code::Internal, format!("no random bytes: {error}")))?;
    Ok(hex(&secret))
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn key(digest: &[u8; 32]) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&digest[..16]);
    key
}

/// Bytes as lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::PasswordHash;

    fn user(name: &str) -> Identity {
        let hash = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$\
                    Q0Y2xSzTT5BrzQQZR0ZgiMTJxVoBXDwHfIFd6q8i0/0";
        let user = User {
            name: name.to_owned(),
            role: UserRole::Qa,
            password: PasswordHash::try_from(hash.to_owned()).unwrap(),
            extension: None,
            team: None,
        };
        Identity::local(&user, Scope::ALL)
    }

    fn sessions() -> Sessions {
        Sessions::new(Some(IDLE))
    }

    const IDLE: Duration = Duration::from_secs(3600);

    const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);

    #[test]
    fn a_token_is_good_until_it_expires_or_is_revoked() {
        let sessions = sessions();
        let (token, _) = sessions.open(NOW, user("anna")).unwrap();
        assert_eq!(token.len(), 64);
        assert!(sessions.find(NOW, &token).is_some());
        let in_time = IDLE - Duration::from_millis(1);
        let mut now = NOW;
        while now + in_time < NOW + LIFETIME {
            now = now + in_time;
            assert!(sessions.find(now, &token).is_some(), "used again and again, so not idle");
        }
        assert!(sessions.find(NOW + LIFETIME, &token).is_none());
        for wrong in ["", &token[1..], &token.to_uppercase(), &hex(&[0; 32])] {
            assert!(sessions.find(NOW, wrong).is_none());
        }
        sessions.revoke(&token);
        assert!(sessions.find(NOW, &token).is_none());
        for (asked, lasts) in [(IDLE / 2, IDLE / 2), (LIFETIME * 2, LIFETIME)] {
            let (_, session) = sessions.open_for(NOW, user("anna"), asked).unwrap();
            assert_eq!(session.expires(), NOW + lasts);
        }
    }

    #[test]
    fn a_session_that_nobody_uses_ends() {
        let sessions = sessions();
        let (left, session) = sessions.open(NOW, user("anna")).unwrap();
        let ended = session.ended.subscribe();
        drop(session);
        let (held, socket) = sessions.open(NOW, user("anna")).unwrap();
        let (never, _) = Sessions::new(None).open(NOW, user("anna")).unwrap();
        let over = NOW + IDLE;
        assert!(sessions.find(over, &left).is_none(), "also before anybody sweeps");
        sessions.sweep(over);
        assert!(*ended.borrow());
        assert!(sessions.find(NOW, &left).is_none(), "over for good");
        assert!(sessions.find(over, &held).is_some(), "a socket lives on it");
        sessions.sweep(over);
        drop(socket);
        assert!(sessions.find(over + IDLE / 2, &held).is_some(), "used until the socket ended");
        sessions.sweep(over + IDLE * 2);
        assert_eq!(sessions.lock().len(), 0);
        let unbounded = Sessions::new(None);
        let (token, _) = unbounded.open(NOW, user("anna")).unwrap();
        unbounded.sweep(over);
        assert!(unbounded.find(over, &token).is_some());
        assert!(unbounded.find(over, &never).is_none(), "of another table");
    }

    #[test]
    fn the_oldest_of_one_users_many_sessions_gives_way() {
        let sessions = sessions();
        let (used, _held) = sessions.open(NOW, user("anna")).unwrap();
        let (first, _) = sessions.open(NOW, user("anna")).unwrap();
        let (other, _) = sessions.open(NOW, user("bert")).unwrap();
        for i in 1..SESSIONS_PER_USER_MAX as u64 {
            sessions.open(NOW + Duration::from_secs(i), user("anna")).unwrap();
        }
        assert!(sessions.find(NOW, &first).is_none());
        assert!(sessions.find(NOW, &used).is_some());
        assert!(sessions.find(NOW, &other).is_some());
        assert_eq!(sessions.lock().len(), SESSIONS_PER_USER_MAX + 1);
    }

    #[test]
    fn a_user_who_is_gone_is_signed_out() {
        let sessions = sessions();
        let (anna, session) = sessions.open(NOW, user("anna")).unwrap();
        let (bert, _) = sessions.open(NOW, user("bert")).unwrap();
        sessions.retain(|session| session.who().by.user == "bert");
        assert!(*session.ended.borrow());
        assert!(sessions.find(NOW, &anna).is_none());
        assert!(sessions.find(NOW, &bert).is_some());
    }
}
