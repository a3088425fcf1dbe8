//! Who hears what: compares what each registration should hear with what it is sent, and says what
//! to change and what to tell its owner. Sends nothing.

use std::collections::BTreeMap;

use super::{Coding, Play};
use crate::config::Switches;
use crate::switch::{ConnectionState, Extension, MediaMode, Owner, RegistrationKey, Switch};
use crate::time::Time;

/// A change for the sender.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Send this from now on; an existing stream of the key goes on with the new content.
    Play(Play),
    /// The same, but as a new RTP stream.
    Restart(Play),
    /// Send no more.
    Stop(RegistrationKey),
}

/// What the owner of a registration is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// Which registration.
    pub key: RegistrationKey,
    /// Whose.
    pub owner: Owner,
    /// Codec name of the media that started; `None`: stopped.
    pub codec: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Playing {
    owner: Owner,
    play: Play,
    codec: String,
}

/// The plan.
#[derive(Default, Debug)]
pub struct Plan {
    playing: BTreeMap<RegistrationKey, Playing>,
}

impl Plan {
    /// Brings the registrations of an extension up to date. With `restart`, media that goes on is
    /// stopped and started anew.
    pub fn update(
        &mut self,
        now: Time,
        switch: &Switch,
        switches: &Switches,
        extension: &Extension,
        restart: bool,
    ) -> (Vec<Change>, Vec<Notice>) {
        let (mut changes, mut notices) = (Vec::new(), Vec::new());
        let wanted = wanted(now, switch, switches, extension);
        let keys = (extension.clone(), 0)..=(extension.clone(), u8::MAX);
        let old: Vec<_> =
            self.playing.range(keys).map(|(key, playing)| (key.clone(), playing.clone())).collect();
        for (key, playing) in &old {
            let stays = wanted.get(key).is_some_and(|new| new.owner == playing.owner);
            if !stays {
                self.playing.remove(key);
                changes.push(Change::Stop(key.clone()));
                notices.push(notice(key, playing.owner, None));
            }
        }
        for (key, mut new) in wanted {
            match self.playing.get(&key) {
                None => {
                    changes.push(Change::Restart(new.play.clone()));
                    notices.push(notice(&key, new.owner, Some(&new.codec)));
                }
                Some(old) => {
                    new.play.not_before = old.play.not_before;
                    let elsewhere = old.play.to != new.play.to || old.codec != new.codec;
                    if restart || elsewhere {
                        notices.push(notice(&key, new.owner, None));
                        notices.push(notice(&key, new.owner, Some(&new.codec)));
                        changes.push(Change::Restart(new.play.clone()));
                    } else if old.play != new.play {
                        changes.push(Change::Play(new.play.clone()));
                    }
                }
            }
            self.playing.insert(key, new);
        }
        (changes, notices)
    }
}

/// What the registrations of an extension should hear now.
fn wanted(
    now: Time,
    switch: &Switch,
    switches: &Switches,
    extension: &Extension,
) -> BTreeMap<RegistrationKey, Playing> {
    let mut wanted = BTreeMap::new();
    let Some(call) = switch.heard_at(extension) else { return wanted };
    let held = call.parties.iter().any(|party| party.state == ConnectionState::Held);
    let joined = call.at(extension).is_some_and(|party| party.joined_as.is_some());
    if switch.is_busied_out(extension) || (switches.media_pause_on_hold && held && joined) {
        return wanted;
    }
    for (key, held) in switch.registrations_of(extension) {
        let Some(media) = held.media.filter(|_| held.mode == MediaMode::Client) else { continue };
        let Some((codec, coding)) = agree(&media.codecs, &switches.codecs) else { continue };
        let play = Play {
            key: key.clone(),
            aes: held.owner.aes,
            to: media.rtp,
            coding,
            serial: call.serial,
            established: call.established,
            not_before: now.after_millis(switches.rtp_delay_ms),
        };
        wanted.insert(key, Playing { owner: held.owner, play, codec });
    }
    wanted
}

/// The client's first codec that the switch has, in the switch's spelling.
fn agree(client: &[String], switch: &[String]) -> Option<(String, Coding)> {
    client.iter().find_map(|wish| {
        let codec = switch.iter().find(|codec| codec.eq_ignore_ascii_case(wish))?;
        Some((codec.clone(), Coding::from_name(codec)?))
    })
}

fn notice(key: &RegistrationKey, owner: Owner, codec: Option<&str>) -> Notice {
    Notice { key: key.clone(), owner, codec: codec.map(str::to_owned) }
}
