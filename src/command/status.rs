//! `astlogger status`: the group as the node on this machine sees it.

use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::{Exit, Failure, print_json};
use crate::config::{DEFAULT_FILE, Web};
use crate::local;

/// Options of `status`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  astlogger status --config /etc/astlogger/astlogger.toml\n\n\
    Ends with 69 if no node runs here.")]
pub(super) struct Options {
    /// Configuration file of the node
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub(super) json: bool,
}

/// What the node says, as far as it is shown; a newer node may say more.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    members: Vec<Member>,
    leader: Value,
    term: Value,
    epoch: Value,
    health: Value,
    calls: Value,
    recordings: Value,
    agents: Value,
    lasttakeover: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Member {
    node: Value,
    role: Value,
    duty: Value,
    up: bool,
}

pub(super) async fn execute(options: &Options) -> Result<Exit, Failure> {
    let web = Web::load(&options.config)?;
    let unavailable = |error: anyhow::Error| Failure::new(Exit::Unavailable, error);
    let answer =
        local::get(&web, "/api/status", local::TIMEOUT).await.map_err(|e| unavailable(e.into()))?;
    if answer.status != 200 {
        let error =
            anyhow!("the node at {} answers {}: {}", web.listen, answer.status, answer.body);
        return Err(unavailable(error));
    }
    let value: Value = serde_json::from_str(&answer.body)
        .context("the node's answer is no JSON")
        .map_err(unavailable)?;
    if options.json {
        print_json(&value)?;
    } else {
        let status =
            Status::deserialize(value).context("the node's answer").map_err(unavailable)?;
        print(&status, &mut io::stdout().lock()).context("cannot write to standard output")?;
    }
    Ok(Exit::Done)
}

fn print(status: &Status, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "node   role       duty      up")?;
    for member in &status.members {
        let leads = if member.node == status.leader { "  leads the group" } else { "" };
        let up = if member.up { "yes" } else { "no" };
        let [node, role, duty] = [&member.node, &member.role, &member.duty].map(word);
        writeln!(out, "{node:<6} {role:<10} {duty:<9} {up:<3}{leads}")?;
    }
    for (name, value) in [
        ("health", &status.health),
        ("calls in progress", &status.calls),
        ("recordings in progress", &status.recordings),
        ("agents logged in", &status.agents),
        ("term", &status.term),
        ("epoch", &status.epoch),
        ("last takeover", &status.lasttakeover),
    ] {
        writeln!(out, "{name:<23} {}", word(value))?;
    }
    Ok(())
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(word).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let pairs = members.iter().map(|(name, value)| format!("{name} {}", word(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_says_is_shown_and_what_it_leaves_out_is_a_dash() {
        let json = r#"{"members":[{"node":1,"role":"active","duty":"lead","up":true},
            {"node":2,"role":"backup","duty":"standby","up":false}],"leader":1,"term":3,
            "health":{"ok":false,"reasons":["AES away","disk full"]},"calls":12,"newer":[1]}"#;
        let mut out = Vec::new();
        print(&serde_json::from_str(json).unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "1      active     lead      yes  leads the group",
            "2      backup     standby   no ",
            "health                  ok false, reasons AES away, disk full",
            "calls in progress       12",
            "last takeover           -",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?}\n{text}");
        }
    }
}
