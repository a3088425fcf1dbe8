//! `astlogger simulate`: the simulated switch and its AES servers, with people who telephone,
//! until Ctrl-C. For trying AstLogger without an Avaya.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use simulator::{Site, SiteConfig, StartError, TrafficPlan};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::interval;

use super::{Exit, Failure};

const TALK_MS_MIN: u64 = 10_000;
const TALK_MS_MAX: u64 = 40_000;
const RING_MS: u64 = 1_500;
const PACE_MS: u64 = 2_000;
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Options of `simulate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  astlogger simulate --config systemd/simulator.example.toml --calls 5\n\n\
    It runs until Ctrl-C. `astlogger run --config systemd/single.toml` records from it."
)]
pub(super) struct Options {
    /// Description of the site
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// How many calls at once; 0: nobody calls
    #[arg(long, value_name = "N", default_value_t = 3)]
    calls: usize,
}

pub(super) async fn execute(options: &Options) -> Result<Exit, Failure> {
    let config = read(&options.config).map_err(|error| Failure::new(Exit::Config, error))?;
    let mut ends = Ends::new().context("cannot wait for signals")?;
    let site = Site::start(config).await.map_err(|error| match &error {
        StartError::Listen { .. } | StartError::Media(_) => Failure::new(Exit::Unavailable, error),
        StartError::Config(_) | StartError::Tls(_) => Failure::new(Exit::Config, error),
    })?;
    introduce(&site);
    let traffic = (options.calls > 0).then(|| site.run_traffic(plan(options)));
    tokio::select! {
        () = ends.wait() => {}
        () = watch(&site) => {}
    }
    if let Some(traffic) = traffic {
        traffic.stop();
    }
    site.stop().await;
    Ok(Exit::Done)
}

fn read(file: &Path) -> anyhow::Result<SiteConfig> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    SiteConfig::from_toml(&text).with_context(|| format!("{}", file.display()))
}

/// Says how to point AstLogger at it.
fn introduce(site: &Site) {
    let config = site.config();
    println!("Switch {} is up. In AstLogger's configuration:", config.switch_name);
    for (number, aes) in config.aes.iter().enumerate() {
        let address = site.aes_address(number);
        println!("\n  al_aeshost = \"{}\"\n  al_aesport = {}", address.ip(), address.port());
        println!("  al_aestls = {}\n  al_aesuser = \"{}\"", aes.tls, aes.user);
        println!("  al_aespassword = \"{}\"", aes.password);
        println!("  al_switchname = \"{}\"", config.switch_name);
        if let Some(phantoms) = config.phantoms.get(number) {
            println!("  al_phantoms = [\"{}\"]", phantoms.extensions);
            println!("  al_phantompassword = \"{}\"", phantoms.password);
        }
        println!("  al_stations = {:?}", config.stations);
        if aes.tls && config.tls.is_none() {
            println!(
                "\nThe AES's certificate is self-made; for al_aesca:\n\n{}",
                site.tls_ca_pem(number)
            );
        }
    }
    println!("\nCtrl-C ends it.");
}

/// Either of the two ways to end a process politely.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
}

impl Ends {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Calls of all kinds, without end.
fn plan(options: &Options) -> TrafficPlan {
    TrafficPlan {
        calls: u32::MAX,
        concurrent: options.calls,
        talk_ms: (TALK_MS_MIN, TALK_MS_MAX),
        ring_ms: RING_MS,
        pace_ms: PACE_MS,
        ..TrafficPlan::default()
    }
}

/// Says now and then how many calls there are.
async fn watch(site: &Site) {
    let mut beat = interval(REPORT_EVERY);
    loop {
        beat.tick().await;
        let (calls, over, packets) =
            (site.calls().len(), site.history().len(), site.packets_sent());
        tracing::info!(calls, over, packets, "the switch");
    }
}
