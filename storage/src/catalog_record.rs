//! How a record lies in the catalog: its JSON as an LZ4 block, packed beside a record that looks like most
//! others. Two thirds of a record are names of members and values that nearly all have, so it takes less than half. It decides
//! nothing but that; checksums are `catalog_tables`' matter.
//!
//! ```text
//! length of the JSON, little-endian u32    LZ4 block (the format of lz4.org)
//! ```

use lz4_flex::block::{compress_prepend_size_with_dict, decompress_into_with_dict};
use storage_core::Recording;

use crate::catalog::CatalogError;
use crate::catalog_tables::damaged;

/// A record's JSON is never longer: what people write about one is bounded far below.
const JSON_BYTES_MAX: usize = 16 << 20;

/// What all records are packed beside. Another text is another form of the tables (`FORM`): what was
/// packed beside this one cannot be read beside that.
const LIKE: &str = concat!(
    r#"{"formerucids":["000010"],"repairof":"","repairedfrom":"","seams":[{"atms":,"from":1,"to":2,"#,
    r#""method":"audio","shiftms":0.0,"confidence":0.9}],{"startms":,"endms":,"cause":"takeover"},"#,
    r#"{"startms":,"endms":,"cause":"nomedia"},{"startms":,"endms":,"cause":"hold"},"cause":"loss","#,
    r#""cause":"paused","side":"agent"}"side":"others"}"keysms":["masked":[{"cutshort":true,"mos":4."#,
    r#""clockoffsetms":0.0,"codec":"g711u","codec":"g722","codec":"g729","format":"opus","format":"wav","#,
    r#""tagmarks":[{"tag":"","by":"","at":"2026-11-","node":1,"removed":true},"tags":["complaint"],"#,
    r#""notes":[{"text":"","by":"","at":"2026-11-"T"Z","node":2}],"scores":[{"scorecard":"","percent":"#,
    r#""answers":{"}],"hold":true,"holdmark":{"holds":[],"complete":false,"scope":"trunk","trigger":"agent""#,
    r#""trigger":"supervisor","trigger":"rescue","trigger":"takeover","direction":"internal","#,
    r#""direction":"outbound","trunkgroup":"1","trunkmember":"1","vdn":"","split":"","userdata":"","#,
    r#""parties":[{"who":"","fromms":0,"toms":,"holds":[],"encrypted":true,"tags":[],"tagmarks":[{"#,
    r#"{"version":1,"recordingid":"019","revision":1,"ucid":"00001","callids":[""],"extension":"","#,
    r#""agentid":"","calling":"","called":"","direction":"inbound","trunkgroup":"","trunkmember":"","#,
    r#""vdn":"","split":"","userdata":"","parties":[{"who":"","fromms":0,"toms":},{"who":"","fromms":0,"#,
    r#""toms":}],"started":"2026-","ended":"2026-","durationms":,"scope":"station","trigger":"rule","#,
    r#""rule":"","copy":1,"node":1,"segments":[{"node":1,"phantom":"","startms":0,"endms":,"#,
    r#""codec":"g711a","packets":,"lost":0,"late":0,"duplicate":0,"ssrcs":[""]}],"gaps":[],"pauses":[],"#,
    r#""complete":true,"quality":{"lossratio":0.0,"jitterms":0.0,"clockdriftppm":0.0,"#,
    r#""longestlossms":0,"clippedratio":0.0,"deadairms":0},"format":"wavg711","bytes":,"sha256":"","#,
    r#""tags":[],"notes":[],"hold":false}"#,
);

/// A record, packed.
pub(crate) fn pack(recording: &Recording) -> Result<Vec<u8>, CatalogError> {
    let failed = |what: String| CatalogError::Device { action: "written", what };
    let json = serde_json::to_vec(recording).map_err(|error| failed(error.to_string()))?;
    if json.len() > JSON_BYTES_MAX {
        return Err(failed(format!("the record of {} is too long", recording.recordingid)));
    }
    Ok(compress_prepend_size_with_dict(&json, LIKE.as_bytes()))
}

/// The record that was packed.
pub(crate) fn unpack(packed: &[u8]) -> Result<Recording, CatalogError> {
    let json = unpacked(packed).ok_or_else(|| damaged("a record is not what was packed"))?;
    serde_json::from_slice(&json).map_err(|error| damaged(format!("a record: {error}")))
}

fn unpacked(packed: &[u8]) -> Option<Vec<u8>> {
    let (length, block) = packed.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let mut json = vec![0; Some(length).filter(|length| *length <= JSON_BYTES_MAX)?];
    let filled = decompress_into_with_dict(block, &mut json, LIKE.as_bytes()).ok()?;
    (filled == length).then_some(json)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn usual() -> Recording {
        serde_json::from_value(json!({
            "version": 1, "recordingid": "019cd3ce-ee7a-797b-808b-75f6575a4c1d", "revision": 1,
            "ucid": "00001050001795770000", "callids": ["5000"], "extension": "20497",
            "agentid": "42497", "calling": "85225459209", "called": "3009",
            "direction": "inbound", "trunkgroup": "1", "trunkmember": "10", "vdn": "3009",
            "split": "509", "userdata": "",
            "parties": [{"who": "20497", "fromms": 0, "toms": 544_753},
                        {"who": "85225459209", "fromms": 0, "toms": 544_753}],
            "started": "2026-11-26T09:30:03.258Z", "ended": "2026-11-26T09:39:08.011Z",
            "durationms": 544_753, "scope": "station", "trigger": "rule", "rule": "all calls",
            "copy": 1, "node": 1,
            "segments": [{"node": 1, "phantom": "78017", "startms": 0, "endms": 544_753,
                "codec": "g711a", "packets": 27_237, "lost": 0, "late": 0, "duplicate": 0,
                "ssrcs": ["f21dd9b3"]}],
            "gaps": [], "pauses": [], "complete": true,
            "quality": {"lossratio": 0.0, "jitterms": 1.5, "clockdriftppm": 0.0,
                "longestlossms": 0, "clippedratio": 0.0, "deadairms": 0},
            "format": "wavg711", "bytes": 4_358_082,
            "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "tags": [], "notes": [], "hold": false
        }))
        .unwrap()
    }

    #[test]
    fn a_usual_record_takes_less_than_half_of_its_json() {
        let (json, packed) = (serde_json::to_vec(&usual()).unwrap(), pack(&usual()).unwrap());
        assert!(packed.len() * 2 < json.len(), "{} of {}", packed.len(), json.len());
        assert_eq!(unpack(&packed).unwrap(), usual());
    }

    /// What is changed here cannot be read any more: `FORM` in `catalog_tables` is to be raised with it.
    #[test]
    fn what_records_are_packed_beside_is_that_of_this_form() {
        assert_eq!(
            (crc32c::crc32c(LIKE.as_bytes()), crate::catalog_tables::FORM),
            (0xcc90_53dd, 4)
        );
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(userdata in ".{0,200}", tags in proptest::collection::vec(".{0,9}", 0..9)) {
            let recording = Recording { userdata, tags, ..usual() };
            prop_assert_eq!(unpack(&pack(&recording).unwrap()).unwrap(), recording);
        }

        #[test]
        fn anything_is_unpacked_or_refused_without_a_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..60),
            at in any::<prop::sample::Index>(),
            length in 0_u32..2000,
        ) {
            let _ = unpack(&bytes);
            if let Some(head) = bytes.first_chunk_mut::<4>() {
                *head = length.to_le_bytes();
            }
            let _ = unpack(&bytes);
            let mut packed = pack(&usual()).unwrap();
            let at = at.index(packed.len());
            packed[at] ^= bytes.first().copied().unwrap_or(1).max(1);
            let _ = unpack(&packed);
        }
    }
}
