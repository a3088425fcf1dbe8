//! `sim SEED [--trace]` runs one seed again and tells what happened; `sim --campaign FROM COUNT
//! [--jobs N]` runs many; with `--rings` whoever stands by keeps a ring, with `--loss` a recorder is lost
//! with its disk, with `--pauses` people pause recordings. The first line of a failure is the seed; the exit code tells which kind of
//! promise was broken.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sim::{Kind, Plan, Report, Violation, run};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let said = |flag: &str| words.iter().any(|word| word == flag);
    let (rings, loses, pauses) = (said("--rings"), said("--loss"), said("--pauses"));
    let plan = |seed| {
        let plan = if loses { Plan::losing(seed) } else { Plan::of(seed) };
        let plan = if pauses { plan.with_pauses() } else { plan };
        if rings { plan.with_rings() } else { plan }
    };
    if words.first().is_some_and(|word| word == "--campaign") {
        let (Some(from), Some(count)) = (number(1), number(2)) else { return usage() };
        let jobs = words.iter().position(|word| word == "--jobs").and_then(|at| number(at + 1));
        return campaign(from, count, jobs.unwrap_or(1), plan);
    }
    let Some(seed) = number(0) else { return usage() };
    one(plan(seed), said("--trace"))
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: sim SEED [--trace] [--rings] [--loss] [--pauses] | \
         sim --campaign FROM COUNT [--jobs N] [--rings] [--loss] [--pauses]"
    );
    ExitCode::from(2)
}

fn one(plan: Plan, trace: bool) -> ExitCode {
    let (seed, report) = (plan.seed, attempt(plan, true));
    if let Some(violation) = &report.violation {
        println!("seed {seed}: {:?}", violation.kind);
    }
    if trace {
        report.trace.iter().for_each(|line| println!("{line}"));
    }
    if let Some(violation) = &report.violation {
        println!("{}", violation.what);
        return ExitCode::from(violation.kind as u8);
    }
    println!(
        "seed {seed}: {} calls, {} recordings, {} events, {} ms simulated, print {:016x}",
        report.calls,
        report.published,
        report.steps,
        report.lasted / 1_000,
        report.print
    );
    ExitCode::SUCCESS
}

/// A panic in a core is a broken promise like any other.
fn attempt(plan: Plan, trace: bool) -> Report {
    std::panic::catch_unwind(|| run(plan, trace)).unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().cloned();
        let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
        let what = text.unwrap_or_default();
        let violation = Some(Violation { kind: Kind::Panic, what });
        let trace = Vec::new();
        Report {
            plan,
            violation,
            trace,
            print: 0,
            steps: 0,
            calls: 0,
            published: 0,
            crowded: 0,
            doubled: 0,
            ringed: 0,
            paused_ms: 0,
            lasted: 0,
        }
    })
}

fn campaign(from: u64, count: u64, jobs: u64, plan: impl Fn(u64) -> Plan + Sync) -> ExitCode {
    let next = AtomicU64::new(from);
    let failed = Mutex::new(Vec::new());
    let totals = [const { AtomicU64::new(0) }; 7];
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    let report = attempt(plan(seed), false);
                    let (calls, published) = (report.calls as u64, report.published as u64);
                    let ringed = report.ringed as u64;
                    let (steps, paused) = (report.steps, report.paused_ms);
                    let (crowded, doubled) = (report.crowded, report.doubled);
                    let of = [steps, calls, published, crowded, doubled, ringed, paused];
                    for (total, value) in totals.iter().zip(of) {
                        total.fetch_add(value, Ordering::Relaxed);
                    }
                    if let Some(violation) = report.violation {
                        let what = violation.what.lines().next().unwrap_or_default();
                        println!("seed {seed}: {:?}: {what}", violation.kind);
                        if let Ok(mut failed) = failed.lock() {
                            failed.push(violation.kind);
                        }
                    }
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    let [steps, calls, published, crowded, doubled, ringed, paused] =
        totals.map(AtomicU64::into_inner);
    let failed = failed.into_inner().unwrap_or_default();
    println!(
        "{count} seeds in {seconds:.1} s ({:.1} a second), {} failed; {calls} calls, {published} \
         recordings, {steps} events, {crowded} conferences without room, \
         {doubled} recordings doubled by merges, {ringed} stretches that only a ring heard, {} s of \
         what phantoms heard discarded",
        count as f64 / seconds,
        failed.len(),
        paused / 1_000
    );
    failed.into_iter().min().map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind as u8))
}
