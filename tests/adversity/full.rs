//! A disk that fills up under what is to be sealed. (What becomes of the capture is tried in `tests/disk.rs`.)

use simulator::SiteConfig;

use crate::common::Bench;
use crate::disks::{Small, with_disks};
use crate::sees::told;

/// Room for the journal's reserve, the catalog and some minutes of audio.
const DISK_BYTES: usize = 48 << 20;

#[test]
fn what_cannot_be_sealed_for_want_of_room_is_sealed_once_there_is_some() {
    with_disks("a full disk", async |_| {
        let mut bench = Bench::prepare(SiteConfig::demo(3, 1), "").await;
        let disk = Small::attach(&bench.node.data_dir(), DISK_BYTES)?;
        bench = bench.started().await;
        let call = bench.answered_call("5551230001", "31001").await;
        bench.recorded(call).await;
        bench.frames(call, 100).await;
        disk.fill();
        told(&bench.node, "diskfull", "takes no more").await;
        bench.site.switch().hangup_all(call);
        bench.metric("astlogger_seal_retries_total", |retries| retries > 0.0).await;
        bench.metric("astlogger_seal_queue", |waiting| waiting > 0.0).await;
        assert!(bench.node.recordings()?.is_empty(), "half a recording is none");
        disk.free();
        bench.published(1).await;
        let verdict = bench.assert_right();
        assert_eq!(verdict.calls_recorded, 1, "{verdict:?}");
        Ok(())
    });
}
