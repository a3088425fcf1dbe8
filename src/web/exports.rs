//! Exports over WebSocket and HTTP: an export begins only once that is in the audit log, what is told of it goes to
//! all sockets of him who asked, and its ZIP file can be fetched in parts. What an export is, and who may have
//! which, is decided in [`crate::exports`].
//!
//! A socket hears of its user's exports from its first `exportrecordings` or `listexports` on, or after it
//! has subscribed to `exports`. They go to the user, not to one socket: whoever comes back after his
//! browser was closed, or the node restarted, hears on.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use super::arguments::{Arguments, is_filter};
use super::backend::{Audio, Code, Failure};
use super::http::{Peer, Refusal, Shared, permitted};
use super::session::Session;
use super::{Web, audio, audit};
use crate::audit::Asked;
use crate::exports::{Exports, Owner, Wanted};

/// Arguments of a search that an export does not have.
const NO_FILTERS: [&str; 2] = ["limit", "cursor"];

fn owner(session: &Session, address: IpAddr) -> Owner {
    let address = address.to_canonical().to_string();
    Owner { by: session.by(), scope: session.scope().clone(), address }
}

/// `exportrecordings`. Nothing of it is left if it cannot be written down in the audit log.
///
/// # Errors
/// `badvalue`, `busy`, `notfound`, `unavailable`, and what the search says.
pub async fn begin(
    web: &Web,
    session: &Session,
    asked: Asked,
    arguments: &Arguments<'_>,
) -> Result<Map<String, Value>, Failure> {
    let prepared = match wanted(arguments, &asked) {
        Ok(wanted) => {
            let owner = owner(session, asked.address);
            on_disk(&web.exports, move |exports| exports.prepare(&owner, wanted)).await
        }
        Err(failure) => Err(failure),
    };
    web.clerk.note(asked, audit::outcome(&prepared)).await?;
    let prepared = prepared?;
    on_disk(&web.exports, move |exports| exports.start(prepared)).await
}

fn wanted(arguments: &Arguments<'_>, asked: &Asked) -> Result<Wanted, Failure> {
    let (query, format) = (arguments.query()?, arguments.format()?);
    let mut filter = asked.arguments.clone();
    if let Some(members) = filter.as_object_mut() {
        // Whatever else somebody sends is neither kept nor told again.
        members.retain(|name, _| is_filter(name) && !NO_FILTERS.contains(&name.as_str()));
    }
    Ok(Wanted { query, format, filter })
}

/// `listexports`.
pub fn list(web: &Web, session: &Session) -> Map<String, Value> {
    // From where he asks does not count here.
    web.exports.list(&owner(session, web.listen))
}

/// `cancelexport`.
///
/// # Errors
/// `badvalue`, `notfound`, `unavailable`.
pub async fn cancel(
    web: &Web,
    session: &Session,
    arguments: &Arguments<'_>,
) -> Result<Map<String, Value>, Failure> {
    let (owner, export) = (owner(session, web.listen), arguments.export()?);
    on_disk(&web.exports, move |exports| exports.cancel(&owner, &export)).await
}

/// The ZIP file of an export.
///
/// # Errors
/// `notauthenticated`, `forbidden`, `notfound`, `busy`, `unavailable`.
pub async fn download(
    State(web): Shared,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Path(export): Path<String>,
) -> Result<Response, Refusal> {
    let session = permitted(&web, &headers, "exportrecordings")?;
    let unknown = |_| Failure::new(Code::NotFound, "no export of this name");
    let export: crate::exports::ExportId = export.parse().map_err(unknown)?;
    let name = format!("astlogger-{export}.zip");
    let slot = web.node.fetch_slot()?;
    let owner = owner(&session, peer);
    let parcel = on_disk(&web.exports, move |exports| exports.parcel(&owner, &export)).await?;
    let body = audio::Body { name, etag: parcel.mark(), audio: Box::new(parcel), slot };
    Ok(audio::answer(body, &headers))
}

/// Does what may wait for the disk, or for other members.
async fn on_disk<T: Send + 'static>(
    exports: &Arc<Exports>,
    question: impl FnOnce(&Arc<Exports>) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let exports = Arc::clone(exports);
    let asked = spawn_blocking(move || question(&exports));
    let broken = |_| Failure::new(Code::Internal, "the question could not be answered");
    asked.await.map_err(broken)?
}
