//! `astlogger simulate`: the simulated switch and its AES servers, with callers who keep calling,
//! until Ctrl-C. For trying AstLogger without an Avaya.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use simulator::{CallRef, Site, SiteConfig, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Exit, Failure};

/// Options of `simulate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  astlogger simulate --config systemd/simulator.example.toml --every 5 --lasting 30\n\n\
    It runs until Ctrl-C. `astlogger run --config systemd/single.toml` records from it."
)]
pub(super) struct Options {
    /// Description of the site
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Seconds from one caller to the next; 0: nobody calls
    #[arg(long, value_name = "T", default_value_t = 10)]
    every: u64,
    /// Seconds until a caller hangs up
    #[arg(long, value_name = "T", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    lasting: u64,
}

pub(super) async fn execute(options: &Options) -> Result<Exit, Failure> {
    let config = read(&options.config).map_err(|error| Failure::new(Exit::Config, error))?;
    let mut ends = Ends::new().context("cannot wait for signals")?;
    let site = Site::start(config).await.map_err(|error| match &error {
        StartError::Listen { .. } | StartError::Media(_) => Failure::new(Exit::Unavailable, error),
        StartError::Config(_) | StartError::Tls(_) => Failure::new(Exit::Config, error),
    })?;
    introduce(&site);
    let mut callers = Callers::new(options);
    tokio::select! {
        () = ends.wait() => {}
        () = callers.keep_calling(&site) => {}
    }
    site.stop().await;
    Ok(Exit::Done)
}

fn read(file: &PathBuf) -> anyhow::Result<SiteConfig> {
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

/// People outside who call in, one after another.
struct Callers {
    every: Duration,
    lasting: Duration,
    calls: VecDeque<(Instant, CallRef)>,
    count: u32,
}

impl Callers {
    fn new(options: &Options) -> Self {
        Self {
            every: Duration::from_secs(options.every),
            lasting: Duration::from_secs(options.lasting),
            calls: VecDeque::new(),
            count: 0,
        }
    }

    async fn keep_calling(&mut self, site: &Site) {
        let Some(vdn) = site.config().vdns.first().map(|vdn| vdn.extension.clone()) else {
            return std::future::pending().await;
        };
        if self.every.is_zero() {
            return std::future::pending().await;
        }
        let mut beat = interval(self.every.min(Duration::from_secs(1)));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = Instant::now();
        loop {
            let now = beat.tick().await;
            self.hang_up_due(site, now);
            if now >= next {
                next = now + self.every;
                self.call(site, &vdn, now);
            }
        }
    }

    fn hang_up_due(&mut self, site: &Site, now: Instant) {
        while let Some((_, call)) = self.calls.pop_front_if(|(until, _)| *until <= now) {
            if let Err(refusal) = site.switch().hangup_outside(call) {
                tracing::info!(?refusal, "the call was over already");
            }
        }
    }

    /// The trunks bound how many calls there are: with none free, nobody gets through.
    fn call(&mut self, site: &Site, vdn: &str, now: Instant) {
        let caller = format!("555123{:04}", self.count % 10_000);
        self.count += 1;
        match site.switch().inbound_call(&caller, vdn) {
            Ok(call) => {
                self.calls.push_back((now + self.lasting, call));
                tracing::info!(calls = self.calls.len(), "somebody calls");
            }
            Err(refusal) => tracing::warn!(?refusal, "a caller does not get through"),
        }
    }
}
