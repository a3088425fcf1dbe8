//! A running site: one world behind one lock, sockets for each AES, the sending thread, a timer.
//! Everything that changes the world goes through `Inner::act`, which also carries out what follows.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::aes::{ConnId, Output};
use crate::clock::Clock;
use crate::config::{ConfigError, SiteConfig};
use crate::control;
use crate::faults::FaultHandle;
use crate::handle::SwitchHandle;
use crate::link::{self, Handler, Link};
use crate::media::{Sender, media_socket};
use crate::time::Time;
use crate::tls::{self, TlsError};
use crate::view::{CallView, FinishedCall};
use crate::wire::Frame;
use crate::wire::read::parse;
use crate::world::{Effect, World};

/// Longest wait of the timer, should nothing be due.
const IDLE_WAIT: Duration = Duration::from_secs(1);

/// Why a site cannot be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port cannot be opened.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No socket for media.
    #[error("no socket for RTP: {0}")]
    Media(io::Error),
    /// The certificate.
    #[error("TLS of the AES: {0}")]
    Tls(#[from] TlsError),
}

/// A running site. Cheap to clone; all clones are the same site. It stops when `stop` is called or
/// the last clone goes.
#[derive(Clone)]
pub struct Site {
    inner: Arc<Inner>,
    tasks: Arc<Tasks>,
    control: Option<SocketAddr>,
}

/// What all handles share.
pub(crate) struct Inner {
    world: Mutex<World>,
    pub(crate) clock: Clock,
    pub(crate) sender: Sender,
    pub(crate) links: Vec<Arc<Link>>,
    wake: Notify,
    changed: Notify,
    ca_pem: String,
    pub(crate) config: SiteConfig,
}

struct Tasks {
    running: Mutex<Vec<JoinHandle<()>>>,
    links: Vec<Arc<Link>>,
}

impl Tasks {
    fn take(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in self.take() {
            task.abort();
        }
        for link in &self.links {
            link.shut();
        }
    }
}

impl Site {
    /// Opens all ports and starts everything.
    ///
    /// # Errors
    /// See `StartError`.
    pub async fn start(config: SiteConfig) -> Result<Self, StartError> {
        config.check()?;
        let clock = Clock::start();
        let tls = tls::prepare(config.tls.as_ref())?;
        let mut sockets: Vec<UdpSocket> = Vec::new();
        let mut media_addresses = Vec::new();
        for aes in &config.aes {
            let socket = media_socket(aes.address).map_err(StartError::Media)?;
            media_addresses.push(socket.local_addr().map_err(StartError::Media)?);
            sockets.push(socket);
        }
        let world = World::new(&config, clock.unix_ms_at_zero(), &media_addresses)?;
        let seed = config.seed.unwrap_or_else(|| clock.unix_ms_at_zero());
        let sender = Sender::start(clock, sockets, seed).map_err(StartError::Media)?;
        let mut listeners = Vec::new();
        let mut links = Vec::new();
        for (index, aes) in config.aes.iter().enumerate() {
            let (listener, address) = listen(SocketAddr::new(aes.address, aes.port)).await?;
            links.push(Link::new(index, address));
            listeners.push((listener, aes.tls.then(|| tls.acceptor.clone())));
        }
        let inner = Arc::new(Inner {
            world: Mutex::new(world),
            clock,
            sender,
            links,
            wake: Notify::new(),
            changed: Notify::new(),
            ca_pem: tls.ca_pem,
            config,
        });
        let mut tasks = vec![tokio::spawn(keep_time(Arc::clone(&inner)))];
        for (index, (listener, acceptor)) in listeners.into_iter().enumerate() {
            let handler: Arc<dyn Handler> = Arc::new(Door(Arc::downgrade(&inner)));
            let link = Arc::clone(&inner.links[index]);
            tasks.push(tokio::spawn(link::accept(link, listener, acceptor, handler)));
        }
        let links = inner.links.clone();
        let site = Self {
            inner,
            tasks: Arc::new(Tasks { running: Mutex::new(tasks), links }),
            control: None,
        };
        site.open_control().await
    }

    /// Where the DMCC port of an AES is.
    ///
    /// # Panics
    /// If there is no AES of that number.
    #[must_use]
    pub fn aes_address(&self, aes: usize) -> SocketAddr {
        self.inner.links[aes].address()
    }

    /// Opens the control port, if one is configured. It works on a site of its own that shares
    /// everything but the list of tasks, so that it does not keep the site alive.
    async fn open_control(mut self) -> Result<Self, StartError> {
        let Some(port) = self.inner.config.control_port else { return Ok(self) };
        let (listener, address) = listen(SocketAddr::from(([127, 0, 0, 1], port))).await?;
        let none = Tasks { running: Mutex::default(), links: Vec::new() };
        let site = Self { inner: Arc::clone(&self.inner), tasks: Arc::new(none), control: None };
        let task = tokio::spawn(control::serve(listener, site));
        self.tasks.running.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        self.control = Some(address);
        Ok(self)
    }

    /// Where the control port is, if there is one.
    #[must_use]
    pub const fn control_address(&self) -> Option<SocketAddr> {
        self.control
    }

    /// What a client should trust to reach an AES over TLS, PEM. The same for all of them.
    #[must_use]
    pub fn tls_ca_pem(&self, _aes: usize) -> &str {
        &self.inner.ca_pem
    }

    /// The configuration it was started with.
    #[must_use]
    pub fn config(&self) -> &SiteConfig {
        &self.inner.config
    }

    /// The people and telephones.
    #[must_use]
    pub fn switch(&self) -> SwitchHandle {
        SwitchHandle::new(Arc::clone(&self.inner))
    }

    /// Faults on request.
    #[must_use]
    pub fn faults(&self) -> FaultHandle {
        FaultHandle::new(Arc::clone(&self.inner))
    }

    /// Calls in progress, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<CallView> {
        self.inner.read(|world, now| {
            let mut calls: Vec<_> = world
                .switch
                .calls()
                .values()
                .map(|call| CallView::new(call, now, &self.inner.clock))
                .collect();
            calls.sort_by_key(|call| call.serial);
            calls
        })
    }

    /// Calls that are over, oldest first, with what was sent of them.
    #[must_use]
    pub fn history(&self) -> Vec<FinishedCall> {
        let records = self.inner.sender.table().records();
        self.inner.read(|world, _| {
            crate::view::history(world.switch.finished(), &records, &self.inner.clock)
        })
    }

    /// All records of what was sent, running streams too.
    #[must_use]
    pub fn streams(&self) -> Vec<crate::media::StreamRecord> {
        self.inner.sender.table().records()
    }

    /// Phantoms in calls without any person: the recorder has forgotten them.
    #[must_use]
    pub fn stuck_phantoms(&self) -> Vec<String> {
        self.inner.read(|world, _| {
            world.switch.stuck_phantoms().iter().map(ToString::to_string).collect()
        })
    }

    /// The frames that were sent since they are kept, whole, for who looks for traces of them.
    #[must_use]
    pub fn sent(&self) -> Vec<crate::media::SentFrame> {
        self.inner.sender.table().kept()
    }

    /// All keys and salts of media that were ever given out, for who looks for traces of them.
    #[must_use]
    pub fn media_secrets(&self) -> Vec<Vec<u8>> {
        self.inner.read(|world, _| world.media_secrets())
    }

    /// Times that a person's conference or transfer failed only because a recorder was in the call.
    #[must_use]
    pub fn party_limit_refusals(&self) -> u64 {
        self.inner.read(|world, _| world.switch.party_limit_refusals())
    }

    /// How many terminals are registered at an extension.
    #[must_use]
    pub fn registrations(&self, extension: &str) -> usize {
        self.inner.read(|world, _| world.switch.registrations_of(&extension.into()).len())
    }

    /// Extensions that have a registration, with how many.
    #[must_use]
    pub fn registered(&self) -> std::collections::BTreeMap<String, usize> {
        self.inner.read(|world, _| {
            let mut all = std::collections::BTreeMap::new();
            for (extension, _) in world.switch.registrations().keys() {
                *all.entry(extension.to_string()).or_default() += 1;
            }
            all
        })
    }

    /// How many wrong security codes an extension has seen.
    #[must_use]
    pub fn wrong_passwords(&self, extension: &str) -> u32 {
        self.inner.read(|world, _| world.switch.wrong_passwords(&extension.into()))
    }

    /// Counters of an AES, among them the most registration requests that were open at once.
    #[must_use]
    pub fn aes_counters(&self, aes: usize) -> crate::aes::AesCounters {
        self.inner
            .read(|world, _| world.aes.get(aes).map(|aes| aes.counters.clone()).unwrap_or_default())
    }

    /// Sockets open at an AES.
    #[must_use]
    pub fn clients(&self, aes: usize) -> usize {
        self.inner.links.get(aes).map_or(0, |link| link.clients())
    }

    /// Packets made so far.
    #[must_use]
    pub fn packets_sent(&self) -> u64 {
        self.inner.sender.table().packets
    }

    /// Ends everything: ports, sockets, media. Handles that remain do nothing useful any more.
    pub async fn stop(&self) {
        for task in self.tasks.take() {
            task.abort();
            // Cancelled is what it should be.
            let _ = task.await;
        }
        for link in &self.inner.links {
            link.shut();
        }
        self.inner.sender.halt();
    }
}

impl Inner {
    /// Changes the world and carries out what follows, in order.
    pub(crate) fn act<R>(&self, change: impl FnOnce(&mut World, Time) -> R) -> R {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let result = change(&mut world, now);
        world.settle(now);
        let effects = world.take_effects();
        if !effects.is_empty() {
            self.carry_out(now, effects);
        }
        drop(world);
        self.wake.notify_one();
        self.changed.notify_waiters();
        result
    }

    /// Waits until the world has changed. To be made before looking at it.
    pub(crate) fn change(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Looks at the world.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&World, Time) -> R) -> R {
        let world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        look(&world, self.clock.now())
    }

    fn carry_out(&self, now: Time, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Media(change) => self.sender.table().apply(now, change),
                Effect::Wire { aes, output } => {
                    let Some(link) = self.links.get(aes) else { continue };
                    match output {
                        Output::Send { conn, invoke, message } => {
                            link.send(conn, invoke, message);
                        }
                        Output::Close { conn } => link.close(conn),
                    }
                }
            }
        }
    }
}

/// What the sockets see of the site. Weak, so that open sockets do not keep a site alive.
struct Door(std::sync::Weak<Inner>);

impl Handler for Door {
    fn opened(&self, aes: usize, conn: ConnId) {
        if let Some(inner) = self.0.upgrade() {
            inner.act(|world, _| world.connected(aes, conn));
        }
    }

    fn message(&self, aes: usize, conn: ConnId, frame: &Frame) {
        if let Some(inner) = self.0.upgrade() {
            // Reading takes longer than acting, so it is done before the world is locked.
            let request = parse(&frame.body).ok();
            inner.act(|world, now| {
                world.message(now, aes, conn, frame.invoke, request.as_ref());
            });
        }
    }

    fn closed(&self, aes: usize, conn: ConnId) {
        if let Some(inner) = self.0.upgrade() {
            inner.act(|world, now| world.disconnected(now, aes, conn));
        }
    }
}

/// Calls the world when something is due.
async fn keep_time(inner: Arc<Inner>) {
    loop {
        let (next, now) = inner.read(|world, now| (world.next_time(), now));
        let wait = next.map_or(IDLE_WAIT, |next| next.since(now).min(IDLE_WAIT));
        if wait.is_zero() {
            inner.act(|world, now| world.on_time(now));
            // `act` wakes this task; that is no reason to look again at once.
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = inner.wake.notified() => {}
        }
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
