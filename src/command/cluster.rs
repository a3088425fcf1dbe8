//! `astlogger cluster`: certificates for a group, and its members. `init` works on files; all others
//! ask a running node over its console.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use cluster::identity::{self, IdentityError, Issued};
use recorder::clock::Clock;
use serde::Serialize;
use storage_core::NodeId;

use super::console::Place;
use super::{Exit, Failure, print_json, status};
use crate::config::{HostPort, read_peer};

/// Options of `cluster`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  astlogger cluster status\n  astlogger cluster add 4 10.0.0.4:7400"
)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

impl Options {
    /// Whether one JSON object is to be the last line of standard output.
    pub(super) const fn json(&self) -> bool {
        match &self.action {
            Action::Init(options) => options.json,
            Action::Status(options) => options.json,
            Action::Add { target, .. }
            | Action::Remove { target, .. }
            | Action::Replace { target, .. } => target.json,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make an authority and a certificate for each member, in one folder
    Init(Init),
    /// The group as a running node sees it; the same as `astlogger status`
    Status(status::Options),
    /// Add a member to the running group
    #[command(after_help = "Example:\n  astlogger cluster add 4 10.0.0.4:7400\n\n\
        Then add it to al_peers everywhere and start it; it votes once it has caught up.")]
    Add {
        /// Number of the new member; one that was never used
        node: u16,
        /// Where it listens for its peers
        #[arg(value_name = "HOST:PORT")]
        place: String,
        #[command(flatten)]
        target: Target,
    },
    /// Remove a member from the running group, for good
    #[command(after_help = "Example:\n  astlogger cluster remove 2")]
    Remove {
        /// Its number
        node: u16,
        #[command(flatten)]
        target: Target,
    },
    /// Put a new member into an old one's place
    #[command(after_help = "Example:\n  astlogger cluster replace 2 4 10.0.0.4:7400\n\n\
        Ask another node than the one that goes.")]
    Replace {
        /// Number of the member that goes
        old: u16,
        /// Number of the new one; one that was never used
        new: u16,
        /// Where the new one listens for its peers
        #[arg(value_name = "HOST:PORT")]
        place: String,
        #[command(flatten)]
        target: Target,
    },
}

/// Which node is asked, and how it is told.
#[derive(Debug, Args)]
struct Target {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  astlogger cluster init --dir pki \
    --nodes 1=10.0.0.1,2=10.0.0.2,3=witness.example.com\n\n\
    Further members can be added later with the same --dir. Keep ca.key away from the nodes: who \
    has it can make himself a member.")]
struct Init {
    /// Folder for the certificates and keys; made if it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The members: NUMBER=HOST or NUMBER=HOST:PORT, with commas between them
    #[arg(long, value_name = "1=HOST,2=HOST", value_delimiter = ',', required = true)]
    nodes: Vec<String>,
    /// How long the members' certificates last
    #[arg(long, value_name = "DAYS", default_value_t = 730,
        value_parser = clap::value_parser!(u64).range(1..=7300))]
    days: u64,
    /// Print one JSON object as the last line
    #[arg(long)]
    json: bool,
}

pub(super) async fn execute(options: &Options) -> Result<Exit, Failure> {
    match &options.action {
        Action::Init(options) => init(options),
        Action::Status(options) => status::execute(options).await,
        Action::Add { node, place, target } => {
            target.ask(&format!("add member {node} {place}")).await
        }
        Action::Remove { node, target } => target.ask(&format!("remove member {node}")).await,
        Action::Replace { old, new, place, target } => {
            target.ask(&format!("replace member {old} {new} {place}")).await
        }
    }
}

impl Target {
    async fn ask(&self, command: &str) -> Result<Exit, Failure> {
        self.place.one_shot(command, self.json).await
    }
}

/// What was made for one member.
#[derive(Serialize)]
struct Made {
    node: NodeId,
    place: String,
    al_clustercert: PathBuf,
    al_clusterkey: PathBuf,
    al_clusterca: PathBuf,
    ends: String,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    members: Vec<Made>,
}

fn init(options: &Init) -> Result<Exit, Failure> {
    let members = read_members(&options.nodes).map_err(|error| Failure::new(Exit::Usage, error))?;
    let hosts: Vec<_> = members.iter().map(|(node, place)| (*node, place.host.clone())).collect();
    let issued =
        identity::init(&options.dir, &hosts, options.days, Clock::wall()).map_err(failure)?;
    let made: Vec<_> =
        issued.into_iter().zip(&members).map(|(issued, (_, place))| made(issued, place)).collect();
    if options.json {
        print_json(&Report { ok: true, members: made })?;
    } else {
        print(&made, &options.dir, &mut io::stdout().lock())
            .context("cannot write to standard output")?;
    }
    Ok(Exit::Done)
}

fn read_members(entries: &[String]) -> anyhow::Result<Vec<(NodeId, HostPort)>> {
    let mut members: Vec<(NodeId, HostPort)> = Vec::new();
    for entry in entries {
        let Some((node, place)) = read_peer(entry) else {
            return Err(anyhow!("{entry:?} is no member; write --nodes 1=10.0.0.1,2=10.0.0.2"));
        };
        if members.iter().any(|(known, _)| *known == node) {
            return Err(anyhow!("node {node} is named twice; each member has its own number"));
        }
        members.push((node, place));
    }
    Ok(members)
}

fn made(issued: Issued, place: &HostPort) -> Made {
    Made {
        node: issued.node,
        place: place.to_string(),
        al_clustercert: issued.certificate,
        al_clusterkey: issued.key,
        al_clusterca: issued.authority,
        ends: issued.ends,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it over")]
fn failure(error: IdentityError) -> Failure {
    let exit = match &error {
        IdentityError::Exists { .. } => Exit::NotSo,
        IdentityError::Address(_) => Exit::Usage,
        IdentityError::Write { .. } | IdentityError::Read { .. } => Exit::Unavailable,
        IdentityError::Certificate(_) => Exit::Fault,
    };
    Failure::new(exit, anyhow!("{error}"))
}

fn print(made: &[Made], dir: &Path, out: &mut impl Write) -> io::Result<()> {
    let peers: Vec<_> = made.iter().map(|m| format!("\"{}={}\"", m.node, m.place)).collect();
    for member in made {
        let name = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
        let files =
            [&member.al_clusterca, &member.al_clustercert, &member.al_clusterkey].map(|p| name(p));
        writeln!(out, "node {} ({}), valid until {}", member.node, member.place, member.ends)?;
        writeln!(out, "  copy there: {}", files.join(", "))?;
        writeln!(out, "  al_nodeid = {}", member.node)?;
        for (key, path) in [
            ("al_clustercert", &member.al_clustercert),
            ("al_clusterkey", &member.al_clusterkey),
            ("al_clusterca", &member.al_clusterca),
        ] {
            writeln!(out, "  {key} = \"/etc/astlogger/{}\"", name(path))?;
        }
    }
    writeln!(out, "on every node\n  al_peers with {}", peers.join(", "))?;
    writeln!(out, "keep {} where no node is: it makes members", dir.join("ca.key").display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_numbers_and_hosts() {
        let read = |text: &str| {
            let entries: Vec<_> = text.split(',').map(str::to_owned).collect();
            read_members(&entries).map_err(|error| error.to_string())
        };
        let members = read("1=10.0.0.1,3=rec3.example:7500").unwrap();
        assert_eq!(members[1].0, NodeId(3));
        assert_eq!(members[0].1.to_string(), "10.0.0.1:7400");
        assert!(read("1=a,1=b").unwrap_err().contains("named twice"));
        assert!(read("10.0.0.1").unwrap_err().contains("write --nodes"));
    }
}
