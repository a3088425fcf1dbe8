//! `al_method`: how calls come to be heard, and which devices that takes. It reads what one method
//! needs and the others do not use, and says so where the two are mixed up; what the devices do is the
//! recorder's matter.

use std::collections::BTreeSet;

use recorder_core::Receiver;
use recorder_core::dmcc::Secret;
use storage_core::Extension;
use storage_core::record::Side;

use super::reader::Reader;
use super::recorder::{Monitored, Recorder, read_phantom_password, read_phantoms};

/// No feature access code is longer.
const CODE_MAX: usize = 10;

/// `al_method`, with what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Single-step conference: phantoms are added to calls.
    SingleStepConference,
    /// Multiple registration: each monitored station is registered once more.
    MultipleRegistration {
        /// `al_stationpassword`: security code of all stations; absent: each one's own number.
        password: Option<Secret>,
        /// `al_stereo`: it is registered twice more, for each side of its calls by itself.
        stereo: bool,
    },
    /// Service observing: each phantom observes one monitored station.
    ServiceObserving {
        /// `al_observecode`: feature access code, `0` to `9`, `*` and `#`.
        code: String,
    },
}

/// A device that receives media.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number on the switch.
    pub extension: Extension,
    /// Its security code.
    pub password: Secret,
    /// The station whose calls it hears; absent if it is put into calls.
    pub station: Option<Extension>,
    /// The side of these calls that it hears; absent if it hears all in one.
    pub side: Option<Side>,
}

impl Device {
    /// The name under which its media is received.
    #[must_use]
    pub fn receiver(&self) -> Receiver {
        Receiver { device: self.extension.clone(), side: self.side }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Conference,
    Registration,
    Observing,
}

impl Word {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Conference => "ssc",
            Self::Registration => "mr",
            Self::Observing => "so",
        }
    }
}

/// The method, and the phantoms with their security code; without phantoms where the method has none.
pub(super) fn read(
    reader: &mut Reader,
    monitored: &Monitored,
) -> (Method, BTreeSet<Extension>, Secret) {
    let words = [Word::Conference, Word::Registration, Word::Observing];
    let words = words.map(|word| (word.as_str(), word));
    let word = reader.word("al_method", &words).unwrap_or(Word::Conference);
    warn_of_others(reader, word);
    let stereo = reader.flag("al_stereo", false);
    if word == Word::Registration {
        return (read_registration(reader, monitored, stereo), BTreeSet::new(), Secret::new(""));
    }
    if stereo {
        reader.refuse_value(
            "al_stereo",
            &format!("false with al_method = \"{}\", which hears all voices in one", word.as_str()),
            "leave it out, or write al_method = \"mr\"",
        );
    }
    let phantoms = read_phantoms(reader);
    let method = match word {
        Word::Observing => read_observing(reader, &phantoms, monitored),
        Word::Conference | Word::Registration => Method::SingleStepConference,
    };
    (method, phantoms, read_phantom_password(reader))
}

/// What is given and belongs to another method.
fn warn_of_others(reader: &mut Reader, word: Word) {
    let owners = [
        ("al_stationpassword", &[Word::Registration][..]),
        ("al_stationpasswordfile", &[Word::Registration]),
        ("al_observecode", &[Word::Observing]),
        ("al_phantoms", &[Word::Conference, Word::Observing]),
        ("al_phantompassword", &[Word::Conference, Word::Observing]),
        ("al_phantompasswordfile", &[Word::Conference, Word::Observing]),
    ];
    for (key, owners) in owners {
        if reader.has(key) && !owners.contains(&word) {
            let wrong = format!("has no effect with al_method = \"{}\"", word.as_str());
            reader.warn(key, wrong, "leave it out");
        }
    }
}

fn read_registration(reader: &mut Reader, monitored: &Monitored, stereo: bool) -> Method {
    if monitored.stations.is_empty() && reader.has("al_stations") {
        reader.refuse_value(
            "al_stations",
            "a list that is not empty with al_method = \"mr\"",
            "name the stations that are to be registered once more",
        );
    } else if monitored.stations.is_empty() {
        reader.refuse(
            "al_stations",
            "is missing: al_method = \"mr\" hears the stations that it names",
            "write al_stations = [\"3100-3199\"]",
        );
    }
    let password = reader.secret("al_stationpassword", "al_stationpasswordfile");
    if password.as_ref().is_some_and(|code| !code.expose().bytes().all(|b| b.is_ascii_digit())) {
        let wrong = "a station's security code has digits only";
        reader.warn("al_stationpassword", wrong, "compare it with the station form of the switch");
    }
    if stereo {
        reader.warn(
            "al_stereo",
            "a switch from before 8.0.1 sends all voices to both channels, and how a side is asked for is \
             not public",
            "record a call of your own and listen to each channel before you rely on it",
        );
    }
    Method::MultipleRegistration { password, stereo }
}

fn read_observing(
    reader: &mut Reader,
    phantoms: &BTreeSet<Extension>,
    monitored: &Monitored,
) -> Method {
    const REMEDY: &str = "write al_observecode = \"*55\", the code for no-talk or listen-only";
    let dialled = |c: char| c.is_ascii_digit() || c == '*' || c == '#';
    let code = reader.parsed(
        "al_observecode",
        |text| match !text.is_empty() && text.len() <= CODE_MAX && text.chars().all(dialled) {
            true => Ok(text.to_owned()),
            false => Err("a feature access code of digits, * and #".to_owned()),
        },
        REMEDY,
    );
    if code.is_none() && !reader.has("al_observecode") {
        reader.refuse("al_observecode", "is missing with al_method = \"so\"", REMEDY);
    }
    let (have, need) = (phantoms.len(), monitored.stations.len());
    if have != need || need == 0 {
        let must_be = format!(
            "one phantom for each of the {need} stations in al_stations with al_method = \"so\", and \
             {have} are there"
        );
        let remedy = "each phantom observes one station: name as many phantoms as stations";
        reader.refuse_value("al_phantoms", &must_be, remedy);
    }
    Method::ServiceObserving { code: code.unwrap_or_default() }
}

impl Method {
    /// What each device hears: all in one, or a side of it each.
    #[must_use]
    pub const fn sides(&self) -> &'static [Option<Side>] {
        match self {
            Self::MultipleRegistration { stereo: true, .. } => {
                &[Some(Side::Agent), Some(Side::Others)]
            }
            Self::SingleStepConference
            | Self::MultipleRegistration { .. }
            | Self::ServiceObserving { .. } => &[None],
        }
    }
}

impl Recorder {
    /// The devices that media is sent to, in the order of their ports.
    #[must_use]
    pub fn devices(&self) -> Vec<Device> {
        let phantom = |extension: &Extension, station: Option<&Extension>| Device {
            extension: extension.clone(),
            password: self.phantom_password.clone(),
            station: station.cloned(),
            side: None,
        };
        let stations = &self.monitored.stations;
        match &self.method {
            Method::SingleStepConference => {
                self.phantoms.iter().map(|extension| phantom(extension, None)).collect()
            }
            Method::ServiceObserving { .. } => {
                let pairs = self.phantoms.iter().zip(stations);
                pairs.map(|(extension, station)| phantom(extension, Some(station))).collect()
            }
            Method::MultipleRegistration { password, .. } => {
                let own = |station: &Extension| Secret::new(station.as_str());
                let device = |station: &Extension, side: Option<Side>| Device {
                    extension: station.clone(),
                    password: password.clone().unwrap_or_else(|| own(station)),
                    station: Some(station.clone()),
                    side,
                };
                let sides = self.method.sides();
                let of_station = |station| sides.iter().map(move |side| device(station, *side));
                stations.iter().flat_map(of_station).collect()
            }
        }
    }
}
