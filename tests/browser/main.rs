//! The pages in a real browser, before a real node: people sign in, search, listen; what they see is right,
//! what the browser plays is what was said, and nothing that a caller sends becomes part of a page.

#[path = "../common/mod.rs"]
mod common;

mod devtools;
mod made_up;
mod qa;
