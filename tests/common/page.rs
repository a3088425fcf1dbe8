//! The commands in the documentation: taken out of its pages, so that what a person reads is what a test
//! runs. A fenced block whose first line names more than its language (```` ```sh node1 ````) is for whoever that
//! names; blocks without are there to be read.

use std::path::Path;

/// A fenced block that a test runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Who or what it is for: the words after the language.
    pub marks: Vec<String>,
    /// Its lines.
    pub text: String,
    /// Where it begins, for messages.
    pub line: usize,
}

impl Block {
    /// Whether it is marked so.
    pub fn is_for(&self, mark: &str) -> bool {
        self.marks.iter().any(|own| own == mark)
    }
}

/// The marked shell blocks of a page below `docs`, in order.
pub fn commands(page: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = std::fs::read_to_string(&path).expect("the page");
    let blocks = blocks(&text);
    assert!(!blocks.is_empty(), "{page} has no marked commands");
    blocks
}

/// The marked blocks of a text.
pub fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(info), None) => {
                let marks = info.split_whitespace().skip(1).map(str::to_owned).collect();
                open = Some(Block { marks, text: String::new(), line: number + 1 });
            }
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert_eq!(open, None, "a block is never closed");
    found.retain(|block| !block.marks.is_empty());
    found
}
