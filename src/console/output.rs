//! Where the lines of an answer go. A reader that has gone does not stop what was begun; and no
//! line of an answer can be taken for its end.

use tokio::sync::mpsc;

/// Lines on their way to a client.
#[derive(Clone, Debug)]
pub struct Output(mpsc::Sender<String>);

/// Lines that may wait for a slow client.
const WAITING: usize = 64;

impl Output {
    /// An output, and where its lines come out.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    /// Writes a line; waits while the client is behind.
    pub async fn line(&self, line: impl Into<String>) {
        // A client that has gone hears nothing any more; what he began goes on.
        let _ = self.0.send(answer_line(&line.into())).await;
    }

    /// Writes several.
    pub async fn lines(&self, lines: impl IntoIterator<Item = String>) {
        for line in lines {
            self.line(line).await;
        }
    }
}

/// On one line, without control characters, and not to be taken for the end of the answer.
pub(super) fn answer_line(line: &str) -> String {
    let line = one_line(line);
    let ends = line == "ok" || line == "error" || line.starts_with("error ");
    if ends { format!(" {line}") } else { line }
}

/// Without anything that a terminal or a reader of lines could take for more than text.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_is_one_line_and_no_end_of_an_answer() {
        let (output, mut lines) = Output::new();
        for (given, told) in
            [("a\nb\x1b[0m", "a b [0m"), ("ok", " ok"), ("error x", " error x"), ("okay", "okay")]
        {
            output.line(given).await;
            assert_eq!(lines.recv().await.as_deref(), Some(told));
        }
        drop(lines);
        output.line("nobody hears this").await;
    }
}
