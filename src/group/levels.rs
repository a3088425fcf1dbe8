//! How loud the calls in progress are, each told by the node that records it. How that is measured is the
//! recorder's matter; what cannot be told in time is left out.

use std::collections::BTreeMap;

use serde_json::Value;
use storage_core::RecordingId;
use tokio::time::timeout;

use super::choose::Sight;
use super::{ANSWER_WITHIN, GroupBackend};

impl GroupBackend {
    /// How loud the recorded calls are, as far as it is told in time.
    pub(super) async fn levels(&self, sight: &Sight) -> BTreeMap<RecordingId, f64> {
        let own = timeout(ANSWER_WITHIN, self.local.levels());
        let peers = self.ask_all(sight.peers(), |peers, node| async move {
            peers.levels(node, ANSWER_WITHIN).await
        });
        let (own, peers) = tokio::join!(own, peers);
        // A member of an earlier version does not know the question.
        let peers = peers.into_iter().filter_map(|(_, levels)| levels.ok());
        peers.chain(own).flatten().collect()
    }
}

/// Says in a call how loud its recording is, if that is known.
pub fn put_level(call: &mut Value, levels: &BTreeMap<RecordingId, f64>) {
    let id = call["recorded"]["recordingid"].as_str().and_then(|id| id.parse().ok());
    if let (Some(level), Value::Object(call)) = (id.and_then(|id| levels.get(&id)), call) {
        call.insert("level".to_owned(), (*level).into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use storage_core::WallTime;

    use super::*;

    #[test]
    fn a_call_is_as_loud_as_the_recording_that_it_is_told_with() {
        let id = |ms| RecordingId::new(WallTime::from_millis(ms), [1; 10]);
        let levels = BTreeMap::from([(id(1), -23.5), (id(2), -96.0)]);
        for (recorded, level) in [
            (Some(id(1).to_string()), Some(-23.5)),
            (Some(id(2).to_string()), Some(-96.0)),
            (Some(id(3).to_string()), None),
            (Some("r1".to_owned()), None),
        ] {
            let mut call = json!({ "callid": "1", "recorded": { "recordingid": recorded } });
            put_level(&mut call, &levels);
            assert_eq!(call.get("level").and_then(Value::as_f64), level, "{recorded:?}");
        }
        let mut none = json!(7);
        put_level(&mut none, &levels);
        assert_eq!(none, 7);
    }
}
