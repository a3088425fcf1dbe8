//! What a person watches while the demonstration runs: a table that is drawn anew in place on a
//! terminal, and a plain line every two seconds where there is none. It only shows.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Rows beyond this are summed up in one line, so that the table fits a screen.
const ROWS_MAX: usize = 16;
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// A call in progress.
#[derive(Clone, Debug)]
pub struct Row {
    /// The number in its time code.
    pub serial: u32,
    /// Who calls whom, in words.
    pub parties: String,
    /// How long it has been going on.
    pub duration: Duration,
    /// Phantoms in it, in words; empty if nobody records it.
    pub recorded_by: String,
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// What is happening, in a few words.
    pub caption: String,
    /// Each node with its role and duty.
    pub nodes: Vec<String>,
    /// Calls in progress.
    pub calls: Vec<Row>,
    /// Calls that are over.
    pub finished: u64,
    /// Calls to be made in all.
    pub planned: u64,
    /// Packets captured so far.
    pub packets: u64,
    /// Packets that did not arrive, as far as is known.
    pub lost: u64,
    /// Recordings published so far.
    pub published: u64,
}

/// The screen, or the lines.
#[derive(Debug)]
pub struct Table {
    begun: Instant,
    terminal: bool,
    drawn_lines: usize,
    last_plain: Option<Instant>,
}

impl Table {
    /// For standard error, so that standard output is free for the result.
    #[must_use]
    pub fn new() -> Self {
        let terminal = io::stderr().is_terminal();
        Self { begun: Instant::now(), terminal, drawn_lines: 0, last_plain: None }
    }

    /// Counts the time from now on.
    pub fn begin(&mut self) {
        self.begun = Instant::now();
    }

    /// Shows the scene.
    pub fn show(&mut self, scene: &Scene) {
        if self.terminal {
            let lines = self.lines(scene);
            let mut text = String::new();
            if self.drawn_lines > 0 {
                text.push_str(&format!("\x1b[{}A", self.drawn_lines));
            }
            for line in &lines {
                text.push_str("\x1b[2K");
                text.push_str(line);
                text.push('\n');
            }
            // What the scene before drew below this one's last line.
            text.push_str("\x1b[0J");
            self.drawn_lines = lines.len();
            self.write(&text);
        } else if self.last_plain.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) {
            self.last_plain = Some(Instant::now());
            let line = format!("{}\n", self.summary(scene));
            self.write(&line);
        }
    }

    /// A line that stays, above the table.
    pub fn say(&mut self, line: &str) {
        if self.drawn_lines > 0 {
            let back = format!("\x1b[{}A\x1b[0J", self.drawn_lines);
            self.drawn_lines = 0;
            self.write(&back);
        }
        let line = format!("{line}\n");
        self.write(&line);
    }

    fn write(&self, text: &str) {
        // A closed standard error is no reason to end the demonstration.
        let mut out = io::stderr().lock();
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }

    fn summary(&self, scene: &Scene) -> String {
        format!(
            "{:>5.1} s  {}: {} calls in progress, {} of {} over, {} recorded now, \
             {} packets, {} lost, {} published",
            self.begun.elapsed().as_secs_f32(),
            scene.caption,
            scene.calls.len(),
            scene.finished,
            scene.planned,
            scene.calls.iter().filter(|call| !call.recorded_by.is_empty()).count(),
            scene.packets,
            scene.lost,
            scene.published,
        )
    }

    fn lines(&self, scene: &Scene) -> Vec<String> {
        let mut lines = vec![self.summary(scene)];
        lines.extend(scene.nodes.iter().map(|node| format!("         {node}")));
        lines.push(format!("  {:>5}  {:<44} {:>7}  {}", "call", "parties", "time", "recorded by"));
        for call in scene.calls.iter().take(ROWS_MAX) {
            lines.push(format!(
                "  {:>5}  {:<44} {:>5.1} s  {}",
                call.serial,
                call.parties.chars().take(44).collect::<String>(),
                call.duration.as_secs_f32(),
                if call.recorded_by.is_empty() { "-" } else { &call.recorded_by },
            ));
        }
        if scene.calls.len() > ROWS_MAX {
            lines.push(format!("         and {} more", scene.calls.len() - ROWS_MAX));
        }
        lines
    }
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}
