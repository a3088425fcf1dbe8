//! Faults on request: what a test or the demonstration breaks, and for how long.

use std::sync::Arc;
use std::time::Duration;

use crate::aes::{Aes, AesFaults};
use crate::config::Switches;
use crate::link::{Link, WireFaults};
use crate::media::{Intrusion, RtpFaults};
use crate::server::Inner;
use crate::switch::{Extension, Switch};
use crate::time::Time;
use crate::tone::{Part, Sine};
use crate::world::World;

/// Breaks things. Every method acts at once.
#[derive(Clone)]
pub struct FaultHandle {
    inner: Arc<Inner>,
}

impl FaultHandle {
    pub(crate) const fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    fn aes<R>(
        &self,
        aes: usize,
        change: impl FnOnce(&mut Aes, &mut Switch, Time) -> R,
    ) -> Option<R> {
        self.inner.act(|world, now| {
            let World { aes: servers, switch, .. } = world;
            servers.get_mut(aes).map(|server| change(server, switch, now))
        })
    }

    fn link(&self, aes: usize, change: impl FnOnce(&Link)) {
        if let Some(link) = self.inner.links.get(aes) {
            change(link);
        }
    }

    // ---- an AES and its sockets ----

    /// Cuts all sockets of an AES and refuses new ones for so long. Its sessions stand until their
    /// clean-up delay runs out.
    pub fn cut_aes(&self, aes: usize, refuse_for: Duration) {
        self.link(aes, |link| link.cut(refuse_for));
    }

    /// The AES restarts: sockets cut, all sessions forgotten, phantoms unregistered.
    pub fn restart_aes(&self, aes: usize, refuse_for: Duration) {
        self.cut_aes(aes, refuse_for);
        self.aes(aes, |server, switch, now| server.restart(now, switch));
    }

    /// The AES neither reads nor writes for so long; its sockets stay open.
    pub fn hang_aes(&self, aes: usize, length: Duration) {
        self.link(aes, |link| link.hang(length));
    }

    /// An administrator ends all sessions of an AES.
    pub fn end_sessions(&self, aes: usize) {
        self.aes(aes, |server, switch, now| {
            server.terminate_sessions(now, switch, "Terminated by the administrator");
        });
    }

    /// The AES ends monitors by itself.
    pub fn drop_monitors(&self, aes: usize, count: usize) {
        self.aes(aes, |server, _, _| server.drop_monitors(count));
    }

    /// The link between AES and switch goes down or comes up: no call events and no call control
    /// while it is down; media goes on.
    pub fn set_tlink(&self, aes: usize, up: bool) {
        self.aes(aes, |server, _, _| server.set_link(up));
    }

    /// Changes what is done to the bytes of an AES: pieces, prefixes, Latin-1, delay, injection.
    pub fn wire(&self, aes: usize, change: impl FnOnce(&mut WireFaults)) {
        self.link(aes, |link| link.change_faults(change));
    }

    /// Every request to an AES is handled so much later.
    pub fn delay_requests(&self, aes: usize, millis: u64) {
        self.wire(aes, |faults| faults.request_delay_ms = millis);
    }

    /// Changes what an AES refuses, loses or adds.
    pub fn aes_faults(&self, aes: usize, change: impl FnOnce(&mut AesFaults)) {
        self.aes(aes, |server, _, _| change(&mut server.faults));
    }

    /// The next so many events of a name (such as `EstablishedEvent`) are not sent.
    pub fn lose_events(&self, aes: usize, name: &str, count: u32) {
        self.aes_faults(aes, |faults| {
            faults.lose_events.insert(name.to_owned(), count);
        });
    }

    // ---- requests ----

    /// The next so many single-step conferences of an AES are refused.
    pub fn refuse_joins(&self, aes: usize, count: u32) {
        self.refuse_requests(aes, "SingleStepConferenceCall", count);
    }

    /// The next so many requests of a name are refused by an AES.
    pub fn refuse_requests(&self, aes: usize, name: &str, count: u32) {
        self.aes_faults(aes, |faults| {
            faults.refuse_requests.insert(name.to_owned(), count);
        });
    }

    /// The next so many registrations through an AES are refused by the switch.
    pub fn refuse_registrations(&self, aes: usize, count: u32) {
        self.aes_faults(aes, |faults| faults.refuse_registrations = count);
    }

    // ---- stations ----

    /// A phantom is busied out: its media stops and nobody is told.
    pub fn busy_out(&self, extension: &str) {
        self.inner.act(|world, now| world.switch.busy_out(now, &extension.into()));
    }

    /// It is released again: only now its registration is ended, with an event.
    pub fn release_busy_out(&self, extension: &str) {
        self.inner.act(|world, now| world.switch.release_busy_out(now, &extension.into()));
    }

    /// The switch ends what a phantom observes; only its leaving the calls tells so.
    pub fn end_observing(&self, phantom: &str) {
        self.inner.act(|world, now| world.switch.end_observing(now, &phantom.into()));
    }

    /// The switch ends the registrations of an extension, with an event.
    pub fn unregister(&self, extension: &str) {
        let reason = "Received unregistration request from switch reason=2009 text=2009-Registration expired";
        self.inner.act(|world, now| {
            world.switch.force_unregister(now, &extension.into(), 2009, reason);
        });
    }

    // ---- behaviour and media ----

    /// Changes how the switch behaves where releases differ.
    pub fn switches(&self, change: impl FnOnce(&mut Switches)) {
        self.inner.act(|world, _| world.change_switches(change));
    }

    /// Changes what happens to RTP on its way.
    pub fn rtp(&self, change: impl FnOnce(&mut RtpFaults)) {
        change(&mut self.inner.sender.table().faults);
    }

    /// Loses a share of all RTP packets, 0 to 1.
    pub fn drop_rtp(&self, share: f64) {
        self.rtp(|faults| faults.drop = share);
    }

    /// The next so many frames to a phantom are not sent.
    pub fn mute_phantom(&self, extension: &str, frames: u32) {
        self.inner.sender.table().mute(&Extension::from(extension), frames);
    }

    /// From now on nobody says anything in what is sent to a terminal of this part.
    pub fn hush(&self, extension: &str, part: Part) {
        self.inner.sender.table().hush(&Extension::from(extension), part);
    }

    /// From now on whoever hears this part of any call hears a plain tone; `None`: the tune again.
    pub fn say(&self, part: Part, sine: Option<Sine>) {
        self.inner.sender.table().say(part, sine);
    }

    /// Keeps each frame that is sent from now on: see [`Site::sent`](crate::Site::sent).
    pub fn keep_sent(&self) {
        self.inner.sender.table().keep();
    }

    /// The stream to a phantom goes on with another SSRC, sequence and timestamp.
    pub fn change_ssrc(&self, extension: &str) {
        self.inner.sender.table().change_ssrc(&Extension::from(extension));
    }

    /// Well-formed RTP of a stranger onto the port of a phantom that has media.
    pub fn stranger_rtp(&self, extension: &str, packets: usize) {
        self.intrude(extension, packets, Intrusion::Stranger);
    }

    /// The same from the media processor's own address and in the name of its stream, without its
    /// keys.
    pub fn forged_rtp(&self, extension: &str, packets: usize) {
        self.intrude(extension, packets, Intrusion::Forged);
    }

    /// The media of a phantom goes on under new keys, which an event tells.
    pub fn change_keys(&self, extension: &str) {
        self.inner.act(|world, now| world.change_keys(now, &extension.into()));
    }

    /// Garbage onto the port of a phantom that has media.
    pub fn garbage_rtp(&self, extension: &str, packets: usize) {
        self.intrude(extension, packets, Intrusion::Garbage);
    }

    fn intrude(&self, extension: &str, packets: usize, kind: Intrusion) {
        self.inner.sender.table().intrude(&Extension::from(extension), packets, kind);
    }
}
