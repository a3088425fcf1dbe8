//! Switch, AES servers and media plan together, still pure: one input, then everything that follows
//! from it as effects for the shell.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::aes::{Aes, ConnId, Media, Output, Reply};
use crate::config::{ConfigError, SiteConfig, Switches};
use crate::media::{Change, Notice, Plan};
use crate::switch::{Body, ConnectionState, Device, Event, Extension, Serial, StationKind, Switch};
use crate::time::Time;
use crate::wire::Element;

/// What the shell has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Something on the sockets of an AES.
    Wire {
        /// Which AES.
        aes: usize,
        /// What.
        output: Output,
    },
    /// A change of what is sent as RTP.
    Media(Change),
}

/// Something people do by themselves after a while.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Habit {
    Answer { station: Extension, serial: Serial },
    AnswerOutside { serial: Serial },
}

/// The world.
#[derive(Debug)]
pub struct World {
    /// The switch.
    pub switch: Switch,
    /// Its AES servers.
    pub aes: Vec<Aes>,
    /// Behaviour, as changed while running.
    switches: Switches,
    plan: Plan,
    habits: BTreeMap<(Time, u64), Habit>,
    habit_count: u64,
    effects: Vec<Effect>,
}

impl World {
    /// A site whose media processors send from `media_addresses`, one for each AES.
    ///
    /// # Errors
    /// A contradictory configuration.
    pub fn new(
        config: &SiteConfig,
        unix_ms_at_zero: u64,
        media_addresses: &[SocketAddr],
    ) -> Result<Self, ConfigError> {
        let switch = Switch::new(config, unix_ms_at_zero)?;
        let aes = media_addresses
            .iter()
            .enumerate()
            .take(config.aes.len())
            .map(|(index, address)| Aes::new(index, config, *address))
            .collect();
        Ok(Self {
            switch,
            aes,
            switches: config.switches.clone(),
            plan: Plan::new(config.seed.unwrap_or(unix_ms_at_zero)),
            habits: BTreeMap::new(),
            habit_count: 0,
            effects: Vec::new(),
        })
    }

    /// A client's message; `None` is one that could not be read.
    pub fn message(
        &mut self,
        now: Time,
        aes: usize,
        conn: ConnId,
        invoke: [u8; 4],
        request: Option<&Element>,
    ) {
        let Some(server) = self.aes.get_mut(aes) else { return };
        let reply = match request {
            Some(request) => server.request(now, &mut self.switch, conn, invoke, request),
            None => Reply::Now(server.malformed()),
        };
        let answer = match reply {
            Reply::Now(message) => {
                let output = Output::Send { conn, invoke, message };
                Some(Effect::Wire { aes, output })
            }
            Reply::Later => None,
        };
        if self.switches.events_before_response {
            self.settle(now);
            self.effects.extend(answer);
        } else {
            self.effects.extend(answer);
            self.settle(now);
        }
    }

    /// A client's socket has been opened.
    pub fn connected(&mut self, aes: usize, conn: ConnId) {
        if let Some(server) = self.aes.get_mut(aes) {
            server.connected(conn);
        }
    }

    /// A client's socket is gone.
    pub fn disconnected(&mut self, now: Time, aes: usize, conn: ConnId) {
        if let Some(server) = self.aes.get_mut(aes) {
            server.disconnected(now, conn);
        }
        self.settle(now);
    }

    /// What is due: session timers, delayed answers, habits.
    pub fn on_time(&mut self, now: Time) {
        for server in &mut self.aes {
            server.on_time(now, &mut self.switch);
        }
        let later = self.habits.split_off(&(now, u64::MAX));
        for habit in std::mem::replace(&mut self.habits, later).into_values() {
            self.follow(now, &habit);
        }
        self.settle(now);
    }

    /// When `on_time` has something to do next.
    #[must_use]
    pub fn next_time(&self) -> Option<Time> {
        let servers = self.aes.iter().filter_map(Aes::next_time);
        servers.chain(self.habits.keys().next().map(|(due, _)| *due)).min()
    }

    /// Behaviour, to change it while running; takes effect at once.
    pub fn change_switches(&mut self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.switches);
        *self.switch.switches_mut() = self.switches.clone();
        for server in &mut self.aes {
            server.set_media_events(self.switches.media_event_delay_ms, self.switches.key_text);
        }
    }

    /// Spreads what the switch has to tell. To be called after every change of the switch.
    pub fn settle(&mut self, now: Time) {
        self.switch.settle_observers(now);
        // Hold and merge may restart the media of recorders in the call.
        let mut restarts = Vec::new();
        while let Some(event) = self.switch.poll_event() {
            restarts.extend(self.to_restart(&event));
            self.remember_habit(now, &event);
            for server in &mut self.aes {
                server.on_event(&event);
            }
        }
        while let Some(event) = self.switch.poll_agent_event() {
            for server in &mut self.aes {
                server.on_agent_event(&event);
            }
        }
        while let Some(change) = self.switch.poll_registration() {
            for server in &mut self.aes {
                server.on_registration(&change);
            }
        }
        for extension in self.switch.take_touched() {
            let restart = restarts.contains(&extension);
            self.update_media(now, &extension, restart);
        }
        for (aes, server) in self.aes.iter_mut().enumerate() {
            let outputs = server.take_output();
            self.effects.extend(outputs.into_iter().map(|output| Effect::Wire { aes, output }));
        }
    }

    /// Takes what the shell has to do, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn update_media(&mut self, now: Time, extension: &Extension, restart: bool) {
        let (changes, notices) =
            self.plan.update(now, &self.switch, &self.switches, extension, restart);
        self.carry_out(now, changes, notices);
    }

    /// The media of a phantom goes on under new keys.
    pub fn change_keys(&mut self, now: Time, extension: &Extension) {
        let (changes, notices) = self.plan.change_keys(extension);
        self.carry_out(now, changes, notices);
    }

    /// All keys and salts that were ever given out.
    #[must_use]
    pub fn media_secrets(&self) -> Vec<Vec<u8>> {
        self.plan.secrets()
    }

    fn carry_out(&mut self, now: Time, changes: Vec<Change>, notices: Vec<Notice>) {
        self.effects.extend(changes.into_iter().map(Effect::Media));
        for notice in notices {
            if let Some(server) = self.aes.get_mut(notice.owner.aes) {
                let media = notice.started.as_ref().map_or(Media::Stopped, Media::Started);
                server.on_media(now, &notice.key, notice.owner, media);
            }
        }
    }

    /// Recorders whose media is restarted because of an event.
    fn to_restart(&self, event: &Event) -> Vec<Extension> {
        let restart = match event.body {
            Body::Held { .. } | Body::Retrieved { .. } => self.switches.media_restart_on_hold,
            Body::Conferenced(_) | Body::Transferred(_) => self.switches.media_restart_on_merge,
            _ => false,
        };
        let stations = event.audience.stations.keys().filter(|_| restart);
        stations
            .filter(|station| self.switch.station_kind(station) == Some(StationKind::Phantom))
            .cloned()
            .collect()
    }

    /// People answer after a while, if they are told to.
    fn remember_habit(&mut self, now: Time, event: &Event) {
        let Body::Delivered { device, .. } = &event.body else { return };
        let serial = event.call.serial;
        let (after, habit) = match device {
            Device::Extension(station) => {
                if self.switch.station_kind(station) != Some(StationKind::Telephone) {
                    return;
                }
                let station = station.clone();
                (self.switches.auto_answer_ms, Habit::Answer { station, serial })
            }
            Device::Trunk(_) => (self.switches.outside_answer_ms, Habit::AnswerOutside { serial }),
        };
        if let Some(after) = after {
            self.habit_count += 1;
            self.habits.insert((now.after_millis(after), self.habit_count), habit);
        }
    }

    fn follow(&mut self, now: Time, habit: &Habit) {
        // The call may have gone another way meanwhile; then there is nothing to answer.
        let _ = match habit {
            Habit::Answer { station, serial } => {
                let rings = self.switch.call_of(*serial).is_ok_and(|call| {
                    call.at(station).is_some_and(|p| p.state == ConnectionState::Alerting)
                });
                if !rings {
                    return;
                }
                self.switch.answer(now, station).map(|_| ())
            }
            Habit::AnswerOutside { serial } => self.switch.answer_outside(now, *serial),
        };
    }
}
