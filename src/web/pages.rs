//! The pages for browsers: their files, which are built into the program, the policy under which a browser
//! runs them, and how long it may keep them. What a page shows and asks is decided in `page/`; who may ask
//! for what, in `http` and `protocol`, as for any other client.
//!
//! The files lie below an address that holds a hash over all of them. So they may be kept for ever, modules
//! import each other by name, and no page runs half of one version and half of another.

use std::sync::LazyLock;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};
use std::sync::Arc;

use super::Web;
use super::backend::{Code, Failure};
use super::http::Refusal;
use super::range::none_match_hits;
use super::session::hex;

/// Scripts, styles, audio and connections of our own, and nothing of anybody else's; nothing inline; no
/// text is ever taken for markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Under the address of a version nothing ever changes.
const KEPT_FOR_EVER: &str = "public, max-age=31536000, immutable";
/// The page itself names the version, so it is asked for each time.
const ASKED_EACH_TIME: &str = "no-cache";

struct File {
    name: &'static str,
    media_type: &'static str,
    bytes: &'static [u8],
}

macro_rules! file {
    ($name:literal, $media_type:expr) => {
        File {
            name: $name,
            media_type: $media_type,
            bytes: include_bytes!(concat!("page/", $name)),
        }
    };
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: &[File] = &[
    file!("style.css", "text/css; charset=utf-8"),
    file!("icon.svg", "image/svg+xml"),
    file!("api.js", SCRIPT),
    file!("audit.js", SCRIPT),
    file!("calls.js", SCRIPT),
    file!("csv.js", SCRIPT),
    file!("custody.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("endless.js", SCRIPT),
    file!("exports.js", SCRIPT),
    file!("feed.js", SCRIPT),
    file!("fields.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("frame.js", SCRIPT),
    file!("health.js", SCRIPT),
    file!("help.js", SCRIPT),
    file!("holds.js", SCRIPT),
    file!("listen.js", SCRIPT),
    file!("metrics.js", SCRIPT),
    file!("player.js", SCRIPT),
    file!("qa.js", SCRIPT),
    file!("record.js", SCRIPT),
    file!("results.js", SCRIPT),
    file!("scorecard.js", SCRIPT),
    file!("search.js", SCRIPT),
    file!("silence.js", SCRIPT),
    file!("socket.js", SCRIPT),
    file!("sound.js", SCRIPT),
    file!("supervisor.js", SCRIPT),
    file!("texts.js", SCRIPT),
    file!("wave.js", SCRIPT),
];

/// Each page's address, and the module that it begins with.
const PAGES: [(&str, &str); 5] = [
    ("/", "qa.js"),
    ("/supervisor", "supervisor.js"),
    ("/health", "health.js"),
    ("/custody", "custody.js"),
    ("/audit", "audit.js"),
];

/// What is the same for all pages.
const TEMPLATE: &str = include_str!("page/page.html");

/// The version: a hash over the names and bytes of all files.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut all = Sha256::new();
    for file in FILES {
        // With lengths, so that no byte can wander from one file into the next.
        all.update(file.name.as_bytes());
        all.update((file.bytes.len() as u64).to_be_bytes());
        all.update(file.bytes);
    }
    hex(&all.finalize()[..8])
});

/// The addresses of pages and of their files.
pub fn router() -> Router<Arc<Web>> {
    let pages = PAGES.into_iter().fold(Router::new(), |router, (address, script)| {
        router.route(address, get(move |headers: HeaderMap| async move { page(script, &headers) }))
    });
    pages.route("/page/{version}/{name}", get(file))
}

/// A page that begins with this module.
fn page(script: &str, request: &HeaderMap) -> Response {
    let below = format!("\"/page/{}/", *VERSION);
    let text = TEMPLATE.replace("{{script}}", script).replace("\"/page/", &below);
    let etag = format!("\"{}\"", hex(&Sha256::digest(text.as_bytes())[..16]));
    let mut response = if holds(request, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    tagged(headers, &etag, ASKED_EACH_TIME);
    response
}

/// A page's file, of this version.
async fn file(
    Path((version, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let file = FILES.iter().find(|file| file.name == name && version == *VERSION);
    let file = file.ok_or_else(|| {
        let message = "no such file in this version of the pages; reload the page";
        Refusal(Failure::new(Code::NotFound, message))
    })?;
    let etag = format!("\"{version}\"");
    let mut response = if holds(&headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(CONTENT_TYPE, file.media_type)], Bytes::from_static(file.bytes)).into_response()
    };
    tagged(response.headers_mut(), &etag, KEPT_FOR_EVER);
    Ok(response)
}

/// Whether the browser has it already.
fn holds(request: &HeaderMap, etag: &str) -> bool {
    let known = request.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    known.is_some_and(|known| none_match_hits(known, etag))
}

fn tagged(headers: &mut HeaderMap, etag: &str, kept: &'static str) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
    // Hex digits in quotes are always a header's value.
    if let Ok(etag) = etag.parse() {
        headers.insert(ETAG, etag);
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::ROWS;
    use super::*;

    /// What a module imports, or the page loads.
    fn named_in(text: &str) -> impl Iterator<Item = &str> {
        text.split("\"./").skip(1).filter_map(|rest| rest.split('"').next())
    }

    #[test]
    fn every_file_that_is_named_is_there_and_every_one_that_is_there_is_used() {
        let text = |file: &File| std::str::from_utf8(file.bytes).unwrap().to_owned();
        let mut used: Vec<String> = PAGES.iter().map(|(_, script)| (*script).to_owned()).collect();
        used.extend(["style.css".to_owned(), "icon.svg".to_owned()]);
        for file in FILES {
            for name in named_in(&text(file)) {
                assert!(FILES.iter().any(|found| found.name == name), "{} names {name}", file.name);
                used.push(name.to_owned());
            }
        }
        for file in FILES {
            assert!(used.iter().any(|name| name == file.name), "nobody uses {}", file.name);
        }
    }

    #[test]
    fn the_audit_log_says_each_request_in_words() {
        let texts = FILES.iter().find(|file| file.name == "texts.js").unwrap();
        let texts = std::str::from_utf8(texts.bytes).unwrap();
        // What is no request of the table is asked for by address only.
        for name in ROWS.iter().map(|row| row.name).chain(["fetchexport"]) {
            assert!(texts.contains(&format!("\"action.{name}\": ")), "{name}");
        }
    }

    #[test]
    fn no_text_becomes_markup_and_nothing_is_inline() {
        // Policies stop these in browsers that know them; the code is not to rely on that.
        for file in FILES.iter().filter(|file| file.media_type == SCRIPT) {
            let text = std::str::from_utf8(file.bytes).unwrap();
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!text.contains(word), "{} has {word}", file.name);
            }
        }
        for inline in ["<style", "style=", " onclick", "<script>"] {
            assert!(!TEMPLATE.contains(inline), "{inline}");
        }
    }
}
