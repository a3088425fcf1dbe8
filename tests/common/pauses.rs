//! Pauses as people ask for them, and as the record tells of them.

use std::ops::Range;

use astlogger::demo::Cti;
use serde_json::{Value, json};
use storage_core::Recording;
use storage_core::record::GapCause;

/// A frame on its way when somebody asks.
pub const NEAR: u32 = 2;

/// Asks for something about the call at a station.
pub async fn ask(cti: &mut Cti, request: &str, station: &str) -> Value {
    let request = json!({ "request": request, "extension": station });
    cti.ask(request).await.expect("a reply")
}

/// Pauses what is recorded at a station and was not paused before.
pub async fn pause(cti: &mut Cti, station: &str) {
    let reply = ask(cti, "pauserecording", station).await;
    assert_eq!((&reply["result"], &reply["pausedms"]), (&json!("success"), &json!(0)), "{reply}");
}

/// Resumes, and tells how long it was paused.
pub async fn resume(cti: &mut Cti, station: &str) -> u64 {
    let reply = ask(cti, "resumerecording", station).await;
    assert_eq!(reply["result"], "success", "{reply}");
    reply["pausedms"].as_u64().expect("a time")
}

/// The recording has this one pause, which is a gap of it and no fault.
#[track_caller]
pub fn assert_declared(record: &Recording, by: &str, length: Range<u64>) {
    let [pause] = &record.pauses[..] else { panic!("{record:#?}") };
    let gaps: Vec<_> = record.gaps.iter().filter(|gap| gap.cause == GapCause::Paused).collect();
    let [gap] = gaps[..] else { panic!("{record:#?}") };
    assert_eq!(pause.by, by);
    assert!(length.contains(&(pause.endms - pause.startms)), "{record:#?}");
    assert!(gap.startms.abs_diff(pause.startms) <= 100, "{record:#?}");
    assert!(gap.endms.abs_diff(pause.endms) <= 100, "{record:#?}");
    assert!(record.complete, "{record:#?}");
}
