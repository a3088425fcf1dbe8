//! Calls on their way to somebody who listens through one WebSocket: 20 ms a frame, each as it comes. A client that
//! does not keep up loses the oldest frames, and neither a fetch nor anybody else waits for him. It decides when
//! listening ends: with the call, with the socket, when he says so, and when the call leaves his team.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures_util::StreamExt;
use recorder_core::media::playout::{Frame, to_bytes};
use serde_json::json;
use storage_core::{Scope, Ucid};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Web;
use super::backend::{Heard, Hearing};
use super::board::{Board, Place};
use super::fetch::NUMBER_BYTES;
use super::requests::Node;
use super::stats::Counted;

/// Frames of one call that wait for a client: 200 ms.
const FRAMES_MAX: usize = 10;
/// How often it is looked whether a member of a team may still hear a call.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// A call that somebody is going to listen to.
pub struct Listen {
    /// Its place on the socket.
    pub place: Place,
    /// Which call.
    pub ucid: Ucid,
    /// Whose calls he may hear.
    pub scope: Scope,
    /// What is heard of it.
    pub hearing: Hearing,
}

/// What the sender is to send next.
pub enum Step {
    /// A binary frame.
    Frame(Bytes),
    /// An event.
    Event(String),
}

/// The calls that are listened to on one socket, owned by its sender: when it goes, they end.
pub struct Ears {
    web: Arc<Web>,
    board: Arc<Board>,
    queue: Arc<Queue>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<(u32, Step)>>,
    filled: Notify,
}

impl Queue {
    /// Puts a frame; true if the oldest of its call had to give way.
    fn frame(&self, number: u32, frame: &Frame) -> bool {
        let is_its = |(of, step): &(u32, Step)| *of == number && matches!(step, Step::Frame(_));
        let mut waiting = self.lock();
        let full = waiting.iter().filter(|step| is_its(step)).count() >= FRAMES_MAX;
        if full && let Some(oldest) = waiting.iter().position(is_its) {
            waiting.remove(oldest);
        }
        let mut bytes = Vec::with_capacity(NUMBER_BYTES + size_of::<Frame>());
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&to_bytes(frame));
        waiting.push_back((number, Step::Frame(bytes.into())));
        drop(waiting);
        self.filled.notify_one();
        full
    }

    fn event(&self, number: u32, text: String) {
        self.lock().push_back((number, Step::Event(text)));
        self.filled.notify_one();
    }

    fn forget(&self, number: u32) {
        self.lock().retain(|(of, _)| *of != number);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u32, Step)>> {
        // Nothing between two writes here can panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ears {
    /// None.
    pub fn new(web: Arc<Web>, board: Arc<Board>) -> Self {
        Self { web, board, queue: Arc::default(), tasks: JoinSet::new() }
    }

    /// Begins to listen.
    pub fn start(&mut self, listen: Listen) {
        // Those that are over are put away.
        while self.tasks.try_join_next().is_some() {}
        let (web, queue) = (Arc::clone(&self.web), Arc::clone(&self.queue));
        self.tasks.spawn(async move { pump(&web, &queue, listen).await });
    }

    /// The next step; never ready while nothing is listened to. For one waiter; may be dropped at any time.
    pub async fn next(&self) -> Step {
        loop {
            // In a statement of its own, so that the lock is not held while it waits.
            let next = self.queue.lock().pop_front();
            match next {
                Some((number, _)) if self.board.is_ended(number) => {}
                Some((_, step)) => return step,
                None => self.queue.filled.notified().await,
            }
        }
    }
}

async fn pump(web: &Web, queue: &Queue, listen: Listen) {
    let Listen { place, ucid, scope, mut hearing } = listen;
    let _counted = Counted::new(&web.stats.listeners);
    let number = place.number();
    let mut out_of_sight = pin!(out_of_sight(&web.node, &scope, &ucid));
    let (mut frames, mut dropped) = (0_u64, 0_u64);
    loop {
        let heard = tokio::select! {
            () = place.ended() => return queue.forget(number),
            () = &mut out_of_sight => break,
            heard = hearing.sound.next() => heard,
        };
        match heard {
            Some(Heard::Frame(frame)) => {
                frames += 1;
                if queue.frame(number, &frame) {
                    dropped += 1;
                    web.stats.listen_frames_dropped.inc();
                }
            }
            Some(Heard::Moved(node)) => {
                let event = json!({ "eventtype": "listenmoved", "listen": number, "node": node });
                queue.event(number, event.to_string());
            }
            None => break,
        }
    }
    let event = json!({
        "eventtype": "listencomplete", "listen": number, "frames": frames, "dropped": dropped,
    });
    queue.event(number, event.to_string());
}

/// Ready when the call is none of the team's any more.
async fn out_of_sight(node: &Node, scope: &Scope, ucid: &Ucid) {
    if scope.is_all() {
        std::future::pending::<()>().await;
    }
    loop {
        sleep(LOOK_EVERY).await;
        if !node.may_hear(scope, ucid).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(queue: &Queue) -> Vec<(u32, i16)> {
        let first = |(number, step): &(u32, Step)| match step {
            Step::Frame(bytes) => {
                assert_eq!(bytes[..4], number.to_be_bytes());
                assert_eq!(bytes.len(), 4 + 320);
                (*number, i16::from_le_bytes([bytes[4], bytes[5]]))
            }
            Step::Event(_) => (*number, -1),
        };
        queue.lock().iter().map(first).collect()
    }

    #[test]
    fn the_oldest_frame_of_the_same_call_gives_way_and_no_event_does() {
        let queue = Queue::default();
        queue.event(1, String::new());
        assert!(!queue.frame(2, &[7; 160]));
        for sample in 0..12 {
            assert_eq!(queue.frame(1, &[sample; 160]), sample >= 10, "{sample}");
        }
        let expected: Vec<_> =
            [(1, -1), (2, 7)].into_iter().chain((2..12).map(|s| (1, s))).collect();
        assert_eq!(numbers(&queue), expected);
        queue.forget(1);
        assert_eq!(numbers(&queue), [(2, 7)]);
    }
}
