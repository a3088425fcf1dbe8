//! Who hears what: compares what each registration should hear with what it is sent, and says what
//! to change and what to tell its owner; agrees on codec and encryption, and makes the keys. Sends
//! nothing.

use std::collections::{BTreeMap, VecDeque};

use super::{Coding, Play, Protection, Scheme};
use crate::config::Switches;
use crate::rng::Rng;
use crate::switch::{
    ConnectionState, Content, Extension, MediaMode, Owner, RegistrationKey, Switch,
};
use crate::time::Time;
use crate::tone::Part;

/// Keys and salts remembered.
const SECRETS_MAX: usize = 10_000;

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
    /// The media that started; `None`: stopped.
    pub started: Option<Started>,
}

/// What was agreed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Started {
    /// Codec name.
    pub codec: String,
    /// Encryption with its keys, if there is one.
    pub protection: Option<Protection>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Playing {
    owner: Owner,
    play: Play,
    codec: String,
    /// Name of the encryption.
    encryption: String,
}

/// The plan.
#[derive(Debug)]
pub struct Plan {
    playing: BTreeMap<RegistrationKey, Playing>,
    rng: Rng,
    /// All keys and salts given out, the last [`SECRETS_MAX`].
    secrets: VecDeque<Vec<u8>>,
}

impl Plan {
    /// Nobody hears anything yet. Keys come from the seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { playing: BTreeMap::new(), rng: Rng::new(seed), secrets: VecDeque::new() }
    }

    /// The keys and salts that were given out.
    #[must_use]
    pub fn secrets(&self) -> Vec<Vec<u8>> {
        self.secrets.iter().cloned().collect()
    }

    /// New keys for the encrypted media of an extension, which goes on otherwise.
    pub fn change_keys(&mut self, extension: &Extension) -> (Vec<Change>, Vec<Notice>) {
        let (mut changes, mut notices) = (Vec::new(), Vec::new());
        let keys = (extension.clone(), 0)..=(extension.clone(), u8::MAX);
        for (key, playing) in self.playing.range_mut(keys) {
            playing.play.protection = make(&mut self.rng, &mut self.secrets, &playing.encryption);
            if playing.play.protection.is_some() {
                notices.push(started(key, playing));
                changes.push(Change::Play(playing.play.clone()));
            }
        }
        (changes, notices)
    }

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
                notices.push(stopped(key, playing.owner));
            }
        }
        for (key, mut new) in wanted {
            match self.playing.get(&key) {
                None => {
                    new.play.protection = make(&mut self.rng, &mut self.secrets, &new.encryption);
                    changes.push(Change::Restart(new.play.clone()));
                    notices.push(started(&key, &new));
                }
                Some(old) => {
                    new.play.not_before = old.play.not_before;
                    let elsewhere = old.play.to != new.play.to
                        || (&old.codec, &old.encryption) != (&new.codec, &new.encryption);
                    if restart || elsewhere {
                        new.play.protection =
                            make(&mut self.rng, &mut self.secrets, &new.encryption);
                        notices.push(stopped(&key, new.owner));
                        notices.push(started(&key, &new));
                        changes.push(Change::Restart(new.play.clone()));
                        self.playing.insert(key, new);
                        continue;
                    }
                    new.play.protection.clone_from(&old.play.protection);
                    if old.play != new.play {
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
        let Some(encryption) = agree_encryption(&media.encryption, &switches.encryption) else {
            continue;
        };
        let play = Play {
            key: key.clone(),
            aes: held.owner.aes,
            to: media.rtp,
            coding,
            protection: None,
            first_index: switches.rtp_first_index,
            report_packets: switches.report_packets,
            part: part_of(held.content),
            serial: call.serial,
            established: call.established,
            not_before: now.after_millis(switches.rtp_delay_ms),
        };
        wanted.insert(key, Playing { owner: held.owner, play, codec, encryption });
    }
    wanted
}

const fn part_of(content: Content) -> Part {
    match content {
        Content::Full => Part::Whole,
        Content::MainStationOnly => Part::Station,
        Content::AllButMainStation => Part::Others,
    }
}

/// The client's first codec that the switch has, in the switch's spelling.
fn agree(client: &[String], switch: &[String]) -> Option<(String, Coding)> {
    client.iter().find_map(|wish| {
        let codec = switch.iter().find(|codec| codec.eq_ignore_ascii_case(wish))?;
        Some((codec.clone(), Coding::from_name(codec)?))
    })
}

/// The switch's first encryption that the client has, in the switch's spelling. A client that says
/// nothing has none.
fn agree_encryption(client: &[String], switch: &[String]) -> Option<String> {
    let nothing = ["none".to_owned()];
    let client = if client.is_empty() { &nothing } else { client };
    let offered = |name: &&String| client.iter().any(|wish| wish.eq_ignore_ascii_case(name));
    switch.iter().find(offered).cloned()
}

fn make(rng: &mut Rng, secrets: &mut VecDeque<Vec<u8>>, name: &str) -> Option<Protection> {
    let made = Protection::new(name, Scheme::from_name(name)?, rng);
    secrets.extend(made.secrets());
    while secrets.len() > SECRETS_MAX {
        secrets.pop_front();
    }
    Some(made)
}

fn started(key: &RegistrationKey, playing: &Playing) -> Notice {
    let (codec, protection) = (playing.codec.clone(), playing.play.protection.clone());
    Notice { key: key.clone(), owner: playing.owner, started: Some(Started { codec, protection }) }
}

fn stopped(key: &RegistrationKey, owner: Owner) -> Notice {
    Notice { key: key.clone(), owner, started: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_chooses_in_its_own_order() {
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (client, switch, agreed) in [
            ("aes none", "none aes", Some("none")),
            (
                "none 1-SRTP-aescm128-hmac80",
                "1-srtp-aescm128-hmac80 none",
                Some("1-srtp-aescm128-hmac80"),
            ),
            ("", "aes none", Some("none")),
            ("aes", "none", None),
            ("", "aes", None),
        ] {
            let found = agree_encryption(&names(client), &names(switch));
            assert_eq!(found.as_deref(), agreed, "{client} / {switch}");
        }
    }

    #[test]
    fn every_key_is_new_and_remembered() {
        let mut plan = Plan::new(7);
        let mut one = || make(&mut plan.rng, &mut plan.secrets, "aes").unwrap();
        assert_ne!(one().secrets(), one().secrets());
        assert_eq!(make(&mut plan.rng, &mut plan.secrets, "none"), None);
        assert_eq!(plan.secrets().len(), 8);
    }
}
