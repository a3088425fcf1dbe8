//! An archive in an S3-compatible store, by the object_store crate. Here its errors are put in words that hold no
//! secret, and told apart by what can be done about them; repeating is the archiver's matter, so the crate does
//! so only once, for a fault of a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as StdError;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, RetryConfig,
};

use super::lock::Lock;
use super::s3_lock::Locks;
use super::target::{Answer, Kind, Lying, Target, TargetError, Upload};
use crate::config::S3;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A part of 8 MiB over a slow line, 70 KB a second.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
const RETRY_WITHIN: Duration = Duration::from_secs(10);
/// A region has to be named; stores other than Amazon's do not care which.
const ANY_REGION: &str = "us-east-1";
/// More of what a fault says about itself than this is of no use.
const WORDS_MAX: usize = 200;

/// The store.
pub struct S3Store {
    place: String,
    bucket: String,
    prefix: String,
    store: AmazonS3,
    /// Where recordings are locked.
    locks: Option<Locks>,
}

impl S3Store {
    /// That of the configuration. Nothing is asked of it yet.
    ///
    /// # Errors
    /// If the settings contradict each other.
    pub fn new(place: String, config: &S3) -> Result<Self, TargetError> {
        let http = config.endpoint.as_ref().is_some_and(|address| address.starts_with("http://"));
        let client = ClientOptions::new()
            .with_allow_http(http)
            .with_connect_timeout(CONNECT_WITHIN)
            .with_timeout(ANSWER_WITHIN);
        let retry =
            RetryConfig { max_retries: 1, retry_timeout: RETRY_WITHIN, ..RetryConfig::default() };
        // A bucket with object lock takes nothing without a checksum.
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&config.bucket)
            .with_region(config.region.as_deref().unwrap_or(ANY_REGION))
            .with_client_options(client.clone())
            .with_retry(retry)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_disable_bulk_delete(true);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        if let (Some(access), Some(secret)) = (&config.accesskey, &config.secretkey) {
            builder =
                builder.with_access_key_id(access.expose()).with_secret_access_key(secret.expose());
        }
        let store = builder.build().map_err(|error| in_words(&config.bucket, &error))?;
        let locks = config.lock.map(|_| Self::locks(config, &client, &store)).transpose()?;
        let (bucket, prefix) = (config.bucket.clone(), config.prefix.clone());
        Ok(Self { place, bucket, prefix, store, locks })
    }

    fn locks(config: &S3, client: &ClientOptions, store: &AmazonS3) -> Result<Locks, TargetError> {
        let region = config.region.clone().unwrap_or_else(|| ANY_REGION.to_owned());
        let host = match &config.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("https://s3.{region}.amazonaws.com"),
        };
        let bucket = format!("{host}/{}", config.bucket);
        let locks = Locks::new(client, Arc::clone(store.credentials()), region, bucket);
        locks.map_err(|error| in_words(&config.bucket, &error))
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    /// Deletes all versions of these, those of a recording together: their names differ in the ending only.
    async fn delete_versions(&self, locks: &Locks, names: &[String]) -> Result<(), TargetError> {
        let mut alike: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for name in names {
            let key = self.path(name).to_string();
            let file = key.rfind('/').map_or(0, |slash| slash + 1);
            let end = key[file..].find('.').map_or(key.len(), |dot| file + dot);
            alike.entry(key[..end].to_owned()).or_default().insert(key);
        }
        let mut locked = None;
        for (begin, keys) in alike {
            match locks.delete(&begin, &keys).await {
                Err(error) if matches!(error.kind, Kind::Locked(_)) => locked = Some(error),
                done => done?,
            }
        }
        locked.map_or(Ok(()), Err)
    }

    fn worded(&self, error: &Error) -> TargetError {
        in_words(&self.bucket, error)
    }
}

/// What an error means for us. The store's own text may name the access key, so only its code is told.
fn in_words(bucket: &str, error: &Error) -> TargetError {
    let mut all = error.to_string();
    let mut last: &dyn StdError = error;
    while let Some(source) = last.source() {
        last = source;
        all.push_str(&last.to_string());
    }
    let code = code_in(&all);
    let answer = |kind, fallback: &str| {
        let words = match code {
            Some("NoSuchBucket") => format!("there is no bucket {bucket}"),
            Some(code) => format!("the store says {code}"),
            None => fallback.to_owned(),
        };
        TargetError::new(kind, words)
    };
    match error {
        Error::NotFound { .. } if code == Some("NoSuchBucket") => answer(Kind::Refused, ""),
        Error::NotFound { .. } => answer(Kind::NotThere, "the object is not there"),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            answer(Kind::Refused, "the store refuses the access key")
        }
        Error::Precondition { .. } | Error::NotModified { .. } => {
            answer(Kind::Changed, "the object was replaced")
        }
        _ if code == Some("NoSuchUpload") => answer(Kind::NotThere, ""),
        _ if code.is_some_and(is_refusal) => answer(Kind::Refused, ""),
        _ => {
            let said = last.to_string();
            let plain = !said.contains('<') && said.chars().count() <= WORDS_MAX;
            answer(Kind::Away, if plain { &said } else { "the store does not do what it should" })
        }
    }
}

/// Codes by which a store says that somebody has to change something.
fn is_refusal(code: &str) -> bool {
    [
        "AccessDenied",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "NoSuchBucket",
        "InvalidBucketName",
    ]
    .contains(&code)
}

/// The code in a store's answer: `<Code>AccessDenied</Code>`.
pub(super) fn code_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word =
        !code.is_empty() && code.len() < 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    is_word.then_some(code)
}

impl Target for S3Store {
    fn place(&self) -> &str {
        &self.place
    }

    fn head<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Lying>> {
        Box::pin(async move {
            match self.store.head(&self.path(name)).await {
                Ok(meta) => {
                    Ok(Some(Lying { bytes: meta.size, tag: meta.e_tag.unwrap_or_default() }))
                }
                Err(error) => match self.worded(&error) {
                    TargetError { kind: Kind::NotThere, .. } => Ok(None),
                    error => Err(error),
                },
            }
        })
    }

    fn read<'a>(&'a self, name: &'a str, range: Range<u64>, tag: &'a str) -> Answer<'a, Vec<u8>> {
        Box::pin(async move {
            let length = range.end - range.start;
            if length == 0 {
                return Ok(Vec::new());
            }
            let if_match = (!tag.is_empty()).then(|| tag.to_owned());
            let range = Some(GetRange::Bounded(range));
            let options = GetOptions { if_match, range, ..GetOptions::default() };
            let failed = |error: Error| self.worded(&error);
            let found = self.store.get_opts(&self.path(name), options).await.map_err(failed)?;
            let bytes = found.bytes().await.map_err(failed)?;
            if bytes.len() as u64 != length {
                return Err(TargetError::new(Kind::Changed, "the store gives another length"));
            }
            Ok(bytes.to_vec())
        })
    }

    fn put<'a>(&'a self, name: &'a str, bytes: Vec<u8>) -> Answer<'a, ()> {
        Box::pin(async move {
            let put = self.store.put(&self.path(name), bytes.into()).await;
            put.map(drop).map_err(|error| self.worded(&error))
        })
    }

    fn begin<'a>(&'a self, name: &'a str) -> Answer<'a, Upload> {
        Box::pin(async move {
            let begun = self.store.create_multipart(&self.path(name)).await;
            let id = begun.map_err(|error| self.worded(&error))?;
            Ok(Upload { name: name.to_owned(), id })
        })
    }

    fn part<'a>(&'a self, upload: &'a Upload, number: usize, bytes: Vec<u8>) -> Answer<'a, String> {
        Box::pin(async move {
            let path = self.path(&upload.name);
            let put = self.store.put_part(&path, &upload.id, number, bytes.into()).await;
            put.map(|part| part.content_id).map_err(|error| self.worded(&error))
        })
    }

    fn complete<'a>(&'a self, upload: &'a Upload, parts: Vec<String>) -> Answer<'a, ()> {
        Box::pin(async move {
            let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
            let path = self.path(&upload.name);
            let done = self.store.complete_multipart(&path, &upload.id, parts).await;
            done.map(drop).map_err(|error| self.worded(&error))
        })
    }

    fn abort<'a>(&'a self, upload: &'a Upload) -> Answer<'a, ()> {
        Box::pin(async move {
            let done = self.store.abort_multipart(&self.path(&upload.name), &upload.id).await;
            done.map_err(|error| self.worded(&error))
        })
    }

    fn delete<'a>(&'a self, names: &'a [String]) -> Answer<'a, ()> {
        Box::pin(async move {
            if let Some(locks) = &self.locks {
                match self.delete_versions(locks, names).await {
                    Err(TargetError { kind: Kind::NoLock, .. }) => {}
                    done => return done,
                }
            }
            for name in names {
                match self.store.delete(&self.path(name)).await.map_err(|error| self.worded(&error))
                {
                    Ok(()) | Err(TargetError { kind: Kind::NotThere, .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })
    }

    fn lock<'a>(&'a self, name: &'a str, lock: &'a Lock) -> Answer<'a, ()> {
        Box::pin(async move {
            let Some(locks) = &self.locks else {
                return Err(TargetError::new(Kind::NoLock, "al_archivelock is not set"));
            };
            locks.lock(self.path(name).as_ref(), lock).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(body: &str) -> Error {
        Error::Generic { store: "S3", source: body.to_owned().into() }
    }

    #[test]
    fn of_what_a_store_says_only_the_code_is_told() {
        let denied = "<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>hunter2</AWSAccessKeyId></Error>";
        let error = in_words("calls", &generic(denied));
        assert_eq!(
            (error.kind, error.words.as_str()),
            (Kind::Refused, "the store says InvalidAccessKeyId")
        );
        let strange = "<html>hunter2</html>";
        let error = in_words("calls", &generic(strange));
        assert_eq!((error.kind, error.words.contains("hunter2")), (Kind::Away, false));
        let error = in_words("calls", &generic("Connection refused (os error 111)"));
        assert_eq!((error.kind, error.words.contains("refused")), (Kind::Away, true));
        let none =
            Error::NotFound { path: "x".to_owned(), source: "<Code>NoSuchBucket</Code>".into() };
        let error = in_words("calls", &none);
        assert_eq!((error.kind, error.words.as_str()), (Kind::Refused, "there is no bucket calls"));
        let gone = in_words("calls", &generic("<Code>NoSuchUpload</Code>"));
        assert_eq!(gone.kind, Kind::NotThere);
        assert_eq!(code_in("<Code>a secret</Code>"), None);
    }
}
