//! `astlogger check`: first the configuration, all of it; then, if it can be used, this machine.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::{Exit, Failure, print_json};
use crate::config::{Config, ConfigError, DEFAULT_FILE, Remark};
use crate::preflight::{self, Finding, Verdict};

/// Options of `check`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  astlogger check --config /etc/astlogger/astlogger.toml\n\n\
    Ends with 0 if a node could run, 78 if the configuration is wrong, 69 if only the AES does not \
    answer or refuses something, 1 if something on this machine is wrong.")]
pub(super) struct Options {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    config: PathBuf,
    /// Role instead of the one in the file
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,
    /// Print one JSON object as the last line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    exit: u8,
    config: PathBuf,
    problems: Vec<Remark>,
    warnings: Vec<Remark>,
    findings: Vec<Finding>,
}

pub(super) async fn execute(options: &Options) -> Result<Exit, Failure> {
    let mut report = match Config::load(&options.config, options.role.as_deref()) {
        Ok(config) => Report {
            ok: true,
            exit: 0,
            findings: preflight::examine(&config).await,
            config: config.file,
            problems: Vec::new(),
            warnings: config.warnings,
        },
        Err(ConfigError { file, remarks }) => Report {
            ok: false,
            exit: 0,
            config: file,
            problems: remarks,
            warnings: Vec::new(),
            findings: Vec::new(),
        },
    };
    let exit = judge(&report);
    report.exit = exit.code();
    report.ok = exit == Exit::Done;
    if options.json {
        print_json(&report)?;
    } else {
        print(&report).context("cannot write to standard output")?;
    }
    Ok(exit)
}

/// A wrong configuration weighs more than a wrong machine, and that more than an AES that is away.
fn judge(report: &Report) -> Exit {
    let mut failed = report.findings.iter().filter(|finding| finding.verdict == Verdict::Fail);
    if !report.problems.is_empty() {
        Exit::Config
    } else if report.findings.iter().all(|finding| finding.verdict != Verdict::Fail) {
        Exit::Done
    } else if failed.all(|finding| finding.check == preflight::AES) {
        Exit::Unavailable
    } else {
        Exit::NotSo
    }
}

fn print(report: &Report) -> std::io::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", report.config.display())?;
    for remark in &report.problems {
        writeln!(out, "  fail  {remark}")?;
    }
    for remark in &report.warnings {
        writeln!(out, "  warn  {remark}")?;
    }
    if report.problems.is_empty() && report.warnings.is_empty() {
        writeln!(out, "  ok    configuration")?;
    }
    let width = report.findings.iter().map(|f| f.check.len()).max().unwrap_or_default();
    for finding in &report.findings {
        let verdict = finding.verdict.as_str();
        writeln!(out, "  {verdict:<4}  {:width$}  {}", finding.check, finding.found)?;
        if let Some(remedy) = &finding.remedy {
            let key = finding.key.map(|key| format!("{key}: ")).unwrap_or_default();
            writeln!(out, "        {:width$}  -> {key}{remedy}", "")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heaviest_finding_decides_the_exit_code() {
        let finding = |check, verdict| Finding::new(check, verdict, "");
        for (problems, findings, exit) in [
            (0, vec![], Exit::Done),
            (0, vec![finding("disk", Verdict::Warn)], Exit::Done),
            (0, vec![finding(preflight::AES, Verdict::Fail)], Exit::Unavailable),
            (
                0,
                vec![finding(preflight::AES, Verdict::Fail), finding("disk", Verdict::Fail)],
                Exit::NotSo,
            ),
            (1, vec![], Exit::Config),
        ] {
            let report = Report {
                ok: true,
                exit: 0,
                config: PathBuf::new(),
                problems: vec![Remark::new("al_x", "a", "b"); problems],
                warnings: vec![],
                findings,
            };
            assert_eq!(judge(&report), exit);
        }
    }
}
