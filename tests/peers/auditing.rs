//! The audit logs of a group, read at any member: each line once, whoever has it, and who is missing.

use std::sync::atomic::Ordering;

use astlogger::audit_pages::{Filter, Listing, Places, Question};
use astlogger::web::backend::{Backend, Code, Unreachable};
use storage_core::audit::{Entry, Numbered};
use storage_core::{NodeId, Role, WallTime};

use super::site::{Member, Site, loses};

/// A log of so many lines, each three times as late after the one before as there are members.
fn log(node: u16, count: u64, user: &str) -> Vec<Numbered> {
    let line = |seq: u64| {
        let at = i64::try_from(seq * 3).unwrap() + i64::from(node);
        let entry = Entry {
            at: WallTime::from_millis(1_700_000_000_000 + at),
            node: NodeId(node),
            user: user.to_owned(),
            role: None,
            address: "10.0.0.9".to_owned(),
            action: "listrecordings".to_owned(),
            recordingid: None,
            arguments: "x".repeat(2000).into(),
            outcome: "success".to_owned(),
        };
        Numbered { seq, entry }
    };
    (1..=count).map(line).collect()
}

fn writes(member: &Member, node: u16, count: u64, user: &str) {
    *member.node.audit.lock().unwrap() = Some(log(node, count, user));
}

async fn page(member: &Member, places: &Places, limit: usize, user: Option<&str>) -> Listing {
    let filter = Filter { user: user.map(str::to_owned), ..Filter::default() };
    let question = Question { filter, places: places.clone(), limit };
    member.ask(move |backend| backend.audit(&question)).await.unwrap()
}

/// All pages behind these places, and how many there were.
async fn rest(member: &Member, mut places: Places, limit: usize) -> (Vec<Numbered>, usize) {
    let mut told = Vec::new();
    for pages in 1.. {
        let listing = page(member, &places, limit, None).await;
        told.extend(listing.page.entries);
        places = listing.page.places;
        if !listing.page.more {
            return (told, pages);
        }
    }
    unreachable!("the count does not end")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_member_tells_the_lines_of_all() {
    let (_site, members) = Site::of_three(Role::Backup).await;
    for (number, member) in (1..).zip(&members) {
        writes(member, number, 200, "anna");
    }
    let mut all: Vec<_> = (1..=3).flat_map(|node| log(node, 200, "anna")).collect();
    all.sort_by_key(|line| line.entry.at);
    for (number, member) in (1..).zip(&members) {
        // A page of 1000 lines would be longer than a reply may be.
        for (limit, least) in [(7, 86), (1000, 4)] {
            let (told, pages) = rest(member, Places::default(), limit).await;
            assert!(told == all, "member {number}, {} lines", told.len());
            assert!((least..=least + 2).contains(&pages), "{pages} pages");
        }
        let listing = page(member, &Places::default(), 1, None).await;
        assert_eq!((listing.node, listing.unreachable), (NodeId(number), Vec::new()));
    }
    // Each applies what is asked for.
    writes(&members[1], 2, 3, "berta");
    let listing = page(&members[2], &Places::default(), 50, Some("berta")).await;
    assert_eq!((listing.page.entries, listing.page.more), (log(2, 3, "berta"), false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_does_not_tell_is_named_and_keeps_its_place() {
    let (_site, [active, backup, witness]) = Site::of_three(Role::Backup).await;
    writes(&active, 1, 4, "anna");
    writes(&backup, 2, 4, "anna");
    writes(&witness, 3, 4, "anna");
    let begun = page(&active, &Places::default(), 4, None).await.page;
    assert_eq!(begun.places.to_string(), "1:2,2:1,3:1");
    // It cannot read its log: to the others it is away.
    let log_of_two = backup.node.audit.lock().unwrap().take();
    let without = page(&active, &begun.places, 3, None).await;
    assert_eq!(without.unreachable, [missed(2, Role::Backup)]);
    assert_eq!(without.page.places.to_string(), "1:3,2:1,3:3");
    let question = Question { limit: 1, ..Question::default() };
    let own = backup.ask(move |backend| backend.audit(&question)).await.unwrap_err();
    assert_eq!(own.code, Code::Unavailable);
    *backup.node.audit.lock().unwrap() = log_of_two;
    let (told, _) = rest(&active, without.page.places.clone(), 2).await;
    let told: Vec<_> = told.iter().map(|line| (line.entry.node.0, line.seq)).collect();
    assert_eq!(told, [(2, 2), (2, 3), (1, 4), (2, 4), (3, 4)]);
    drop(witness);
    loses(&active, &[3]).await;
    let listing = page(&active, &without.page.places, 50, None).await;
    assert_eq!(listing.unreachable, [missed(3, Role::Witness)]);
    assert_eq!((listing.page.entries.len(), listing.page.more), (4, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_asked_for_some_requests_only_and_tells_others_counts_as_away() {
    let (_site, [active, backup, _witness]) = Site::of_three(Role::Backup).await;
    let mut lines = log(2, 3, "anna");
    "listen".clone_into(&mut lines[1].entry.action);
    *backup.node.audit.lock().unwrap() = Some(lines.clone());
    let of = |actions: &[&str]| {
        let actions = actions.iter().map(|action| (*action).to_owned()).collect();
        let filter = Filter { actions, ..Filter::default() };
        let question = Question { filter, places: Places::default(), limit: 50 };
        active.ask(move |backend| backend.audit(&question))
    };
    let told = of(&["listen", "drill"]).await.unwrap();
    assert_eq!((told.page.entries, told.unreachable), (lines[1..2].to_vec(), Vec::new()));
    backup.node.is_earlier.store(true, Ordering::SeqCst);
    let told = of(&["listen", "drill"]).await.unwrap();
    assert_eq!(told.page.entries, []);
    assert_eq!(told.unreachable, [missed(2, Role::Backup)]);
    let told = of(&["listen", "listrecordings"]).await.unwrap();
    assert_eq!((told.page.entries, told.unreachable), (lines, Vec::new()));
}

const fn missed(node: u16, role: Role) -> Unreachable {
    Unreachable { node: NodeId(node), role: Some(role) }
}
