//! The catalog's database: whether it can be reached and lets this node work. A node records without it, so nothing
//! here keeps one from starting.

use std::time::Duration;

use super::Finding;
use crate::catalog_database::{Looked, look};
use crate::config::Config;

const CHECK: &str = "catalog's database";
/// A person waits.
const WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn examine(config: &Config) -> Option<Finding> {
    let database = config.storage.catalog_database.as_ref()?;
    Some(match look(&database.place, WITHIN).await {
        Looked::Good { found } => Finding::ok(CHECK, format!("{found}, site {:?}", database.site)),
        Looked::Bad { found, remedy } => Finding::warn(CHECK, found, remedy).of("al_catalogurl"),
    })
}
