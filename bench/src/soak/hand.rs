//! The hand that breaks and repairs: takes faults as they are drawn, sees to it that one recorder can
//! be relied upon (but for the moments in which both are killed on purpose), and writes down what it
//! did and when a recorder could record nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use astlogger::demo::{GroupSite, Way};
use storage_core::NodeId;
use tokio::process::Command;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::excuse::Outage;
use super::plan::{Fault, RECORDERS, Rng, Strike, WITNESS, draw};

/// How often it looks whether a recorder is well again, and a process has ended.
const LOOK: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_secs(1);
/// A node that is told to end seals first.
const END_LIMIT: Duration = Duration::from_secs(40);
const TAKEOVER_LIMIT: Duration = Duration::from_secs(15);
/// No recorder is missed for longer.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// More than a recorder asks in any time.
const ALL: u32 = u32::MAX;

/// What is to be done at some time.
#[derive(Clone, Debug)]
enum Due {
    Next(Strike),
    End(u64, Fault, Option<String>),
    /// The second of two recorders.
    KillToo(NodeId, Duration),
    Start(u64, NodeId),
}

/// What is wrong with a recorder.
#[derive(Clone, Copy, Debug)]
struct Wrong {
    number: u64,
    since: SystemTime,
    /// It records nothing.
    deaf: bool,
    /// Since when it is not broken any more and may come back.
    mending: Option<Instant>,
}

/// The hand.
pub struct Hand<'a> {
    group: &'a mut GroupSite,
    binary: PathBuf,
    folder: PathBuf,
    log: File,
    begun: Instant,
    rng: Rng,
    agenda: BTreeMap<(Instant, u64), Due>,
    numbers: u64,
    wrong: BTreeMap<NodeId, Wrong>,
    /// When which recorder could record nothing.
    pub outages: Vec<Outage>,
    /// How many faults there were, by their names.
    pub struck: BTreeMap<&'static str, usize>,
}

impl<'a> Hand<'a> {
    /// A hand that has done nothing yet; its log goes into `folder`.
    ///
    /// # Errors
    /// If the log cannot be written.
    pub fn new(group: &'a mut GroupSite, binary: &Path, folder: &Path, seed: u64) -> Result<Self> {
        Ok(Self {
            group,
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            log: File::create(folder.join("faults.log"))?,
            begun: Instant::now(),
            rng: Rng::new(seed),
            agenda: BTreeMap::new(),
            numbers: 0,
            wrong: BTreeMap::new(),
            outages: Vec::new(),
            struck: BTreeMap::new(),
        })
    }

    /// Breaks and repairs for so long, then repairs everything and waits until all are well.
    ///
    /// # Errors
    /// If a process does not start, end, or become well as it should.
    pub async fn work(&mut self, length: Duration) -> Result<()> {
        self.begun = Instant::now();
        let strike = draw(&mut self.rng);
        self.plan(self.begun + strike.after, Due::Next(strike));
        let until = self.begun + length;
        while Instant::now() < until || !self.agenda.is_empty() {
            let next = self.agenda.first_key_value().map(|((at, _), _)| *at);
            let look = Instant::now() + LOOK;
            sleep_until(next.map_or(look, |next| next.min(look))).await;
            while let Some(entry) = self.agenda.first_entry()
                && entry.key().0 <= Instant::now()
            {
                let due = entry.remove();
                if matches!(due, Due::Next(_)) && Instant::now() >= until {
                    continue;
                }
                self.take(due).await?;
            }
            self.look().await?;
        }
        while !self.wrong.is_empty() {
            sleep(LOOK).await;
            self.look().await?;
        }
        self.say("everything is repaired");
        Ok(())
    }

    fn plan(&mut self, at: Instant, due: Due) {
        self.numbers += 1;
        self.agenda.insert((at, self.numbers), due);
    }

    fn say(&mut self, text: &str) {
        let line = format!("{:>7.2} s  {text}", self.begun.elapsed().as_secs_f32());
        // The log is for people; the run goes on without.
        drop(writeln!(self.log, "{line}"));
    }

    async fn take(&mut self, due: Due) -> Result<()> {
        match due {
            Due::Next(strike) => {
                if self.may(strike.fault) {
                    self.begin(strike).await?;
                    let next = draw(&mut self.rng);
                    self.plan(Instant::now() + next.after, Due::Next(next));
                } else {
                    // Another fault comes instead, now.
                    let next = draw(&mut self.rng);
                    self.plan(Instant::now(), Due::Next(next));
                }
                Ok(())
            }
            Due::End(number, fault, phantom) => self.end(number, fault, phantom).await,
            Due::KillToo(node, lasts) => {
                self.say(&format!("kill -9 of node {node}, too"));
                let number = self.disable(node, true);
                self.kill(node).await?;
                self.plan(Instant::now() + lasts, Due::Start(number, node));
                Ok(())
            }
            Due::Start(number, node) => self.start(number, node),
        }
    }

    /// Whether it leaves a recorder that can be relied upon, and can be done.
    fn may(&self, fault: Fault) -> bool {
        let runs = |node: &NodeId| self.group.members[node].node.runs();
        match fault {
            Fault::KillBoth(_) => RECORDERS.iter().all(runs),
            Fault::Kill(WITNESS) | Fault::Hang(WITNESS) => {
                runs(&WITNESS) && !self.wrong.contains_key(&WITNESS)
            }
            _ => fault.disables().is_none_or(|_| self.wrong.keys().all(|node| *node == WITNESS)),
        }
    }

    /// Marks a node as broken; what was wrong with it before is over, its outage goes on.
    fn disable(&mut self, node: NodeId, deaf: bool) -> u64 {
        self.numbers += 1;
        let number = self.numbers;
        let before = self.wrong.get(&node).filter(|before| before.deaf);
        let since = before.map_or_else(SystemTime::now, |before| before.since);
        let deaf = deaf || before.is_some();
        self.wrong.insert(node, Wrong { number, since, deaf, mending: None });
        number
    }

    async fn begin(&mut self, strike: Strike) -> Result<()> {
        let Strike { fault, lasts, .. } = strike;
        self.say(&format!("{fault:?} for {} ms", lasts.as_millis()));
        *self.struck.entry(name(fault)).or_default() += 1;
        let mut number = 0;
        let mut phantom = None;
        match fault {
            Fault::Kill(WITNESS) | Fault::Hang(WITNESS) => number = self.disable(WITNESS, false),
            _ => {
                if let Some(node) = fault.disables() {
                    number = self.disable(node, fault.stops_recording());
                }
            }
        }
        match fault {
            Fault::Kill(node) => self.kill(node).await?,
            Fault::KillBoth(apart) => return self.kill_both(apart, lasts).await,
            Fault::Terminate(node) => self.group.member(node)?.node.terminate()?,
            Fault::Hang(node) => self.group.member(node)?.node.pause()?,
            Fault::AesCut(node) => self.group.site.faults().cut_aes(self.aes(node)?, lasts),
            Fault::JoinsRefused(node) => {
                self.group.site.faults().refuse_joins(self.aes(node)?, ALL);
            }
            Fault::BusiedOut => phantom = self.busy_out(),
            Fault::Isolated(node, way) => self.group.isolate(node, way),
            Fault::Parted(one, two, way) => self.group.part(one, two, way),
            Fault::Takeover => return self.take_over().await,
        }
        self.plan(Instant::now() + lasts, Due::End(number, fault, phantom));
        Ok(())
    }

    async fn end(&mut self, number: u64, fault: Fault, phantom: Option<String>) -> Result<()> {
        match fault {
            Fault::Kill(node) | Fault::Terminate(node) => return self.start(number, node),
            Fault::Hang(node) => {
                // It may have been killed meanwhile.
                if self.wrong.get(&node).is_some_and(|wrong| wrong.number == number) {
                    self.group.member(node)?.node.resume()?;
                }
            }
            Fault::JoinsRefused(node) => {
                self.group.site.faults().refuse_joins(self.aes(node)?, 0);
            }
            Fault::BusiedOut => {
                if let Some(phantom) = phantom {
                    self.group.site.faults().release_busy_out(&phantom);
                }
            }
            Fault::Isolated(node, _) => self.group.isolate(node, Way::Open),
            Fault::Parted(one, two, _) => self.group.part(one, two, Way::Open),
            Fault::AesCut(_) | Fault::KillBoth(_) | Fault::Takeover => {}
        }
        self.say(&format!("end of {fault:?}"));
        for wrong in self.wrong.values_mut().filter(|wrong| wrong.number == number) {
            wrong.mending = Some(Instant::now());
        }
        Ok(())
    }

    /// Starts a node that was ended, as soon as it has.
    fn start(&mut self, number: u64, node: NodeId) -> Result<()> {
        let Some(wrong) = self.wrong.get_mut(&node).filter(|wrong| wrong.number == number) else {
            return Ok(());
        };
        let process = &mut self.group.members.get_mut(&node).context("a member")?.node;
        if !process.ended()? {
            let since = wrong.since.elapsed().unwrap_or_default();
            ensure!(since < END_LIMIT, "node {node} does not end");
            self.plan(Instant::now() + LOOK, Due::Start(number, node));
            return Ok(());
        }
        process.start()?;
        wrong.mending = Some(Instant::now());
        self.say(&format!("start of node {node}"));
        Ok(())
    }

    async fn kill(&mut self, node: NodeId) -> Result<()> {
        let process = &mut self.group.member(node)?.node;
        if process.runs() { process.kill().await } else { Ok(()) }
    }

    async fn kill_both(&mut self, apart: Duration, lasts: Duration) -> Result<()> {
        let first = self.rng.between(0, 1) as usize;
        let (first, second) = (RECORDERS[first], RECORDERS[1 - first]);
        let number = self.disable(first, true);
        self.kill(first).await?;
        let now = Instant::now();
        self.plan(now + lasts, Due::Start(number, first));
        self.plan(now + apart, Due::KillToo(second, lasts));
        Ok(())
    }

    fn aes(&self, node: NodeId) -> Result<usize> {
        self.group.members[&node].aes.context("a recorder has an AES")
    }

    /// A phantom that is in a call.
    fn busy_out(&mut self) -> Option<String> {
        let calls = self.group.site.calls();
        let phantoms: Vec<_> = calls.iter().flat_map(|call| call.recorders()).collect();
        if phantoms.is_empty() {
            return None;
        }
        let phantom = phantoms[self.rng.between(0, phantoms.len() as u64 - 1) as usize].to_owned();
        self.group.site.faults().busy_out(&phantom);
        self.say(&format!("phantom {phantom}"));
        Some(phantom)
    }

    async fn take_over(&mut self) -> Result<()> {
        let seen = self.group.eyes().look().await;
        let leads = |node: NodeId| seen.iter().any(|sight| sight.node == node && sight.leads());
        let Some(node) = RECORDERS.into_iter().find(|node| !leads(*node)) else { return Ok(()) };
        let console = self.folder.join(format!("node{node}")).join("console");
        let mut told = Command::new(&self.binary);
        told.args(["console", "--address"]).arg(console).arg("takeover");
        told.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let mut told = told.spawn()?;
        // It is refused where it cannot be done, which is as good.
        tokio::spawn(async move { timeout(TAKEOVER_LIMIT, told.wait()).await });
        self.say(&format!("takeover at node {node}"));
        Ok(())
    }

    /// Notes which nodes are well again.
    async fn look(&mut self) -> Result<()> {
        let mending: Vec<_> = self
            .wrong
            .iter()
            .filter_map(|(node, wrong)| Some((*node, *wrong, wrong.mending?)))
            .collect();
        for (node, wrong, since) in mending {
            let process = &self.group.members[&node].node;
            let ready = timeout(ANSWER, process.get("/readyz")).await;
            if matches!(ready, Ok(Ok((200, _)))) {
                self.wrong.remove(&node);
                let until = SystemTime::now();
                if wrong.deaf {
                    self.outages.push(Outage { node, since: wrong.since, until });
                }
                self.say(&format!("node {node} is well, {} ms later", since.elapsed().as_millis()));
            } else {
                ensure!(since.elapsed() < READY_LIMIT, "node {node} is not ready again: {ready:?}");
            }
        }
        Ok(())
    }
}

const fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Kill(WITNESS) => "witness killed",
        Fault::Kill(_) => "recorder killed",
        Fault::KillBoth(_) => "both recorders killed",
        Fault::Terminate(_) => "recorder ended and restarted",
        Fault::Hang(_) => "member hangs",
        Fault::AesCut(_) => "AES link cut",
        Fault::JoinsRefused(_) => "joins refused",
        Fault::BusiedOut => "phantom busied out",
        Fault::Isolated(_, Way::Cut) | Fault::Parted(_, _, Way::Cut) => "member links cut",
        Fault::Isolated(..) | Fault::Parted(..) => "member links blackholed",
        Fault::Takeover => "takeover asked for",
    }
}
