//! Tests that this system does not allow: they say so on the spot, and to whoever counts in the end
//! (`./test`).

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Says that the test of this thread's name was not run, and why.
pub fn skip(what: &str, reason: &anyhow::Error) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("SKIPPED ({count} so far): {name} is NOT TESTED on {what} here: {reason:#}");
    let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    let list = std::fs::File::options().create(true).append(true).open(list);
    let told = list
        .and_then(|mut list| std::io::Write::write_all(&mut list, format!("{name}\n").as_bytes()));
    if let Err(error) = told {
        eprintln!("SKIPPED, and nobody will count it: {error}");
    }
}
