//! What this group says of the recordings of other sites: they are found in the database that all sites write
//! (`crate::catalog_database`), and that is all that can be had of them here. Where the database does not answer, people
//! get what this group lists, and are told so.

use std::sync::Arc;

use storage_core::query::Query;
use storage_core::{Recording, RecordingId};
use tokio::task::spawn_blocking;

use super::GroupBackend;
use crate::catalog_database::{AllSites, Away, Found};
use crate::metrics::Metrics;
use crate::web::backend::{Backend, Code, Failure, Listing, SearchedSites};

/// The database of all sites, and what this one is called there.
pub struct OtherSites {
    /// It.
    pub all: Arc<AllSites>,
    /// `al_site`.
    pub own: String,
}

#[derive(Clone)]
pub(super) struct Sites {
    all: Arc<AllSites>,
    own: Arc<str>,
    metrics: Arc<Metrics>,
}

impl GroupBackend {
    /// Answers people's searches from there, if there is such a database.
    #[must_use]
    pub fn finding_in(mut self, sites: Option<OtherSites>, metrics: &Arc<Metrics>) -> Self {
        self.sites = sites.map(|OtherSites { all, own }| Sites {
            all,
            own: own.into(),
            metrics: Arc::clone(metrics),
        });
        self
    }

    /// `al_site`, where there is such a database.
    pub(super) fn own_site_name(&self) -> Option<String> {
        self.sites.as_ref().map(|sites| sites.own.to_string())
    }

    /// A page of the recordings of all sites. Blocks.
    pub(super) fn find_in_all_sites(&self, query: &Query) -> Result<Listing, Failure> {
        let Some(sites) = &self.sites else { return self.search(query) };
        let (all, asked, local) = (Arc::clone(&sites.all), query.clone(), Arc::clone(&self.local));
        let found = self.peers.wait(async move {
            // What was deleted here is gone here, also before the database has heard of it.
            let here = |recording: &Recording| !local.is_deleted(recording.recordingid);
            Ok(all.search(&asked, here).await)
        })?;
        match found {
            Ok(Found { page, sites }) => Ok(Listing {
                page,
                unreachable: self.sight().unreachable(),
                all_sites: Some(SearchedSites::All(sites)),
            }),
            Err(away) => {
                sites.metrics.database.fallbacks.inc();
                let all_sites = Some(SearchedSites::OwnOnly { because: away.to_string() });
                Ok(Listing { all_sites, ..self.search(query)? })
            }
        }
    }

    /// A recording and whose it is, as the database has it; `None` also where there is no database. Blocks.
    pub(super) fn in_all_sites(
        &self,
        id: RecordingId,
    ) -> Result<Option<(Recording, String)>, Failure> {
        let Some(sites) = &self.sites else { return Ok(None) };
        let all = Arc::clone(&sites.all);
        let found = self.peers.wait(async move { Ok(all.recording(id).await) })?;
        found.map_err(|away: Away| {
            let message =
                format!("no recording {id} in this group, and other sites cannot be asked: {away}");
            Failure::new(Code::Unavailable, message)
        })
    }

    /// The same, unless it is of this site. Blocks.
    pub(super) fn of_other_site(
        &self,
        id: RecordingId,
    ) -> Result<Option<(Recording, String)>, Failure> {
        let found = self.in_all_sites(id)?;
        let own = self.sites.as_ref().map(|sites| &*sites.own);
        Ok(found.filter(|(_, site)| Some(site.as_str()) != own && !self.local.is_deleted(id)))
    }

    /// Says of something that cannot be done here because nobody lists the recording where it can.
    pub(super) async fn or_elsewhere<T>(
        &self,
        id: RecordingId,
        outcome: Result<T, Failure>,
    ) -> Result<T, Failure> {
        match outcome {
            Err(failure) if failure.code == Code::NotFound && self.sites.is_some() => {
                let group = self.clone();
                let found = spawn_blocking(move || group.of_other_site(id)).await;
                match found {
                    Ok(Ok(Some((record, site)))) => Err(lies_elsewhere(&record, &site)),
                    _ => Err(failure),
                }
            }
            outcome => outcome,
        }
    }
}

/// It can be had at another site only.
pub(super) fn lies_elsewhere(record: &Recording, site: &str) -> Failure {
    let Recording { recordingid, node, .. } = record;
    let message = format!(
        "recording {recordingid} lies at site {site:?}, on node {node} there, which this group does not reach: ask a node of \
         that site"
    );
    Failure::new(Code::Unavailable, message)
}
