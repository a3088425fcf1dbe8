//! What the object_store crate does not ask of an S3-compatible store: retention and legal hold of objects, and the
//! deletion of each of their versions. The crate signs the requests and carries them; what they say is in
//! [`super::lock`].
//!
//! In a bucket with object lock a delete only hides an object. So here each version is deleted by its name, and what
//! the store refuses is asked for its lock: one that lasts is the answer, a hold that nobody needs any more is
//! taken off.

use std::collections::BTreeSet;
use std::error::Error as StdError;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::http::{HeaderMap, Method, Request, StatusCode};
use md5::{Digest, Md5};
use object_store::ClientOptions;
use object_store::aws::{AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector, HttpRequestBody, ReqwestConnector};
use recorder::clock::Clock;
use storage_core::WallTime;

use super::lock::{Lock, Version, encoded, hold_body, read_versions, retention_body};
use super::target::{Kind, TargetError};

/// Versions that are listed at once.
const PAGE: &str = "500";
/// A list of them is smaller.
const ANSWER_BYTES_MAX: usize = 2 << 20;

/// Asks the store for what the crate does not know.
pub struct Locks {
    client: HttpClient,
    credentials: AwsCredentialProvider,
    region: String,
    /// Address of the bucket, without a slash in the end.
    bucket: String,
}

/// What a store says.
struct Said {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// How a version is locked.
struct Locked {
    until: Option<WallTime>,
    hold: bool,
}

impl Locks {
    /// Of a bucket at this address.
    ///
    /// # Errors
    /// If there can be no client with these options.
    pub fn new(
        options: &ClientOptions,
        credentials: AwsCredentialProvider,
        region: String,
        bucket: String,
    ) -> Result<Self, object_store::Error> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(Self { client, credentials, region, bucket })
    }

    /// Locks the version of an object that is the latest.
    pub async fn lock(&self, key: &str, lock: &Lock) -> Result<(), TargetError> {
        if let Some(until) = lock.until {
            let body = retention_body(lock.mode, until);
            let said = self.ask(Method::PUT, key, &[("retention", "")], body).await?;
            if !said.status.is_success() && !self.lasts(key, until).await? {
                return Err(said.no_lock());
            }
        }
        if let Some(hold) = lock.hold {
            let said = self.ask(Method::PUT, key, &[("legal-hold", "")], hold_body(hold)).await?;
            if !said.status.is_success() {
                return Err(said.no_lock());
            }
        }
        Ok(())
    }

    /// Whether an object is locked until then already: a lock cannot be made shorter, and need not.
    async fn lasts(&self, key: &str, until: WallTime) -> Result<bool, TargetError> {
        let locked = self.locked(key, None).await?;
        Ok(locked.and_then(|locked| locked.until).is_some_and(|known| known >= until))
    }

    /// Deletes all versions of these objects, which begin with the same text. While one is locked the object stays
    /// hidden, and the answer is until when. Nothing is done where the store has no versions ([`Kind::NoLock`]).
    pub async fn delete(&self, begin: &str, keys: &BTreeSet<String>) -> Result<(), TargetError> {
        let mut versions = self.versions(begin).await?;
        versions.retain(|version| keys.contains(&version.key));
        let shown = versions.iter().filter(|version| version.latest && !version.marker);
        for version in shown {
            let said = self.ask(Method::DELETE, &version.key, &[], String::new()).await?;
            said.done()?;
        }
        if versions.iter().any(|version| version.latest && !version.marker) {
            // Now each has a marker.
            versions = self.versions(begin).await?;
            versions.retain(|version| keys.contains(&version.key));
        }
        let mut until = None;
        let (markers, bytes): (Vec<_>, Vec<_>) =
            versions.iter().partition(|version| version.marker);
        for version in bytes {
            until = until.max(self.delete_version(version).await?);
        }
        if let Some(until) = until {
            let words = format!("the store keeps it until {until}, because it is locked there");
            return Err(TargetError::new(Kind::Locked(until), words));
        }
        for marker in markers {
            self.delete_version(marker).await?;
        }
        Ok(())
    }

    /// Deletes one version; tells until when it is locked, if it is.
    async fn delete_version(&self, version: &Version) -> Result<Option<WallTime>, TargetError> {
        let query = [("versionId", &*version.id)];
        let said = self.ask(Method::DELETE, &version.key, &query, String::new()).await?;
        if said.is_gone() {
            return Ok(None);
        }
        let Some(locked) = self.locked(&version.key, Some(&version.id)).await? else {
            return said.done().map(|()| None);
        };
        if locked.hold {
            // A recording that is held is not deleted: that hold is of an earlier time.
            let query = [("legal-hold", ""), ("versionId", &*version.id)];
            self.ask(Method::PUT, &version.key, &query, hold_body(false)).await?.done()?;
            let query = [("versionId", &*version.id)];
            let again = self.ask(Method::DELETE, &version.key, &query, String::new()).await?;
            if again.is_gone() {
                return Ok(None);
            }
        }
        match locked.until.filter(|until| *until > Clock::wall()) {
            Some(until) => Ok(Some(until)),
            None => said.done().map(|()| None),
        }
    }

    /// How a version is locked, the latest if none is named; `None` if it is not there.
    async fn locked(&self, key: &str, id: Option<&str>) -> Result<Option<Locked>, TargetError> {
        let query: Vec<_> = id.map(|id| ("versionId", id)).into_iter().collect();
        let said = self.ask(Method::HEAD, key, &query, String::new()).await?;
        if said.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        said.done()?;
        let header = |name: &str| said.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(Some(Locked {
            until: header("x-amz-object-lock-retain-until-date").and_then(|text| text.parse().ok()),
            hold: header("x-amz-object-lock-legal-hold") == Some("ON"),
        }))
    }

    async fn versions(&self, begin: &str) -> Result<Vec<Version>, TargetError> {
        let (mut all, mut behind) = (Vec::new(), None::<(String, String)>);
        loop {
            let mut query = vec![("max-keys", PAGE), ("prefix", begin), ("versions", "")];
            if let Some((key, version)) = &behind {
                query.extend([("key-marker", &**key), ("version-id-marker", &**version)]);
            }
            let said = self.ask(Method::GET, "", &query, String::new()).await?;
            if said.status == StatusCode::NOT_IMPLEMENTED {
                return Err(TargetError::new(Kind::NoLock, said.words()));
            }
            said.done()?;
            let page = read_versions(&said.body).ok_or_else(|| {
                TargetError::new(Kind::Away, "the store's list of versions cannot be read")
            })?;
            all.extend(page.listed);
            match page.next {
                Some(next) if behind.as_ref() != Some(&next) => behind = Some(next),
                _ => return Ok(all),
            }
        }
    }

    /// Asks the store, about the bucket itself if there is no key.
    async fn ask(
        &self,
        method: Method,
        key: &str,
        query: &[(&str, &str)],
        body: String,
    ) -> Result<Said, TargetError> {
        let away = |error: &dyn StdError| TargetError::new(Kind::Away, last_words(error));
        let pairs: Vec<_> =
            query.iter().map(|(name, value)| format!("{name}={}", encoded(value, false))).collect();
        let mark = if pairs.is_empty() { "" } else { "?" };
        let slash = if key.is_empty() { "" } else { "/" };
        let (key, pairs) = (encoded(key, true), pairs.join("&"));
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{slash}{key}{mark}{pairs}", self.bucket));
        if !body.is_empty() {
            let digest = STANDARD.encode(Md5::digest(body.as_bytes()));
            request = request.header("content-md5", digest).header("content-type", "text/xml");
        }
        let mut request =
            request.body(HttpRequestBody::from(body)).map_err(|error| away(&error))?;
        let credential = self.credentials.get_credential().await.map_err(|error| away(&error))?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| away(&error))?;
        let answer = self.client.execute(request).await.map_err(|error| away(&error))?;
        let (parts, body) = answer.into_parts();
        let body = body.bytes().await.map_err(|error| away(&error))?;
        let body = body[..body.len().min(ANSWER_BYTES_MAX)].to_vec();
        Ok(Said { status: parts.status, headers: parts.headers, body })
    }
}

impl Said {
    fn is_gone(&self) -> bool {
        self.status.is_success() || self.status == StatusCode::NOT_FOUND
    }

    /// What the store calls it.
    fn words(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        super::s3::code_in(&text).map_or_else(
            || format!("the store answers {}", self.status),
            |code| format!("the store says {code}"),
        )
    }

    fn done(&self) -> Result<(), TargetError> {
        if self.is_gone() {
            return Ok(());
        }
        let kind = if self.status.is_server_error() { Kind::Away } else { Kind::Refused };
        Err(TargetError::new(kind, self.words()))
    }

    /// Why something is not locked: what is wrong with the way there is no word of the store about locks.
    fn no_lock(&self) -> TargetError {
        let kind = match self.status {
            StatusCode::NOT_FOUND => Kind::NotThere,
            StatusCode::NOT_IMPLEMENTED => Kind::NoLock,
            status if status.is_server_error() => Kind::Away,
            _ => Kind::NoLock,
        };
        TargetError::new(kind, self.words())
    }
}

/// The innermost cause, which names no address.
fn last_words(error: &dyn StdError) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
