//! From when until when certificates hold, and how that is to be taken now. Pure but for the reading of files.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate that ends sooner is worth a word.
pub(crate) const WARN_DAYS: i64 = 30;
/// One that ends sooner than this is not to wait for the week after.
pub(crate) const URGENT_DAYS: i64 = 7;
pub(crate) const DAY_SECONDS: i64 = 86_400;

/// When a certificate holds: its first and its last second, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    /// It does not hold before.
    pub(crate) begin: i64,
    /// It does not hold after.
    pub(crate) end: i64,
}

/// What that means at some time, ordered from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ends {
    NotX509,
    Over { days: i64 },
    NotYet { days: i64 },
    In { days: i64 },
}

impl Validity {
    /// What a certificate says; none if it is no X.509.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        let validity = parsed.validity();
        Some(Self { begin: validity.not_before.timestamp(), end: validity.not_after.timestamp() })
    }

    /// How it stands now.
    pub(crate) fn at(self, now: i64) -> Ends {
        if now > self.end {
            Ends::Over { days: (now - self.end) / DAY_SECONDS }
        } else if now < self.begin {
            Ends::NotYet { days: (self.begin - now) / DAY_SECONDS }
        } else {
            Ends::In { days: (self.end - now) / DAY_SECONDS }
        }
    }

    /// The day on which it ends, in UTC.
    pub(crate) fn last_day(self) -> String {
        let day = |end: Timestamp| end.strftime("%Y-%m-%d").to_string();
        Timestamp::from_second(self.end)
            .map_or_else(|_| "a day beyond all calendars".to_owned(), day)
    }
}

/// How a certificate stands now.
pub(crate) fn ends(certificate: &CertificateDer<'_>, now: i64) -> Ends {
    Validity::of(certificate).map_or(Ends::NotX509, |validity| validity.at(now))
}

/// Why a file is no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("{0}")]
    Unreadable(#[from] std::io::Error),
    #[error("it holds no certificate in PEM form")]
    NoCertificate,
    #[error("it holds no private key in PEM form")]
    NoKey,
}

/// All certificates of a file.
pub(crate) fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let pem = fs::read(file)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
    if chain.is_empty() { Err(Unusable::NoCertificate) } else { Ok(chain) }
}
