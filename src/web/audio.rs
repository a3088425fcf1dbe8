//! A recording's audio, or an export, as the answer to an HTTP request: status, headers, and a body that is read
//! from the disk as fast as the client takes it and no faster.

use axum::body::{self, Bytes};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use std::io;
use storage_core::RecordingId;
use tokio::sync::OwnedSemaphorePermit;

use super::backend::{Audio, Code, Failure};
use super::fetch::read_far_at;
use super::http::Refusal;
use super::range::{self, Selection};
use super::requests::Opened;

/// Read and handed to the connection at a time.
const PIECE_BYTES_MAX: u64 = 64 * 1024;

/// Something that can be fetched in parts.
pub struct Body {
    /// To read from.
    pub audio: Box<dyn Audio>,
    /// What a browser is to call the file.
    pub name: String,
    /// Changes with its bytes.
    pub etag: String,
    /// Taken while it is open.
    pub slot: OwnedSemaphorePermit,
}

/// A recording's audio as an answer.
pub fn response(id: RecordingId, opened: Opened, request: &HeaderMap) -> Response {
    let Opened { audio, tag, slot, .. } = opened;
    let name = format!("{id}.{}", audio.file_extension());
    answer(Body { audio, name, etag: tag, slot }, request)
}

/// The answer. A `HEAD` gets the same without the body, which axum takes off.
pub fn answer(body: Body, request: &HeaderMap) -> Response {
    let Body { mut audio, name, etag, slot } = body;
    let bytes = audio.bytes();
    let etag = format!("\"{etag}\"");
    let mut headers = vec![
        (ACCEPT_RANGES, "bytes".to_owned()),
        // May be kept by him who asked, but not be used without asking again.
        (CACHE_CONTROL, "private, no-cache".to_owned()),
    ];
    headers.push((ETAG, etag.clone()));
    if fresh(request, &etag) {
        return with_headers(StatusCode::NOT_MODIFIED, headers, body::Body::empty());
    }
    headers.push((CONTENT_TYPE, audio.media_type().to_owned()));
    headers.push((CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")));
    let (status, next, end) = match selection(request, &etag, bytes) {
        Selection::Whole => (StatusCode::OK, 0, bytes),
        Selection::Part { first, last } => {
            headers.push((CONTENT_RANGE, format!("bytes {first}-{last}/{bytes}")));
            (StatusCode::PARTIAL_CONTENT, first, last + 1)
        }
        Selection::Unsatisfiable => {
            let there_is = (CONTENT_RANGE, format!("bytes */{bytes}"));
            return with_headers(
                StatusCode::RANGE_NOT_SATISFIABLE,
                vec![there_is],
                body::Body::empty(),
            );
        }
    };
    headers.push((CONTENT_LENGTH, (end - next).to_string()));
    audio.will_read(next, end);
    let reading = Reading { audio, next, end, _slot: slot };
    let body = body::Body::from_stream(futures_util::stream::try_unfold(reading, Reading::piece));
    with_headers(status, headers, body)
}

fn fresh(request: &HeaderMap, etag: &str) -> bool {
    let header = text(request, &IF_NONE_MATCH);
    header.is_some_and(|header| range::none_match_hits(header, etag))
}

fn selection(request: &HeaderMap, etag: &str, bytes: u64) -> Selection {
    let stale = text(request, &IF_RANGE).is_some_and(|tag| !range::if_range_holds(tag, etag));
    range::select(text(request, &RANGE).filter(|_| !stale), bytes)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn with_headers(
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: body::Body,
) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        match value.parse() {
            Ok(value) => {
                response.headers_mut().insert(name, value);
            }
            // Only the backend's words can be at fault.
            Err(_) => {
                let message = format!("the recording's {name} cannot be written");
                return Refusal(Failure::new(Code::Internal, message)).into_response();
            }
        }
    }
    response
}

/// The part of the audio that is still to be sent.
struct Reading {
    audio: Box<dyn Audio>,
    next: u64,
    end: u64,
    _slot: OwnedSemaphorePermit,
}

impl Reading {
    /// The next piece, or the end. An error cuts the connection, so that no client takes what it
    /// has for all there is.
    async fn piece(mut self) -> io::Result<Option<(Bytes, Self)>> {
        if self.next == self.end {
            return Ok(None);
        }
        let read = tokio::task::spawn_blocking(move || {
            let wanted = (self.end - self.next).min(PIECE_BYTES_MAX);
            let mut piece = vec![0; usize::try_from(wanted).map_err(io::Error::other)?];
            // What comes before a part that cannot be read is sent all the same.
            let count = read_far_at(self.audio.as_mut(), self.next, &mut piece)?;
            piece.truncate(count);
            self.next += count as u64;
            Ok(Some((Bytes::from(piece), self)))
        });
        read.await.map_err(io::Error::other)?
    }
}
