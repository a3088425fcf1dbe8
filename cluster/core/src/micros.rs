//! Wall time in the log: whole microseconds. The words' own form is text with milliseconds, made
//! for people.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use storage_core::WallTime;

pub(crate) fn serialize<S: Serializer>(time: &WallTime, to: S) -> Result<S::Ok, S::Error> {
    time.as_micros().serialize(to)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<WallTime, D::Error> {
    i64::deserialize(from).map(WallTime::from_micros)
}

/// The same for a time that may not be known.
pub(crate) mod option {
    use super::{Deserialize, Deserializer, Serialize, Serializer, WallTime};

    #[expect(clippy::ref_option, reason = "serde's `with` hands in a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(
        time: &Option<WallTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(WallTime::as_micros).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<WallTime>, D::Error> {
        Ok(Option::<i64>::deserialize(from)?.map(WallTime::from_micros))
    }
}
