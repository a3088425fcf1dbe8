//! Whose recordings and calls somebody may see: everybody's, or those of some stations. It decides what
//! belongs to a station; whose scope is which is decided where people sign in.
//!
//! A recording belongs to the station that it was made for (`extension`), a call in progress to each station in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::{Extension, Recording};

/// A scope. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(Option<Arc<BTreeSet<Extension>>>);

impl Scope {
    /// Everything.
    pub const ALL: Self = Self(None);

    /// What belongs to these stations, which may be none.
    #[must_use]
    pub fn of(stations: BTreeSet<Extension>) -> Self {
        Self(Some(Arc::new(stations)))
    }

    /// The stations; `None` if it is everything.
    #[must_use]
    pub fn stations(&self) -> Option<&BTreeSet<Extension>> {
        self.0.as_deref()
    }

    /// Whether it is everything.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// Whether what belongs to a station is in it.
    #[must_use]
    pub fn has(&self, station: &str) -> bool {
        self.stations().is_none_or(|stations| stations.contains(&Extension::from(station)))
    }

    /// Whether a recording is in it.
    #[must_use]
    pub fn holds(&self, recording: &Recording) -> bool {
        self.has(recording.extension.as_str())
    }
}
