//! A node that archives what lies on its disk, lets it go, and hands it out from the archive.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use astlogger::demo::{self, Node};
use astlogger::users::{self, UserRole};
use simulator::{Site, SiteConfig};
use tokio::time::sleep;

use super::{Laid, same};
use crate::fetch::{PASSWORD, Target, range, token};

/// A client asks for so much at once.
pub const RANGE_BYTES: usize = 1 << 20;
const LIMIT: Duration = Duration::from_secs(300);
/// How exactly its begin and end are seen.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Room is never short, however full the disk of this machine is; and always.
const ROOMY: &str = "al_mindiskfree = \"1 MB\"\n";
const ALWAYS_LOW: &str = "al_mindiskfree = \"900 TiB\"\n";

/// The node.
pub struct Archiver {
    node: Node,
    // Ends with it.
    _site: Site,
}

impl Archiver {
    /// One that does not run yet.
    pub async fn prepare(binary: &Path, folder: &Path, settings: &str) -> Result<Self> {
        let site = Site::start(SiteConfig::demo(1, 1)).await?;
        let settings = demo::recorder_settings(&site, 1)? + settings + ROOMY;
        let node = Node::prepare(binary, folder, &settings)?;
        users::add(&node.users_path(), "qa", UserRole::Qa, None, None, PASSWORD)?;
        Ok(Self { node, _site: site })
    }

    /// Where recordings are laid.
    pub fn data_dir(&self) -> PathBuf {
        self.node.data_dir()
    }

    /// Starts it; how long it takes from its first look until so many are archived, read back, compared and noted.
    pub async fn archives(&mut self, count: usize) -> Result<Duration> {
        self.node.start()?;
        self.node.ready(LIMIT).await?;
        self.counts("astlogger_archive_pending", |pending| pending > 0.0).await?;
        let begun = Instant::now();
        self.counts("astlogger_archive_stored_total", |stored| stored >= count as f64).await?;
        self.counts("astlogger_archive_pending", |pending| pending == 0.0).await?;
        Ok(begun.elapsed())
    }

    /// Has it make room for nothing, until all that it has is in the archive.
    pub async fn lets_go(&mut self, laid: &[Laid]) -> Result<()> {
        self.node.stop(LIMIT).await?;
        let path = self.node.config_path();
        let text = std::fs::read_to_string(&path)?.replace(ROOMY, ALWAYS_LOW);
        std::fs::write(&path, text)?;
        self.node.start()?;
        self.node.ready(LIMIT).await?;
        let count = laid.len() as f64;
        self.counts("astlogger_archive_removed_total", |removed| removed >= count).await?;
        let left = laid.iter().filter(|one| one.path.exists()).count();
        ensure!(left == 0, "{left} voice files are still here");
        Ok(())
    }

    /// Fetches all of them, one after the other, in ranges.
    pub async fn hands_out(&self, laid: &[Laid]) -> Result<Duration> {
        let bearer = format!("Bearer {}", token(&self.node).await?);
        let pid = self.node.pid().context("it runs")?;
        let target = Target { address: self.node.web(), pid, bearer, paths: Vec::new() };
        let begun = Instant::now();
        let mut fetched = Vec::new();
        for one in laid {
            let id = one.path.file_stem().context("a name")?.to_string_lossy();
            let path = format!("/api/recordings/{id}/audio");
            let mut bytes = Vec::with_capacity(one.bytes.len());
            while bytes.len() < one.bytes.len() {
                let to = (bytes.len() + RANGE_BYTES).min(one.bytes.len());
                bytes.extend(range(&target, &path, bytes.len() as u64..to as u64).await?);
            }
            fetched.push(bytes);
        }
        let took = begun.elapsed();
        laid.iter().zip(&fetched).try_for_each(|(one, bytes)| same(one, bytes))?;
        Ok(took)
    }

    /// Stops it.
    pub async fn end(&mut self) -> Result<()> {
        self.node.stop(LIMIT).await
    }

    async fn counts(&self, name: &str, holds: impl Fn(f64) -> bool) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let all = self.node.metrics().await?;
            if all.get(name).is_some_and(|value| holds(*value)) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{name} is not as awaited: {:?}", all.get(name));
            sleep(LOOK_EVERY).await;
        }
    }
}
