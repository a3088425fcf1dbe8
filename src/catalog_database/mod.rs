//! The catalog in PostgreSQL (`al_catalogurl`), for many sites: each node writes what it lists into one database, and a
//! search may be answered from there. The local catalog stays what recording depends on; the database is a copy that
//! is always a little behind it, and may be away or lost at any time.
//!
//! ```text
//! Hub::enter, deletions ──▶ DurableCatalog ── feed ──▶ writer ── merge ──▶ write ──▶ astlogger.entry
//!                                                                                      │
//! listrecordings ──▶ GroupBackend::find ──▶ search ── question ◀── astlogger.recording ◀┘
//! ```
//!
//! Pure are `address` (what an operator writes), `merge` (what becomes of a row), `question` (a search as SQL), `row`
//! and `stored` (a recording as a row), `schema` (versions) and `trouble` (what is done when something fails).

mod address;
mod connection;
mod merge;
mod question;
mod row;
mod schema;
mod search;
mod stored;
mod tls;
mod trouble;
mod write;
pub mod writer;

pub use address::{Address, AddressError, SslMode};
pub use connection::Place;
pub use search::{AllSites, Away, Found};

use connection::Connection;
use schema::{CURRENT, Standing, standing};
use std::time::Duration;

/// What the configuration says of the database.
#[derive(Clone, Debug)]
pub struct CatalogDatabase {
    /// `al_catalogurl`, `al_catalogpassword`, `al_catalogca`.
    pub place: Place,
    /// `al_site`: what this group's site is called there.
    pub site: String,
    /// `al_catalogsearch = "database"`: people's searches are answered from there.
    pub searched: bool,
}

/// What somebody finds who looks before a node runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// A node can write.
    Good {
        /// In words.
        found: String,
    },
    /// It cannot, or should not.
    Bad {
        /// What is wrong.
        found: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// Looks whether the database can be reached, and lets this login do its work. Changes nothing.
pub async fn look(place: &Place, within: Duration) -> Looked {
    let address = &place.address;
    let bad = |found: String, remedy| Looked::Bad { found: format!("{address}: {found}"), remedy };
    let asked = async {
        let connection = Connection::open(place, within).await?;
        Ok::<_, trouble::Trouble>((connection.look().await?, connection.rights().await?))
    };
    let (looked, rights) = match asked.await {
        Ok(told) => told,
        Err(trouble) => {
            let remedy = match trouble.kind {
                trouble::Kind::Refused => {
                    "see docs/postgresql.md: the database, its login and its rights"
                }
                _ => {
                    "look at the database and the network to it; a node runs without, and writes when it is back"
                }
            };
            return bad(trouble.to_string(), remedy);
        }
    };
    let version = looked.map(|(version, _)| version);
    let tables = match standing(version) {
        Standing::Newer => {
            let found = connection::newer(version.unwrap_or_default()).to_string();
            return bad(found, "bring this node to the version of the others");
        }
        Standing::Older(0) if !rights.may_create => {
            let found = "there are no tables, and this login may not make any".to_owned();
            return bad(found, "GRANT CREATE ON DATABASE to it, or make it the database's owner");
        }
        Standing::Older(0) => "tables are made by the first node".to_owned(),
        Standing::Older(_) | Standing::Current if !rights.may_write => {
            let found = "this login may not write into the tables".to_owned();
            return bad(found, "use the login that made them, as docs/postgresql.md says");
        }
        Standing::Older(step) => {
            format!("tables of version {step}, brought to {CURRENT} by the first node")
        }
        Standing::Current => format!("tables of version {CURRENT}"),
    };
    if address.is_open_on_the_network() {
        let how = if rights.encrypted { "an unknown certificate" } else { "no encryption" };
        let found = format!("{tables}; reached over the network with {how}");
        return bad(
            found,
            "add sslmode=verify-full to al_catalogurl, and al_catalogca if the authority is your own",
        );
    }
    let how = if rights.encrypted { "TLS" } else { "this machine only" };
    Looked::Good { found: format!("{address}: PostgreSQL {}, {tables}, {how}", rights.server) }
}
