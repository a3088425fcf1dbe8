//! The control task: drives the controller with the socket, the media thread's notices, people's
//! requests and the clock, and carries out what it wants. It has no policy.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use recorder_core::call::pool::PhantomState;
use recorder_core::call::{
    CallView, Order, PauseDone, PauseOrder, PauseRequest, PauseWord, Refusal, Request, RingOrder,
    TriggerConfig,
};
use recorder_core::controller::{Action, Controller, GroupWord};
use recorder_core::dmcc::{Counters, LinkConfig, Notice};
use recorder_core::media::MediaNotice;
use storage_core::journal::Fact;
use storage_core::{Draft, MonoTime, RecordingId};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use crate::aes_link::{AesEndpoint, AesLink, SocketEvent};
use crate::clock::Clock;
use crate::media_thread::Protected;

/// Requests of people that may wait for the task.
const REQUEST_QUEUE: usize = 256;
/// How long an orderly end of the session may take.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// What the control task works with.
#[derive(Debug)]
pub struct ControlConfig {
    /// Where the AES is.
    pub endpoint: AesEndpoint,
    /// What is watched there.
    pub link: LinkConfig,
    /// What is recorded.
    pub trigger: TriggerConfig,
    /// What is known of the group before the first call is seen.
    pub group: Vec<GroupWord>,
    /// Recordings that a crash left open.
    pub open: Vec<Draft>,
}

/// What the control task tells: to logs, metrics, watchers.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is handed on at once and never kept")]
pub enum Told {
    /// Something of calls.
    Calls(Order),
    /// Something of the link.
    Link(Notice),
    /// No connection to the AES comes about; it is tried again.
    Unreachable(std::io::Error),
}

/// Where the task's results go. Called from within the task: must not block.
pub trait Outlet: Send + Sync + 'static {
    /// A fact for the capture journal.
    fn capture(&self, fact: Fact);

    /// How the media of a phantom is protected, in order with the facts; for the media thread only.
    fn protect(&self, protected: Protected);

    /// What is to become of a phantom's ring, in order with the facts; for the media thread only.
    fn ring(&self, order: RingOrder);

    /// A recording is paused or goes on, in order with the facts; for the media thread only.
    fn pause(&self, order: PauseOrder);

    /// Whether whoever captures is held up, or was a moment ago: then it may not have told yet what it hears.
    fn capture_stalls(&self) -> bool;

    /// Something to know.
    fn tell(&self, told: Told);
}

/// The state that others read without asking the task.
#[derive(Clone, Debug, Default)]
pub struct ControlView {
    /// How many calls are in progress.
    pub calls: usize,
    /// Events of calls that were not tracked because there were impossibly many.
    pub calls_refused: u64,
    /// Whether the session with the AES is up.
    pub aes_up: bool,
    /// Phantoms by state.
    pub phantoms: BTreeMap<PhantomState, usize>,
    /// Stations at which agents who are followed are logged in.
    pub agents: usize,
    /// Recordings in progress.
    pub recordings: usize,
    /// Pauses that are known, ended ones of late included.
    pub pauses: usize,
    /// Rings kept of calls that another node records.
    pub rings: usize,
    /// Phantoms in calls, and those of them that should hear something and do not.
    pub hearing: (usize, usize),
    /// The link's counters.
    pub counters: Counters,
}

#[derive(Debug)]
enum Command {
    Ask(Request, oneshot::Sender<Result<RecordingId, Refusal>>),
    Calls(oneshot::Sender<Vec<CallView>>),
    Pause(PauseRequest, oneshot::Sender<Result<PauseDone, Refusal>>),
    Pauses(oneshot::Sender<Vec<PauseWord>>),
    Group(GroupWord),
    Drain(oneshot::Sender<()>),
    Alive(oneshot::Sender<()>),
}

/// The running task.
#[derive(Debug)]
pub struct Control {
    commands: mpsc::Sender<Command>,
    view: Arc<RwLock<ControlView>>,
    news: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Control {
    /// Starts it. It ends when it has been drained.
    #[must_use]
    pub fn spawn(
        config: ControlConfig,
        clock: Clock,
        notices: mpsc::Receiver<MediaNotice>,
        outlet: Arc<dyn Outlet>,
    ) -> Self {
        let (commands, receiver) = mpsc::channel(REQUEST_QUEUE);
        let view = Arc::new(RwLock::new(ControlView::default()));
        let news = Arc::new(Notify::new());
        let task = Task {
            controller: Controller::new(config.link, config.trigger),
            socket: AesLink::new(config.endpoint),
            clock,
            outlet,
            view: view.clone(),
            news: news.clone(),
            asked: Vec::new(),
            next_request: 1,
        };
        let task = tokio::spawn(task.run(config.group, config.open, notices, receiver));
        Self { commands, view, news, task }
    }

    /// Asks for something; answered within three seconds. The request's number is given here.
    pub async fn ask(&self, request: Request) -> Result<RecordingId, Refusal> {
        let (sender, receiver) = oneshot::channel();
        if self.commands.send(Command::Ask(request, sender)).await.is_err() {
            return Err(Refusal::Unavailable);
        }
        receiver.await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// Pauses a recording or resumes it; ordered of the media thread when this returns.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn pause(&self, request: PauseRequest) -> Result<PauseDone, Refusal> {
        let (sender, receiver) = oneshot::channel();
        if self.commands.send(Command::Pause(request, sender)).await.is_err() {
            return Err(Refusal::Unavailable);
        }
        receiver.await.unwrap_or(Err(Refusal::Unavailable))
    }

    /// What is known of pauses; nothing if the task has ended.
    pub async fn pauses(&self) -> Vec<PauseWord> {
        let (sender, receiver) = oneshot::channel();
        if self.commands.send(Command::Pauses(sender)).await.is_err() {
            return Vec::new();
        }
        receiver.await.unwrap_or_default()
    }

    /// The calls in progress; none if the task has ended.
    pub async fn calls(&self) -> Vec<CallView> {
        let (sender, receiver) = oneshot::channel();
        if self.commands.send(Command::Calls(sender)).await.is_err() {
            return Vec::new();
        }
        receiver.await.unwrap_or_default()
    }

    /// Tells what the group has to say.
    pub async fn tell_group(&self, word: GroupWord) {
        // A task that has ended need not know any more.
        drop(self.commands.send(Command::Group(word)).await);
    }

    /// Ends all recordings and the session, then the task. A second call has nothing to do.
    pub async fn drain(&self) {
        let (sender, receiver) = oneshot::channel();
        if self.commands.send(Command::Drain(sender)).await.is_ok() {
            drop(receiver.await);
        }
    }

    /// The state of a moment ago, small enough to be written down after every input.
    #[must_use]
    pub fn view(&self) -> ControlView {
        self.view.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Waits until the state was written down since the last call of this. For one who waits.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Whether the task takes what it is told, and answers within so long.
    pub async fn answers(&self, within: Duration) -> bool {
        let (sender, receiver) = oneshot::channel();
        let asked = async {
            self.commands.send(Command::Alive(sender)).await.is_ok() && receiver.await.is_ok()
        };
        timeout(within, asked).await.unwrap_or(false)
    }

    /// Whether the task still works; false means that it has panicked or was drained.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

struct Task {
    controller: Controller,
    socket: AesLink,
    clock: Clock,
    outlet: Arc<dyn Outlet>,
    view: Arc<RwLock<ControlView>>,
    news: Arc<Notify>,
    asked: Vec<(u64, oneshot::Sender<Result<RecordingId, Refusal>>)>,
    next_request: u64,
}

impl Task {
    async fn run(
        mut self,
        group: Vec<GroupWord>,
        open: Vec<Draft>,
        mut notices: mpsc::Receiver<MediaNotice>,
        mut commands: mpsc::Receiver<Command>,
    ) {
        for word in group {
            self.controller.handle_group(self.clock.now(), word);
        }
        self.controller.start(self.clock.now(), open);
        loop {
            self.act();
            tokio::select! {
                event = self.socket.event() => self.take_socket(event),
                Some(notice) = notices.recv() => {
                    self.controller.handle_media(self.clock.now(), &notice);
                }
                command = commands.recv() => match command {
                    Some(Command::Ask(request, answer)) => self.take_request(request, answer),
                    Some(Command::Pause(request, sender)) => {
                        let done = self.controller.handle_pause(self.clock.now(), &request);
                        // In the media thread's queue before anybody hears of it.
                        self.act();
                        drop(sender.send(done));
                    }
                    Some(Command::Pauses(sender)) => {
                        drop(sender.send(self.controller.call_machine().pauses(self.clock.now())));
                    }
                    Some(Command::Calls(sender)) => {
                        // An asker that has gone away needs no answer.
                        let _ = sender.send(self.controller.calls());
                    }
                    Some(Command::Group(word)) => {
                        self.controller.handle_group(self.clock.now(), word);
                    }
                    Some(Command::Alive(sender)) => drop(sender.send(())),
                    Some(Command::Drain(done)) => {
                        self.end().await;
                        let _ = done.send(());
                        return;
                    }
                    None => return self.end().await,
                },
                () = wait_until(&self.clock, self.controller.poll_timeout()) => {
                    self.time_passes();
                }
            }
        }
    }

    /// What is due is done. If the media thread is held up, what it has not told is no sign of anything.
    fn time_passes(&mut self) {
        let now = self.clock.now();
        if self.outlet.capture_stalls() {
            self.controller.handle_media(now, &MediaNotice::Stalled);
        }
        self.controller.handle_timeout(now);
    }

    /// Carries out all that the controller wants.
    fn act(&mut self) {
        while let Some(action) = self.controller.poll_action() {
            match action {
                Action::Connect => self.socket.connect(),
                Action::Close => self.socket.close(),
                Action::Send(bytes) => {
                    if !self.socket.send(bytes) {
                        self.socket.close();
                        self.controller.handle_closed(self.clock.now(), jitter());
                    }
                }
                Action::Capture(fact) => self.outlet.capture(fact),
                Action::Protect { phantom, at, protection, stands } => {
                    self.outlet.protect(Protected { phantom, at, protection, stands });
                }
                Action::Ring(order) => self.outlet.ring(order),
                Action::Pause(order) => self.outlet.pause(order),
                Action::Tell(Order::Answer { request, result }) => self.answer(request, result),
                Action::Tell(order) => self.outlet.tell(Told::Calls(order)),
                Action::Link(notice) => self.outlet.tell(Told::Link(notice)),
            }
        }
        self.publish_view();
    }

    fn take_socket(&mut self, event: SocketEvent) {
        let now = self.clock.now();
        match event {
            SocketEvent::Connected => self.controller.handle_connected(now, jitter()),
            SocketEvent::ConnectFailed(error) => {
                self.outlet.tell(Told::Unreachable(error));
                self.controller.handle_connect_failed(now, jitter());
            }
            SocketEvent::Bytes(bytes) => self.controller.handle_bytes(now, &bytes),
            SocketEvent::Closed(error) => {
                tracing::warn!(%error, "the connection to the AES is gone");
                self.controller.handle_closed(now, jitter());
            }
        }
    }

    fn take_request(
        &mut self,
        mut request: Request,
        answer: oneshot::Sender<Result<RecordingId, Refusal>>,
    ) {
        request.id = self.next_request;
        self.next_request += 1;
        self.asked.push((request.id, answer));
        self.controller.handle_request(self.clock.now(), &request);
    }

    fn answer(&mut self, request: u64, result: Result<RecordingId, Refusal>) {
        if let Some(index) = self.asked.iter().position(|(id, _)| *id == request) {
            let (_, asker) = self.asked.swap_remove(index);
            // An asker that has gone away needs no answer.
            let _ = asker.send(result);
        }
    }

    /// Ends all recordings and the session.
    async fn end(&mut self) {
        self.end_session().await;
        self.controller.finish(self.clock.now());
        self.act();
    }

    /// Takes leave of the AES, within a bound.
    async fn end_session(&mut self) {
        let deadline = Instant::now() + STOP_LIMIT;
        self.controller.drain(self.clock.now());
        self.act();
        self.controller.stop(self.clock.now());
        loop {
            self.act();
            if self.controller.link().is_stopped() {
                return;
            }
            tokio::select! {
                event = self.socket.event() => self.take_socket(event),
                () = wait_until(&self.clock, self.controller.poll_timeout()) => {
                    self.time_passes();
                }
                () = sleep_until(deadline) => {
                    tracing::warn!("the AES did not confirm the end of the session in time");
                    return;
                }
            }
        }
    }

    fn publish_view(&self) {
        let view = ControlView {
            calls: self.controller.call_machine().calls_active(),
            calls_refused: self.controller.call_machine().calls_refused(),
            aes_up: self.controller.link().is_up(),
            phantoms: self.controller.call_machine().phantoms(self.clock.now()),
            agents: self.controller.link().agents_present(),
            recordings: self.controller.call_machine().recordings_active(),
            pauses: self.controller.call_machine().pauses_known(),
            rings: self.controller.call_machine().rings_active(),
            hearing: self.controller.call_machine().hearing(self.clock.now()),
            counters: self.controller.link().counters().clone(),
        };
        *self.view.write().unwrap_or_else(std::sync::PoisonError::into_inner) = view;
        self.news.notify_one();
    }
}

/// A random number for the cores' back-off.
fn jitter() -> u32 {
    // Without entropy the back-off is merely not spread.
    getrandom::u32().unwrap_or(0)
}

async fn wait_until(clock: &Clock, deadline: Option<MonoTime>) {
    match deadline {
        None => std::future::pending().await,
        Some(deadline) => {
            let span = deadline.since(clock.now().mono);
            tokio::time::sleep(span).await;
        }
    }
}
