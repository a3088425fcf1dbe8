//! The requests of the WebSocket as HTTP requests (`POST /api/requests/NAME`), written down as there. What
//! they do is `perform`'s matter, who may ask `protocol`'s, whose page may call `http`'s.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde_json::{Map, Value};

use super::arguments::Arguments;
use super::backend::Code;
use super::http::{Peer, Refusal, Shared, members_of_body, read, signed_in_to_change};
use super::protocol::{Verb, verb_of};
use super::{audit, exports, perform};

/// Any request of the WebSocket that needs no socket: its arguments are the body, a JSON object, and
/// so is the answer, which has `result` as the reply has.
///
/// # Errors
/// What the request says, and `notauthenticated`, `forbidden`, `badvalue`.
pub async fn request(
    State(web): Shared,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Path(name): Path<String>,
    body: Body,
) -> Result<Json<Map<String, Value>>, Refusal> {
    let session = signed_in_to_change(&web, &headers)?;
    let name = name.to_ascii_lowercase();
    let (members, done) = match verb_of(&name, session.role()) {
        Ok(verb) => {
            let members = members_of_body(&read(&web, body).await?)?;
            if verb == Verb::Drill {
                let asked = audit::asked(&session, peer, &name, &members);
                return Ok(success(perform::drill(&web, asked).await?));
            }
            if verb == Verb::ExportRecordings {
                let asked = audit::asked(&session, peer, &name, &members);
                let arguments = Arguments::new(&members);
                return Ok(success(exports::begin(&web, &session, asked, &arguments).await?));
            }
            let done = perform::answer(&web, verb, &Arguments::new(&members), &session).await;
            (members, done)
        }
        // Whoever may not ask is written down, too, but not what he sends.
        Err(failure) => (BTreeMap::new(), Err(failure)),
    };
    let shows_nothing = match &done {
        Ok(_) => name == "clusterstatus",
        Err(failure) => failure.code == Code::UnknownRequest,
    };
    if !shows_nothing {
        let asked = audit::asked(&session, peer, &name, &members);
        web.clerk.note(asked, audit::outcome(&done)).await?;
    }
    Ok(success(done?))
}

fn success(mut body: Map<String, Value>) -> Json<Map<String, Value>> {
    body.insert("result".to_owned(), "success".into());
    Json(body)
}
