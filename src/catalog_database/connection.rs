//! A connection to the database, with its tables as this program knows them. It carries out statements and says what
//! went wrong; what they are is decided elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::address::Address;
use super::question::{Statement, Value};
use super::schema::{CURRENT, STEPS, Standing, standing};
use super::tls::MakeTls;
use super::trouble::Trouble;

/// Whoever changes the tables takes this lock first: the letters `astlog`, and 1.
const CHANGES_TABLES: i64 = 0x6173_746c_6f67_0001;
/// A migration of many millions of rows.
const MIGRATION_WITHIN: Duration = Duration::from_secs(3600);

const LOOK: &str = "SELECT version, identity::text FROM astlogger.database";
const IS_THERE: &str = "SELECT to_regclass('astlogger.database') IS NOT NULL, \
                        current_setting('server_encoding') = 'UTF8'";

/// What is needed to connect.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where, and as whom.
    pub address: Address,
    /// `al_catalogca`.
    pub ca: Option<PathBuf>,
}

/// A connection.
pub(super) struct Connection {
    client: Client,
    /// An answer that takes longer is none.
    within: Duration,
}

impl Connection {
    /// Connects; each statement must be answered within this span.
    ///
    /// # Errors
    /// [`Trouble`]; so in all methods here.
    pub async fn open(place: &Place, within: Duration) -> Result<Self, Trouble> {
        let tls = MakeTls::new(place.address.mode(), place.ca.as_deref());
        let tls = tls.map_err(|why| Trouble::refused(format!("al_catalogca: {why}")))?;
        let config = place.address.config();
        let connected = timeout(within, config.connect(tls)).await;
        let (client, link) = connected.map_err(|_| no_answer(within))?.map_err(|e| trouble(&e))?;
        tokio::spawn(async move {
            // How it ended whoever asks next is told.
            let _ = link.await;
        });
        let connection = Self { client, within };
        // The server gives up, too; a little earlier, so that it can say so.
        let limit = within.as_millis() * 9 / 10;
        connection.script(&format!("SET statement_timeout = {limit}; SET TIME ZONE 'UTC'")).await?;
        Ok(connection)
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// What the database is called and of which version its tables are; `None` where there are none.
    pub async fn look(&self) -> Result<Option<(i32, String)>, Trouble> {
        let row = self.first(&Statement { sql: IS_THERE.to_owned(), values: Vec::new() }).await?;
        if !get::<bool>(&row, 1)? {
            return Err(Trouble::refused(
                "its encoding is not UTF8: make it anew with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0",
            ));
        }
        if !get::<bool>(&row, 0)? {
            return Ok(None);
        }
        let row = self.first(&Statement { sql: LOOK.to_owned(), values: Vec::new() }).await?;
        Ok(Some((get(&row, 0)?, get(&row, 1)?)))
    }

    /// The database's name for itself, if its tables are those of this program.
    pub async fn current(&self) -> Result<String, Trouble> {
        let looked = self.look().await?;
        match (standing(looked.as_ref().map(|(version, _)| *version)), looked) {
            (Standing::Current, Some((_, identity))) => Ok(identity),
            (Standing::Newer, Some((version, _))) => Err(newer(version)),
            _ => Err(Trouble::refused("its tables are not there yet, or of an earlier version")),
        }
    }

    /// Brings the tables to this program's version, unless they are there already.
    pub async fn prepare(&self) -> Result<String, Trouble> {
        let looked = self.look().await?;
        match standing(looked.map(|(version, _)| version)) {
            Standing::Older(_) => self.migrate().await?,
            Standing::Current | Standing::Newer => {}
        }
        self.current().await
    }

    /// The steps that are missing, all or none of them. Other nodes that come at the same time wait here.
    async fn migrate(&self) -> Result<(), Trouble> {
        let limit = MIGRATION_WITHIN.as_millis();
        let begin = format!(
            "BEGIN; SET LOCAL statement_timeout = {limit}; SELECT pg_advisory_xact_lock({CHANGES_TABLES})"
        );
        self.long_script(&begin).await?;
        let done = self.missing_steps().await;
        let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
        let ended = self.long_script(end).await;
        done.and(ended)
    }

    async fn missing_steps(&self) -> Result<(), Trouble> {
        // Another node has been at it meanwhile, perhaps.
        let version = self.look().await?.map(|(version, _)| version);
        let Standing::Older(first) = standing(version) else { return Ok(()) };
        if version.is_none() {
            self.script("CREATE SCHEMA IF NOT EXISTS astlogger").await?;
        }
        for (step, number) in STEPS.iter().zip(1..).skip(first) {
            self.long_script(step).await?;
            self.script(&format!("UPDATE astlogger.database SET version = {number}")).await?;
            tracing::info!(
                version = number,
                "the tables of the catalog's database were brought to a new version"
            );
        }
        Ok(())
    }

    /// Statements without values.
    async fn script(&self, sql: &str) -> Result<(), Trouble> {
        self.run(sql, self.within).await
    }

    async fn long_script(&self, sql: &str) -> Result<(), Trouble> {
        self.run(sql, MIGRATION_WITHIN).await
    }

    async fn run(&self, sql: &str, within: Duration) -> Result<(), Trouble> {
        let done = timeout(within, self.client.batch_execute(sql)).await;
        done.map_err(|_| no_answer(within))?.map_err(|error| trouble(&error))
    }

    /// What a statement gives.
    pub async fn rows(&self, statement: &Statement) -> Result<Vec<Row>, Trouble> {
        let values: Vec<&(dyn ToSql + Sync)> = statement.values.iter().map(as_sql).collect();
        let asked = timeout(self.within, self.client.query(&statement.sql, &values)).await;
        asked.map_err(|_| no_answer(self.within))?.map_err(|error| trouble(&error))
    }

    async fn first(&self, statement: &Statement) -> Result<Row, Trouble> {
        let mut rows = self.rows(statement).await?;
        rows.pop()
            .ok_or_else(|| Trouble::refused("a table of its own is empty: astlogger.database"))
    }

    /// Whether this login may do what a node does, and whether TLS is spoken: for people who look.
    pub async fn rights(&self) -> Result<Rights, Trouble> {
        const ASK: &str = "SELECT coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), \
            has_database_privilege(current_database(), 'CREATE'), \
            coalesce(has_table_privilege(to_regclass('astlogger.entry'), 'SELECT, INSERT, UPDATE'), false), \
            current_setting('server_version')";
        let asked = Statement { sql: ASK.to_owned(), values: Vec::new() };
        let row = self.first(&asked).await?;
        Ok(Rights {
            encrypted: get(&row, 0)?,
            may_create: get(&row, 1)?,
            may_write: get(&row, 2)?,
            server: get(&row, 3)?,
        })
    }
}

/// What a login may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub encrypted: bool,
    /// Make the tables, where there are none.
    pub may_create: bool,
    /// Write into those that are there.
    pub may_write: bool,
    /// The server's version.
    pub server: String,
}

/// A later program has been at the tables.
pub(super) fn newer(version: i32) -> Trouble {
    Trouble::refused(format!(
        "its tables are of version {version}, and this program knows them up to {CURRENT}: nothing is written"
    ))
}

/// A column of a row.
pub(super) fn get<'r, T: tokio_postgres::types::FromSql<'r>>(
    row: &'r Row,
    column: usize,
) -> Result<T, Trouble> {
    row.try_get(column).map_err(|error| trouble(&error))
}

fn as_sql(value: &Value) -> &(dyn ToSql + Sync) {
    match value {
        Value::Text(text) => text,
        Value::Texts(texts) => texts,
        Value::Number(number) => number,
        Value::Percent(percent) => percent,
        Value::Time(time) => time,
    }
}

fn no_answer(within: Duration) -> Trouble {
    Trouble::away(format!("it does not answer within {} s", within.as_secs()))
}

fn trouble(error: &tokio_postgres::Error) -> Trouble {
    if let Some(told) = error.as_db_error() {
        return Trouble::of(Some(told.code().code()), told.message().to_owned());
    }
    let mut why = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !why.contains(&cause_text) {
            why = format!("{why}: {cause_text}");
        }
        source = cause.source();
    }
    Trouble::of(None, why)
}
