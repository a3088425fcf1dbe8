//! Keeps the catalog complete beyond what the ledger has this node list: one that was made anew, whose
//! disk was lost, perhaps, asks the other recorders for everything; one that was away for a while for
//! what was sealed meanwhile. Whom it asks when is decided in [`super::rounds`]; which of two revisions
//! counts is decided by their numbers.

use std::sync::Arc;
use std::time::Duration;

use cluster_core::{GroupView, mirror};
use recorder::clock::Clock;
use storage::{Catalog, DurableCatalog, VoiceStore};
use storage_core::marks::Marks;
use storage_core::query::Position;
use storage_core::{NodeId, Recording, WallTime};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::rounds::Rounds;
use crate::hub::Hub;
use crate::marks;
use crate::peers::Peers;

/// Records asked for at once.
const PAGE: usize = 500;
const PAGE_WITHIN: Duration = Duration::from_secs(10);
/// Between two pages: it is in no hurry.
const PAGE_REST: Duration = Duration::from_millis(20);
/// No call lasts longer than this: what began before is sealed.
const CALL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Nothing happens.
const IDLE: Duration = Duration::from_secs(3600);

/// Asks as long as the node runs. A node alone asks nobody, and remembers so: should it become a member
/// one day, its catalog lacks what the others have. A witness lists nothing.
pub async fn catch_up(
    peers: Peers,
    catalog: Arc<DurableCatalog>,
    hub: Arc<Hub>,
    voices: VoiceStore,
) {
    let mut views = peers.group().view_watch();
    let mut rounds = Rounds::default();
    let clock = Clock::start();
    let mut complete = None;
    loop {
        regroup(&mut rounds, clock, &views.borrow_and_update());
        let now = clock.mono();
        if let Some(node) = rounds.due(now) {
            let from = Clock::wall();
            let behind = since(&catalog);
            let told = walk(&peers, node, behind, (&catalog, &hub, &voices)).await;
            regroup(&mut rounds, clock, &views.borrow_and_update());
            rounds.asked(clock.mono(), node, from, told);
            let until = rounds.complete_until();
            if let Some(until) = until.filter(|until| complete < Some(*until)) {
                complete = Some(until);
                if let Err(error) = catalog.has_others(until) {
                    tracing::warn!(%error, "the others' recordings will be asked for again");
                }
            }
            continue;
        }
        let wakes = rounds.wakes().map_or(IDLE, |at| at.since(now));
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            () = sleep_until(Instant::now() + wakes) => {}
        }
    }
}

fn regroup(rounds: &mut Rounds, clock: Clock, view: &GroupView) {
    let mut others = mirror::recorders(view);
    if !others.remove(&view.node) {
        others.clear();
    }
    let reachable = mirror::reachable(&others, view);
    rounds.regrouped(clock.mono(), others, &reachable);
}

/// Behind which place something may be missing; `None`: anywhere.
fn since(catalog: &DurableCatalog) -> Option<Position> {
    let complete: WallTime = catalog.others_until()?;
    Some(Position::at(complete - CALL_MAX))
}

/// Whether a record tells more than the one that is known, or something else.
fn lacks(mut known: Recording, record: &Recording) -> bool {
    known.revision < record.revision
        || known.revision == record.revision && Marks::of(record).merge_into(&mut known)
}

/// Enters what a peer lists. False if it did not tell everything.
async fn walk(
    peers: &Peers,
    node: NodeId,
    behind: Option<Position>,
    (catalog, hub, voices): (&Arc<DurableCatalog>, &Arc<Hub>, &VoiceStore),
) -> bool {
    let (mut cursor, mut entered) = (behind, 0_u64);
    loop {
        let page = match peers.records_since(node, cursor, PAGE, PAGE_WITHIN).await {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(%node, ?error, "its recordings are asked for again");
                return false;
            }
        };
        let (entering, hub, voices) = (Arc::clone(catalog), Arc::clone(hub), voices.clone());
        let entered_now = spawn_blocking(move || {
            let mut whole = true;
            let mut count = 0_u64;
            for record in &page.records {
                let known = entering.get(record.recordingid).ok().flatten();
                if known.is_none_or(|known| lacks(known, record)) {
                    let done = hub.enter(record, &*entering);
                    marks::complete(record.recordingid, &*entering, &voices);
                    whole &= done;
                    count += u64::from(done);
                }
            }
            (whole, count, page.cursor)
        });
        // A panic there has been reported by the runtime.
        let Ok((true, count, next)) = entered_now.await else { return false };
        entered += count;
        match next {
            Some(next) => cursor = Some(next),
            None => break,
        }
        sleep(PAGE_REST).await;
    }
    if entered > 0 {
        tracing::info!(peer = %node, entered, "what it lists is in the catalog, too");
    }
    true
}
