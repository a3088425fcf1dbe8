//! Opens the catalog of a node, and has it brought in line: with the files, and with what others list.
//! How that is done is in [`storage::reindex`] and [`bridge::catch_up`].

use std::path::Path;
use std::sync::Arc;

use cluster::Group;
use storage::{
    Catalog, CatalogError, CatalogState, DurableCatalog, MemoryCatalog, VoiceStore, reindex,
};
use storage_core::naming::CATALOG_FOLDER;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::alarms::Alarm;
use crate::bridge;
use crate::catalog_database;
use crate::command::{Exit, Failure};
use crate::hub::Hub;
use crate::peers::Peers;

/// An open catalog.
pub struct Opened {
    /// It.
    pub catalog: Arc<dyn Catalog>,
    /// The same where it keeps a feed for the database.
    pub followed: Option<Arc<DurableCatalog>>,
    /// Asks others for what they list, as long as the node runs; absent where there are none.
    pub catching_up: Option<JoinHandle<()>>,
}

/// Opens it. It is brought in line in the background, because recording must not wait for it; nor need
/// it at all: on a full or failing disk the node records without. `follows`: there is a database that is told of it.
///
/// # Errors
/// If another process has it.
pub fn open(
    datadir: &Path,
    voices: &VoiceStore,
    hub: &Arc<Hub>,
    group: &Group,
    follows: bool,
) -> Result<Opened, Failure> {
    let (catalog, state) = match DurableCatalog::open(&datadir.join(CATALOG_FOLDER)) {
        Err(error @ (CatalogError::Full | CatalogError::Device { .. })) => {
            hub.alarms.raise(Alarm {
                name: "catalog",
                subject: "start".to_owned(),
                message: format!("only recordings made from now on can be searched: {error}"),
                remedy: "make room below al_datadir, then restart the node",
            });
            return Ok(Opened {
                catalog: Arc::new(MemoryCatalog::default()),
                followed: None,
                catching_up: None,
            });
        }
        opened => opened.map_err(|error| Failure::new(Exit::Unavailable, error))?,
    };
    if let CatalogState::Empty { because } = &state {
        tracing::warn!(because, "the catalog is rebuilt from the files; recording goes on");
    }
    let catalog = Arc::new(catalog);
    let followed = follows.then(|| follow(&catalog, hub)).flatten();
    let (compared, lying) = (Arc::clone(&catalog), voices.clone());
    let (in_line, when_in_line) = oneshot::channel();
    let catching_up = group.listens().map(|_| {
        let (peers, catalog) = (Peers::new(group.clone()), Arc::clone(&catalog));
        let (hub, voices) = (Arc::clone(hub), voices.clone());
        tokio::spawn(async move {
            if when_in_line.await.is_ok() {
                bridge::catch_up(peers, catalog, hub, voices).await;
            }
        })
    });
    let hub = Arc::clone(hub);
    spawn_blocking(move || match reindex::at_start(&lying, &compared, &state) {
        Ok(reindexed) => {
            if let Some(damage) = &reindexed.damage {
                tracing::warn!(%damage, "the catalog was rebuilt from the files");
            }
            for broken in &reindexed.broken {
                tracing::error!("{broken}");
            }
            tracing::info!(entered = reindexed.entered, "catalog compared with the files");
            hub.entered_many();
            // A node alone asks nobody.
            let _ = in_line.send(());
        }
        Err(error) => hub.alarms.raise(Alarm {
            name: "catalog",
            subject: "start".to_owned(),
            message: format!("the catalog could not be brought in line: {error}"),
            remedy: "run astlogger reindex while the node is stopped",
        }),
    });
    Ok(Opened { catalog, followed, catching_up })
}

/// Has it keep a feed, before anything is entered.
fn follow(catalog: &Arc<DurableCatalog>, hub: &Hub) -> Option<Arc<DurableCatalog>> {
    let followed = catalog.follow();
    if let Err(error) = &followed {
        hub.alarms.raise(Alarm {
            name: catalog_database::writer::ALARM,
            subject: "start".to_owned(),
            message: format!("nothing is written into the catalog's database: {error}"),
            remedy: "make room below al_datadir, then restart the node; it is told everything then",
        });
    }
    followed.is_ok().then(|| Arc::clone(catalog))
}
