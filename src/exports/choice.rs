//! Which recordings an export is of: what this group lists by its filter, and what the database of all sites has by
//! it at other sites. The audio of the latter is not to be had here; they are among the export's all the same, so that each
//! of them is named as missing, with its site, and nothing is left out in silence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use storage_core::RecordingId;
use storage_core::query::{LIMIT_MAX, Position, Query};

use crate::web::backend::{Backend, Code, Failure, Listing, SearchedSites, Unreachable};

/// Recordings in one export.
const RECORDINGS_MAX: usize = 50_000;

/// What is asked for that this group does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// How many of the recordings lie at other sites, by site.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub othersites: BTreeMap<String, usize>,
    /// Why it is not known what other sites have, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allsitesfailure: Option<String>,
}

/// What was chosen.
#[derive(Debug, Default)]
pub struct Chosen {
    /// The recordings, this group's first.
    pub ids: Vec<RecordingId>,
    /// Members that could not be asked.
    pub unreachable: Vec<Unreachable>,
    /// What lies elsewhere.
    pub elsewhere: Elsewhere,
}

/// Finds them. Blocking.
///
/// # Errors
/// `badvalue` if there are too many, `notfound` if there are none, `unavailable` if all of them lie at other sites, and what
/// the search says.
pub fn choose(backend: &dyn Backend, query: Query) -> Result<Chosen, Failure> {
    let mut query = Query { limit: LIMIT_MAX, cursor: None, ..query };
    let mut chosen = Chosen::default();
    each_page(&mut query, |query| {
        let listing = backend.search(query)?;
        // A peer of an earlier version may not know one of the filters.
        let seen = listing.page.recordings.iter().filter(|found| query.matches(found));
        chosen.ids.extend(seen.map(|found| found.recordingid));
        chosen.unreachable.extend_from_slice(&listing.unreachable);
        chosen.check_count()?;
        Ok(listing)
    })?;
    let own = chosen.ids.len();
    if let Some(site) = backend.own_site() {
        query.cursor = None;
        each_page(&mut query, |query| {
            let listing = backend.find(query)?;
            chosen.add_other_sites(&site, &listing);
            chosen.check_count()?;
            Ok(listing)
        })?;
    }
    if own == 0 {
        return Err(chosen.elsewhere.instead());
    }
    chosen.unreachable.sort_unstable();
    chosen.unreachable.dedup();
    Ok(chosen)
}

/// Asks for page after page.
fn each_page(
    query: &mut Query,
    mut ask: impl FnMut(&Query) -> Result<Listing, Failure>,
) -> Result<(), Failure> {
    while let Some(cursor) = ask(query)?.page.cursor {
        let behind = Position::from_cursor(&cursor);
        let broken = || Failure::new(Code::Internal, "a search gave a cursor that is none");
        query.cursor = Some(behind.ok_or_else(broken)?);
    }
    Ok(())
}

impl Chosen {
    fn check_count(&self) -> Result<(), Failure> {
        if self.ids.len() <= RECORDINGS_MAX {
            return Ok(());
        }
        let message = format!(
            "these are more than {RECORDINGS_MAX} recordings, the most for one export: narrow \
             the filter, by `from` and `to` perhaps"
        );
        Err(Failure::new(Code::BadValue, message))
    }

    /// What a page of all sites has that is not of this one.
    fn add_other_sites(&mut self, own: &str, listing: &Listing) {
        match &listing.all_sites {
            Some(SearchedSites::All(sites)) => {
                for (id, site) in sites.iter().filter(|(_, site)| *site != own) {
                    self.ids.push(*id);
                    *self.elsewhere.othersites.entry(site.clone()).or_default() += 1;
                }
            }
            Some(SearchedSites::OwnOnly { because }) => {
                self.elsewhere.allsitesfailure = Some(because.clone());
            }
            None => {}
        }
    }
}

impl Elsewhere {
    /// What is answered where this group has nothing of what is asked for.
    fn instead(&self) -> Failure {
        if !self.othersites.is_empty() {
            let sites: Vec<_> = self
                .othersites
                .iter()
                .map(|(site, count)| format!("{count} at site {site:?}"))
                .collect();
            let message = format!(
                "what is found by this filter lies at other sites, which this group does not reach ({}): ask a node there",
                sites.join(", ")
            );
            return Failure::new(Code::Unavailable, message);
        }
        let message = "no recording is found by this filter, so there is nothing to export";
        let message = match &self.allsitesfailure {
            Some(because) => format!("{message}; other sites could not be asked: {because}"),
            None => message.to_owned(),
        };
        Failure::new(Code::NotFound, message)
    }
}
