//! What is kept of a page for people to look at, and what axe-core says of it.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::devtools::Page;

impl Page {
    /// Takes a picture of the page.
    pub async fn picture(&self, name: &str) {
        let taken = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let data = taken["data"].as_str().expect("a picture");
        let folder = target().join("screenshots");
        std::fs::create_dir_all(&folder).expect("writable");
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, from_base64(data)).expect("writable");
    }

    /// What axe-core finds wrong with the page as it is now.
    pub async fn barriers(&self) -> Vec<String> {
        let path = target().join("axe/node_modules/axe-core/axe.min.js");
        let axe = std::fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("{}: {error}; `./setup tests` fetches it", path.display())
        });
        self.eval(&format!("if (window.axe === undefined) {{ {axe} }}; undefined")).await;
        let found = self
            .eval("axe.run().then((r) => r.violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html + ' ' + n.failureSummary).join('; ')}`))")
            .await;
        let found = found.as_array().expect("a list");
        found.iter().map(|one| one.as_str().expect("a text").to_owned()).collect()
    }
}

/// The build's folder.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder above").to_owned()
}

/// Reads base64 without line breaks.
pub fn from_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for four in digits.chunks(4) {
        let word = four.iter().fold(0, |word, digit| word << 6 | value(*digit));
        let word = word << (6 * (4 - four.len()));
        bytes.extend_from_slice(&word.to_be_bytes()[1..four.len()]);
    }
    bytes
}
