//! How a search goes through the catalog's tables: period by period in the order that was asked for, in
//! each of which it keeps the offsets that all lists of its plan have in common, and reads the records
//! there. It decides when a page is complete or has cost enough; what a plan is is decided in
//! `storage_core::terms`.

use storage_core::query::{Order, Position, Query};
use storage_core::stretch::{Stretch, Stretches, keep_common};
use storage_core::terms::{Clause, Plan};
use storage_core::{Recording, WallTime};

use crate::catalog::{CatalogError, Page, PageBuilder};
use crate::catalog_tables::Tables;

/// Offsets that one search reads at most: like [`crate::catalog::EXAMINED_MAX`], it bounds what a page
/// costs, and is reached only where lists of millions have hardly a recording in common.
const OFFSETS_MAX: usize = 24_000_000;
/// As many offsets cost as much as a record that is read and compared.
const RECORD_OFFSETS: usize = 3_000;

/// A page of what matches. To be called inside a transaction, so that lists and records agree.
pub(crate) fn search(tables: &Tables, query: &Query) -> Result<Page, CatalogError> {
    search_within(tables, query, OFFSETS_MAX)
}

fn search_within(tables: &Tables, query: &Query, offsets_max: usize) -> Result<Page, CatalogError> {
    let plan = Plan::of(query);
    let mut page = PageBuilder::new(query);
    let span = span(query);
    if plan.is_open() {
        tables.walk(span, query.order, query.cursor, |recording| offer(&mut page, recording))?;
    } else if span.0 < span.1 {
        Walk::new(tables, query, plan, offsets_max).periods(span, &mut page)?;
    }
    Ok(page.finish(tables.counts()?.recordings))
}

fn offer(page: &mut PageBuilder<'_>, recording: Recording) -> bool {
    page.offer(Position::of(&recording), recording)
}

/// Begins of what the query can match: from `.0` to before `.1`, milliseconds. (The last millisecond that
/// can be told is in no stretch of a real call.)
fn span(query: &Query) -> (i64, i64) {
    let mut from = query.from.map_or(i64::MIN, WallTime::as_millis);
    let mut to = query.to.map_or(i64::MAX, WallTime::as_millis);
    match (query.cursor.map(|cursor| cursor.started_ms()), query.order) {
        (Some(cursor), Order::Newest) => to = to.min(cursor.saturating_add(1)),
        (Some(cursor), Order::Oldest) => from = from.max(cursor),
        (None, _) => {}
    }
    (from, to)
}

/// A walk through periods.
struct Walk<'q> {
    tables: &'q Tables,
    query: &'q Query,
    tried: Vec<Tried>,
    /// Offsets read, and how many may be.
    cost: usize,
    cost_max: usize,
}

/// Lists, and how many offsets were read of them so far.
struct Tried {
    lists: Lists,
    stretches: usize,
    offsets: usize,
}

/// What a candidate has.
enum Lists {
    Of(Clause),
    /// A length of at least this class.
    AtLeast(u8),
}

impl<'q> Walk<'q> {
    fn new(tables: &'q Tables, query: &'q Query, plan: Plan, cost_max: usize) -> Self {
        let lists = plan.clauses.into_iter().map(Lists::Of);
        let lists = lists.chain(plan.least_class.map(Lists::AtLeast));
        let tried = lists.map(|lists| Tried { lists, stretches: 0, offsets: 0 }).collect();
        Self { tables, query, tried, cost: 0, cost_max }
    }

    fn periods(
        &mut self,
        (from, to): (i64, i64),
        page: &mut PageBuilder<'_>,
    ) -> Result<(), CatalogError> {
        let (first, last) = (stretch_of(from), stretch_of(to - 1));
        let order = self.query.order;
        let (mut next, step) = if order == Order::Newest { (last, -1) } else { (first, 1) };
        while let Some(stretch) = self.tables.next_stretch(next, order)? {
            if stretch < first || stretch > last {
                break;
            }
            if self.cost > self.cost_max {
                page.stop_at(edge(stretch, order));
                break;
            }
            let period = stretch.period();
            // Most searches find a page full in the first stretch; for the others it tells what lists cost.
            let until = match (self.is_learning(), order) {
                (true, _) => stretch,
                (false, Order::Newest) => period.ends().0,
                (false, Order::Oldest) => period.ends().1,
            };
            let among = Stretches::of(period).between(stretch.min(until), stretch.max(until));
            let mut offsets = self.common(among.between(first, last))?;
            offsets.retain(|offset| (from..to).contains(&period.millis_at(*offset)));
            if order == Order::Newest {
                offsets.reverse();
            }
            for offset in offsets {
                let at = period.millis_at(offset);
                let offer = |found| offer(page, found);
                if !self.tables.walk((at, at + 1), order, self.query.cursor, offer)? {
                    return Ok(());
                }
            }
            next = Stretch(until.0 + step);
        }
        Ok(())
    }

    /// The offsets in a period that all lists of the plan have in common, as far as they lie in these stretches; or
    /// some more, where it costs less to read their records than what is left of the lists.
    fn common(&mut self, among: Stretches) -> Result<Vec<u32>, CatalogError> {
        let learning = self.is_learning();
        let (mut kept, mut wanted): (Option<Vec<u32>>, _) = (None, among);
        // The shortest goes first: most periods need no other then, or only those of a few stretches.
        self.tried.sort_by_key(Tried::a_stretch);
        for tried in &mut self.tried {
            let costs = tried.a_stretch() * wanted.count() as usize;
            if !learning && kept.as_ref().is_some_and(|kept| kept.len() * RECORD_OFFSETS <= costs) {
                break;
            }
            let (list, read) = tried.lists.read(self.tables, wanted)?;
            tried.stretches += wanted.count() as usize;
            tried.offsets += read;
            self.cost += read;
            let common = keep(kept.take(), list);
            if !learning {
                wanted = Stretches::with(among.period, &common);
            }
            kept = Some(common);
        }
        Ok(kept.unwrap_or_default())
    }

    /// Whether it is not known yet what each list costs.
    fn is_learning(&self) -> bool {
        self.tried.iter().any(|tried| tried.stretches == 0)
    }
}

impl Lists {
    /// The offsets that they have, and how many were read for it.
    fn read(&self, tables: &Tables, of: Stretches) -> Result<(Vec<u32>, usize), CatalogError> {
        let list = match self {
            Self::Of(Clause::Term(term)) => tables.list_in(of, term)?,
            Self::Of(Clause::Beginning(beginning)) => tables.lists_in(of, beginning)?,
            Self::Of(Clause::Any(terms)) => tables.lists_of(of, terms)?,
            Self::AtLeast(class) => {
                let lengths = tables.lengths_in(of)?;
                let long = lengths.iter().filter(|(_, other)| other >= class);
                return Ok((long.map(|(offset, _)| *offset).collect(), lengths.len()));
            }
        };
        let read = list.len();
        Ok((list, read))
    }
}

impl Tried {
    /// How many offsets were read in a stretch so far.
    fn a_stretch(&self) -> usize {
        self.offsets / self.stretches.max(1)
    }
}

/// What of `kept` is in `list`, too; all of the first list.
fn keep(kept: Option<Vec<u32>>, list: Vec<u32>) -> Vec<u32> {
    match kept {
        None => list,
        Some(mut kept) => {
            keep_common(&mut kept, &list);
            kept
        }
    }
}

fn stretch_of(ms: i64) -> Stretch {
    Stretch::of_millis(ms).0
}

/// The place before a stretch, in this order.
fn edge(stretch: Stretch, order: Order) -> Position {
    let stretch = if order == Order::Newest { Stretch(stretch.0 + 1) } else { stretch };
    Position::at(WallTime::from_millis(stretch.millis_at(0)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use storage_core::RecordingId;

    use super::*;
    use crate::catalog_batch::{Change, commit};

    /// One each eight hours, all with one word, some with another.
    fn recording(number: u64) -> Recording {
        let at = 1_700_000_000_000 + 8 * 3_600_000 * number.cast_signed();
        let started = WallTime::from_millis(at);
        let mut entropy = [0; 10];
        entropy[..8].copy_from_slice(&number.to_be_bytes());
        serde_json::from_value(json!({
            "recordingid": RecordingId::new(started, entropy), "callids": [], "extension": "2611",
            "agentid": "", "calling": "1", "called": "2", "direction": "inbound",
            "trunkgroup": "", "trunkmember": "", "vdn": "", "split": "", "parties": [],
            "userdata": if number.is_multiple_of(7) { "the seventh" } else { "another" },
            "started": started, "ended": started, "durationms": number * 1000,
            "scope": "station", "trigger": "rule", "rule": "", "copy": 1, "node": 1,
            "segments": [], "gaps": [], "pauses": [], "complete": true,
            "quality": {"lossratio": 0.0, "jitterms": 0.0, "clockdriftppm": 0.0},
            "format": "wavg711", "bytes": 0, "sha256": "", "tags": [], "notes": [], "hold": false
        }))
        .unwrap()
    }

    #[test]
    fn a_search_that_costs_too_much_goes_on_on_the_next_page() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::create(&folder.path().join("tables")).unwrap();
        let all: Vec<_> = (0..300).map(recording).collect();
        commit(&tables, &[&Change::Put(all)], false).unwrap();
        for order in [Order::Newest, Order::Oldest] {
            let text = Some("SEVENTH".to_owned());
            let mut query = Query { text, order, limit: 1000, ..Query::default() };
            let (mut found, mut pages) = (Vec::new(), 0);
            loop {
                let page = search_within(&tables, &query, 30).unwrap();
                found.extend(page.recordings.iter().map(|found| found.durationms / 1000));
                pages += 1;
                let Some(cursor) = page.cursor else { break };
                query.cursor = Position::from_cursor(&cursor);
            }
            if order == Order::Newest {
                found.reverse();
            }
            assert_eq!(found, (0..300).step_by(7).collect::<Vec<u64>>());
            assert!(pages > 3, "{pages}");
        }
    }

    #[test]
    fn any_of_many_terms_is_found_whatever_lies_between() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::create(&folder.path().join("tables")).unwrap();
        let (stretch, term) = (Stretch(7), |number: u32| format!("t{number:03}").into_bytes());
        for number in (0..200).filter(|number| number % 3 != 0) {
            tables.set_list(stretch, &term(number), &[number, 1000 + number % 5]).unwrap();
        }
        for (from, step) in [(0, 1), (0, 3), (1, 3), (5, 7), (2, 50), (199, 1), (200, 1), (0, 300)]
        {
            let wanted: Vec<_> = (from..210).step_by(step).map(term).collect();
            let each = wanted.iter().flat_map(|term| tables.list(stretch, term).unwrap());
            let expected: std::collections::BTreeSet<u32> =
                each.map(|offset| stretch.in_period(offset)).collect();
            let found = tables.lists_of(Stretches::of(stretch.period()), &wanted).unwrap();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{from}, each {step}");
        }
        assert!(tables.lists_of(Stretches::of(stretch.period()), &[]).unwrap().is_empty());
    }
}
