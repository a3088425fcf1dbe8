//! What of the web server's requests goes into the audit log, and in which words: everything that shows or
//! changes something, by people who are signed in, with its arguments but for secrets. Sign-ins are written
//! down at the desk (`signin`). What becomes of what cannot be written down is `crate::audit`'s matter.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::{MatchedPath, Query as AddressQuery, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Web;
use super::arguments::{Arguments, members_of_query};
use super::backend::{Code, Failure};
use super::http::{Peer, Refusal, Shared, permitted, signed_in};
use super::session::Session;
use crate::audit::Asked;

/// Members that are not written down.
const SECRETS: [&str; 2] = ["password", "token"];

/// A request by somebody who is signed in.
pub fn asked(
    session: &Session,
    address: IpAddr,
    action: &str,
    members: &BTreeMap<String, Box<RawValue>>,
) -> Asked {
    let arguments: Map<String, Value> = members
        .iter()
        .filter(|(name, _)| !SECRETS.contains(&name.as_str()))
        .map(|(name, raw)| {
            // What is no value that we can hold is kept as it was written.
            let value = serde_json::from_str(raw.get());
            (name.clone(), value.unwrap_or_else(|_| raw.get().into()))
        })
        .collect();
    Asked {
        user: session.by().user,
        role: Some(session.role().as_str()),
        address,
        action: action.to_owned(),
        arguments: Value::Object(arguments),
    }
}

/// Writes HTTP requests down before their answers go out.
pub async fn audited(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    let Some(asked) = of_request(&web, &request) else { return next.run(request).await };
    let response = next.run(request).await;
    let outcome = match response.extensions().get::<Code>() {
        Some(code) => Some(*code),
        None if is_refused(response.status()) => Some(Code::BadValue),
        None => None,
    };
    match web.clerk.note(asked, outcome).await {
        Ok(()) => response,
        Err(failure) => Refusal(failure).into_response(),
    }
}

fn is_refused(status: StatusCode) -> bool {
    status.is_client_error() || status.is_server_error()
}

fn of_request(web: &Web, request: &Request) -> Option<Asked> {
    let path = request.extensions().get::<MatchedPath>()?.as_str();
    let action = match path {
        "/api/recordings" => "listrecordings",
        "/api/recordings/{id}" => "getrecording",
        "/api/recordings/{id}/audio" | "/api/recordings/{id}/waveform" => "fetchrecording",
        "/api/exports/{id}" => "fetchexport",
        "/api/calls/own" => "listcalls",
        "/api/completeness" => "completeness",
        "/api/audit" => "listaudit",
        "/api/signout" => "signout",
        // The desk writes down who signs in; the others show no recording.
        "/api/signin" | "/api/session" | "/api/status" => return None,
        "/api/oidc/start" | "/api/oidc/callback" => return None,
        "/api/openapi.yaml" | "/api/asyncapi.yaml" => return None,
        // Its arguments are in its body, so it is written down where that is read.
        "/api/requests/{name}" => return None,
        other => other.strip_prefix("/api/")?,
    };
    // Whoever is not signed in sees nothing, and is not to fill the disk.
    let session = signed_in(web, request.headers()).ok()?;
    let Peer(address) = request.extensions().get::<Peer>().copied()?;
    let pairs = AddressQuery::<Vec<(String, String)>>::try_from_uri(request.uri());
    let mut members = members_of_query(pairs.map(|pairs| pairs.0).unwrap_or_default());
    if path.starts_with("/api/recordings/{id}") {
        let id = request.uri().path().split('/').nth(3).unwrap_or_default().to_owned();
        members.append(&mut members_of_query(vec![("recordingid".to_owned(), id)]));
    }
    if action == "fetchexport" {
        let export = request.uri().path().split('/').nth(3).unwrap_or_default().to_owned();
        members.append(&mut members_of_query(vec![("export".to_owned(), export)]));
    }
    Some(asked(&session, address, action, &members))
}

/// `listaudit` as an address.
pub async fn list(
    State(web): Shared,
    headers: HeaderMap,
    AddressQuery(pairs): AddressQuery<Vec<(String, String)>>,
) -> Result<Json<Map<String, Value>>, Refusal> {
    permitted(&web, &headers, "listaudit")?;
    let members = members_of_query(pairs);
    Ok(Json(web.node.audit(Arguments::new(&members).audit()?).await?))
}

/// What could not be done, if anything.
pub fn outcome<T>(done: &Result<T, Failure>) -> Option<Code> {
    done.as_ref().err().map(|failure| failure.code)
}
