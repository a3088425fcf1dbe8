//! Recording rules (`[[al_rule]]`): which calls are recorded, by name. The first rule that matches
//! decides. Where no rule is given, or none matches, a call is recorded: when in doubt, record.

use serde::{Deserialize, Serialize};
use storage_core::record::Direction;
use storage_core::{CallId, Ucid};

use super::pattern::{InvalidPattern, Pattern};

/// What a rule has done with the calls that match it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordMode {
    /// Record them.
    #[default]
    Always,
    /// Record `percent` of them.
    Percent,
    /// Record those that somebody asks for.
    OnDemand,
    /// Do not record them.
    Never,
}

/// A rule as it is written in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleConfig {
    /// Its name, which is stored with each recording that it decides.
    pub name: String,
    /// What it does.
    pub record: RecordMode,
    /// For `percent`: how many of a hundred, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Monitored stations in the call.
    pub extension: Vec<String>,
    /// Agents logged in at these stations.
    pub agentid: Vec<String>,
    /// VDN that distributed the call.
    pub vdn: Vec<String>,
    /// Split or skill.
    pub skill: Vec<String>,
    /// Trunk group.
    pub trunkgroup: Vec<String>,
    /// `inbound`, `outbound`, `internal`.
    pub direction: Vec<Direction>,
    /// Calling number, called number, or any party of the call.
    pub party: Vec<String>,
}

/// What is wrong with one rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It has no name.
    #[error("al_rule number {number} has no name; add name = \"…\", which recordings will show")]
    NoName {
        /// The rule's place in the list, from 1.
        number: usize,
    },
    /// Two rules have one name.
    #[error("al_rule {name:?} is there twice; give each rule its own name")]
    SameName {
        /// The name.
        name: String,
    },
    /// `percent` is missing, needless, or over 100.
    #[error(
        "al_rule {name:?}: record = \"percent\" needs percent = 0 to 100, and nothing else has it"
    )]
    Percent {
        /// The rule.
        name: String,
    },
    /// A pattern cannot be read.
    #[error("al_rule {name:?}: {key}: {error}")]
    Pattern {
        /// The rule.
        name: String,
        /// The key that holds it.
        key: &'static str,
        /// What is wrong with it.
        error: InvalidPattern,
    },
}

/// What is known of a call when rules are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleFacts {
    /// Monitored stations in the call.
    pub extensions: Vec<String>,
    /// Agents logged in there.
    pub agentids: Vec<String>,
    /// VDN that distributed the call; empty if none.
    pub vdn: String,
    /// Split or skill; empty if none.
    pub skill: String,
    /// Trunk group; empty if none.
    pub trunkgroup: String,
    /// Which way it goes.
    pub direction: Direction,
    /// Calling and called number and the parties.
    pub parties: Vec<String>,
    /// Decides over `percent`; see [`lot`].
    pub lot: u8,
}

/// What the rules say of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the call is recorded without anybody asking.
    pub record: bool,
    /// The rule that decided; empty if none did.
    pub rule: String,
}

/// The rules, in order.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    name: String,
    record: RecordMode,
    percent: u8,
    extension: Vec<Pattern>,
    agentid: Vec<Pattern>,
    vdn: Vec<Pattern>,
    skill: Vec<Pattern>,
    trunkgroup: Vec<Pattern>,
    direction: Vec<Direction>,
    party: Vec<Pattern>,
}

impl Rules {
    /// Reads the rules of a configuration.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any of them.
    pub fn read(configs: &[RuleConfig]) -> Result<Self, Vec<RuleError>> {
        let mut errors = Vec::new();
        let mut rules: Vec<Rule> = Vec::new();
        for (index, config) in configs.iter().enumerate() {
            if config.name.trim().is_empty() {
                errors.push(RuleError::NoName { number: index + 1 });
            } else if rules.iter().any(|rule| rule.name == config.name) {
                errors.push(RuleError::SameName { name: config.name.clone() });
            }
            rules.push(Rule::read(config, &mut errors));
        }
        if errors.is_empty() { Ok(Self { rules }) } else { Err(errors) }
    }

    /// What the first matching rule says.
    #[must_use]
    pub fn decide(&self, facts: &RuleFacts) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(facts)) else {
            return Verdict { record: true, rule: String::new() };
        };
        let record = match rule.record {
            RecordMode::Always => true,
            RecordMode::Percent => facts.lot < rule.percent,
            RecordMode::OnDemand | RecordMode::Never => false,
        };
        Verdict { record, rule: rule.name.clone() }
    }
}

impl Rule {
    fn read(config: &RuleConfig, errors: &mut Vec<RuleError>) -> Self {
        let right = match config.record {
            RecordMode::Percent => config.percent.is_some_and(|percent| percent <= 100),
            _ => config.percent.is_none(),
        };
        if !right {
            errors.push(RuleError::Percent { name: config.name.clone() });
        }
        let mut patterns = |key: &'static str, texts: &[String]| -> Vec<Pattern> {
            let mut read = |text: &String| match text.parse() {
                Ok(pattern) => Some(pattern),
                Err(error) => {
                    errors.push(RuleError::Pattern { name: config.name.clone(), key, error });
                    None
                }
            };
            texts.iter().filter_map(&mut read).collect()
        };
        Self {
            name: config.name.clone(),
            record: config.record,
            percent: config.percent.unwrap_or(0),
            extension: patterns("extension", &config.extension),
            agentid: patterns("agentid", &config.agentid),
            vdn: patterns("vdn", &config.vdn),
            skill: patterns("skill", &config.skill),
            trunkgroup: patterns("trunkgroup", &config.trunkgroup),
            direction: config.direction.clone(),
            party: patterns("party", &config.party),
        }
    }

    /// Every key that is given must match; a key that is not given matches anything.
    fn matches(&self, facts: &RuleFacts) -> bool {
        let any = |patterns: &[Pattern], values: &[String]| {
            patterns.is_empty()
                || values.iter().any(|value| patterns.iter().any(|pattern| pattern.matches(value)))
        };
        any(&self.extension, &facts.extensions)
            && any(&self.agentid, &facts.agentids)
            && any(&self.vdn, std::slice::from_ref(&facts.vdn))
            && any(&self.skill, std::slice::from_ref(&facts.skill))
            && any(&self.trunkgroup, std::slice::from_ref(&facts.trunkgroup))
            && (self.direction.is_empty() || self.direction.contains(&facts.direction))
            && any(&self.party, &facts.parties)
    }
}

/// A number from 0 to 99 that every node draws alike for one call: FNV-1a over its UCID, mixed so
/// that neighbouring UCIDs do not get neighbouring numbers. A call without a UCID draws by its
/// number on the switch, which all nodes see as well.
#[must_use]
pub fn lot(ucid: Option<&Ucid>, id: &CallId) -> u8 {
    let text = ucid.map_or(id.as_str(), Ucid::as_str);
    let mut hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    u8::try_from(hash % 100).expect("a remainder of 100 is less than 256")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    fn config(name: &str, record: RecordMode) -> RuleConfig {
        RuleConfig { name: name.to_owned(), record, ..RuleConfig::default() }
    }

    fn inbound() -> RuleFacts {
        RuleFacts {
            extensions: texts(&["31002"]),
            agentids: texts(&["7002"]),
            vdn: "50100".to_owned(),
            skill: "60001".to_owned(),
            trunkgroup: "12".to_owned(),
            direction: Direction::Inbound,
            parties: texts(&["5551230001", "50100", "31002"]),
            lot: 41,
        }
    }

    #[test]
    fn no_rule_and_no_match_both_record() {
        let verdict = Verdict { record: true, rule: String::new() };
        assert_eq!(Rules::default().decide(&inbound()), verdict);
        let mut other = config("other", RecordMode::Never);
        other.vdn = texts(&["50200"]);
        assert_eq!(Rules::read(&[other]).unwrap().decide(&inbound()), verdict);
    }

    #[test]
    fn each_key_must_match_and_the_first_rule_wins() {
        type Change = fn(&mut RuleConfig);
        let cases: [(&str, Change, bool); 10] = [
            ("nothing", |_| {}, true),
            ("extension", |r| r.extension = texts(&["31001-31050"]), true),
            ("other extension", |r| r.extension = texts(&["32*"]), false),
            ("agent", |r| r.agentid = texts(&["7001", "7002"]), true),
            ("vdn", |r| r.vdn = texts(&["50100"]), true),
            ("skill", |r| r.skill = texts(&["60002"]), false),
            ("trunk group", |r| r.trunkgroup = texts(&["12"]), true),
            ("direction", |r| r.direction = vec![Direction::Outbound], false),
            ("party", |r| r.party = texts(&["555*"]), true),
            ("other party", |r| r.party = texts(&["556*"]), false),
        ];
        for (what, change, matches) in cases {
            let mut first = config("first", RecordMode::Never);
            change(&mut first);
            let rules = Rules::read(&[first, config("rest", RecordMode::Always)]).unwrap();
            assert_eq!(rules.decide(&inbound()).record, !matches, "{what}");
        }
    }

    #[test]
    fn percent_is_drawn_by_lot() {
        let mut rule = config("some", RecordMode::Percent);
        rule.percent = Some(41);
        assert!(!Rules::read(&[rule.clone()]).unwrap().decide(&inbound()).record);
        rule.percent = Some(42);
        assert!(Rules::read(&[rule]).unwrap().decide(&inbound()).record);
    }

    #[test]
    fn lots_are_even() {
        let id = CallId::new("1");
        let mut drawn = [0_u32; 100];
        for number in 0..10_000_u64 {
            let ucid = format!("{:05}{:05}{:010}", 1, number, 1_700_000_000 + number / 7);
            drawn[usize::from(lot(ucid.parse().ok().as_ref(), &id))] += 1;
        }
        let tenth: u32 = drawn[..10].iter().sum();
        assert!((800..1200).contains(&tenth), "{tenth} of 10000 in the first tenth");
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut bad = config("a", RecordMode::Percent);
        bad.extension = texts(&["8*5"]);
        bad.party = texts(&["2-1"]);
        let mut needless = config("a", RecordMode::Always);
        needless.percent = Some(5);
        let errors = Rules::read(&[bad, needless, config("", RecordMode::Never)]).unwrap_err();
        assert_eq!(errors.len(), 6, "{errors:#?}");
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<RuleConfig>(r#"{"name":"a","ext":["1"]}"#).is_err());
        let read: RuleConfig =
            serde_json::from_str(r#"{"name":"a","record":"ondemand","direction":["inbound"]}"#)
                .unwrap();
        assert_eq!(read.record, RecordMode::OnDemand);
    }
}
