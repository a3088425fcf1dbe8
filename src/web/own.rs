//! What somebody who is signed in asks about himself: who he is, and the calls at his own station. Both are for
//! pages; nothing of others is told here.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde_json::{Map, Value, json};

use super::http::{Refusal, Shared, permitted, signed_in};

/// Who the sender is signed in as, for pages, which cannot read their cookie. Whoever is not signed in is
/// no error here: the page asks to find that out.
pub async fn session(State(web): Shared, headers: HeaderMap) -> Json<Value> {
    let Ok(session) = signed_in(&web, &headers) else {
        let mut nobody = json!({ "user": null });
        if let Some(door) = &web.door {
            nobody["provider"] = door.name().into();
        }
        return Json(nobody);
    };
    let by = session.by();
    Json(json!({
        "user": by.user,
        "role": by.role.as_str(),
        "extension": by.extension,
        "expires": session.expires().to_string(),
        "idleminutes": web.limits.session_idle.map(|idle| idle.as_secs().max(1).div_ceil(60)),
    }))
}

/// The calls in progress at the sender's own station: what an agent sees of `listcalls`.
pub async fn calls(
    State(web): Shared,
    headers: HeaderMap,
) -> Result<Json<Map<String, Value>>, Refusal> {
    let session = permitted(&web, &headers, "startrecording")?;
    Ok(Json(web.node.own_calls(&session).await?))
}
