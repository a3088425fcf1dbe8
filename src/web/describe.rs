//! The descriptions of what is served, for programs and those who write them: OpenAPI for HTTP, AsyncAPI
//! for the WebSocket. They are written by hand (`docs/api`); tests here and from outside (`tests/api`) hold them
//! against the program.

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

const OPENAPI: &str = include_str!("../../docs/api/openapi.yaml");
const ASYNCAPI: &str = include_str!("../../docs/api/asyncapi.yaml");
/// RFC 9512.
const YAML: &str = "application/yaml";

/// Of HTTP.
pub async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, YAML)], OPENAPI)
}

/// Of the WebSocket.
pub async fn asyncapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, YAML)], ASYNCAPI)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::protocol::{ROWS, Row, Verb};

    /// What a description says below the line that opens something, up to the next at its depth.
    fn below<'a>(text: &'a str, opening: &str) -> Option<&'a str> {
        let start = text.find(&format!("\n{opening}\n"))? + 1;
        let depth = opening.len() - opening.trim_start().len();
        let rest = &text[start + opening.len() + 1..];
        let ends = |line: &str| line.len() - line.trim_start().len() <= depth && !line.is_empty();
        let end = rest.lines().take_while(|line| !ends(line)).map(|line| line.len() + 1).sum();
        Some(&rest[..rest.len().min(end)])
    }

    fn roles(description: &str) -> Vec<&str> {
        let line = description.lines().find_map(|line| line.trim().strip_prefix("x-roles: ["));
        let mut roles: Vec<_> =
            line.map_or(Vec::new(), |line| line.trim_end_matches(']').split(", ").collect());
        roles.sort_unstable();
        roles
    }

    fn allowed(row: &Row) -> Vec<&'static str> {
        let mut roles: Vec<_> = row.roles.iter().map(|role| role.as_str()).collect();
        roles.sort_unstable();
        roles
    }

    #[test]
    fn each_request_is_described_with_who_may_make_it() {
        let served = ROWS.iter().filter(|row| row.verb != Verb::Later);
        for row in served.clone() {
            let found = below(ASYNCAPI, &format!("  {}:", row.name));
            let found = found.unwrap_or_else(|| panic!("`{}` is not described", row.name));
            assert_eq!(roles(found), allowed(row), "{}", row.name);
        }
        let described = ASYNCAPI.matches("    action: receive\n").count();
        assert_eq!(described, served.count(), "something is described that is not served");
        for row in ROWS {
            let Some(found) = below(OPENAPI, &format!("  /api/requests/{}:", row.name)) else {
                continue;
            };
            assert_eq!(roles(found), allowed(row), "{}", row.name);
        }
    }

    #[test]
    fn each_address_is_described() {
        let routes = include_str!("http.rs").split(".route(\"").skip(1);
        let paths: Vec<_> = routes.filter_map(|rest| rest.split('"').next()).collect();
        assert!(paths.len() > 15, "{paths:?}");
        for path in paths.into_iter().filter(|path| *path != "/api/requests/{name}") {
            assert!(OPENAPI.contains(&format!("\n  {path}:\n")), "{path} is not described");
        }
    }
}
