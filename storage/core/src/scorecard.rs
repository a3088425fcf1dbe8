//! Scorecards: the forms by which people judge calls. It decides which forms can be, which answers a form takes,
//! and what they come to in percent. Where forms come from and who may judge, it does not decide; how
//! scores are kept beside a recording is [`crate::marks`]'s matter.
//!
//! Each question that counts gives a part of its best answer, from 0 to 1; the score is the mean of these
//! parts by weight. A question that does not fit a call is answered with nothing (`null`), and does not
//! count then. Texts never count.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Scorecards of one site.
pub const CARDS_MAX: usize = 100;
/// Questions of one scorecard.
pub const QUESTIONS_MAX: usize = 64;
/// Longest name of a scorecard, and id of a question, characters.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest text of a question, characters.
pub const TEXT_CHARS_MAX: usize = 500;
/// Most points, and greatest weight.
pub const NUMBER_MAX: u32 = 1000;
/// Longest answer in words, and longest comment, bytes of UTF-8.
pub const ANSWER_BYTES_MAX: usize = 1000;

/// What a question is answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A whole number of points, from 0 to `max`.
    #[default]
    Points,
    /// Yes, which is right, or no.
    YesNo,
    /// Words.
    Text,
}

/// A question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// By which answers name it.
    pub id: String,
    /// The question.
    pub text: String,
    /// What it is answered with.
    pub kind: Kind,
    /// The best that can be reached; of [`Kind::Points`] only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// How much it counts beside the others, 1 where it is left out; not of [`Kind::Text`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// A form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scorecard {
    /// Its name.
    pub name: String,
    /// What it asks, in this order.
    pub questions: Vec<Question>,
}

/// What is wrong with a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardFault {
    /// The question it is in, by its number from 1 on; none if it is the form's.
    pub question: Option<usize>,
    /// The key.
    pub key: &'static str,
    /// What it must be.
    pub must_be: String,
}

/// Answers that a form does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// No such question.
    #[error("`answers`: this scorecard has no question `{0}`")]
    Unknown(String),
    /// One was left out.
    #[error("`answers`: `{0}` is missing; answer with null what does not fit this call")]
    Missing(String),
    /// It cannot be answered so.
    #[error("`answers`: `{id}` must be {must_be}")]
    Wrong {
        /// Which.
        id: String,
        /// What it must be.
        must_be: String,
    },
    /// Nothing that counts was answered.
    #[error("`answers`: no question that counts is answered, so there is no score")]
    Nothing,
}

/// Answers that fit, and what they come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Rated {
    /// The answers, by question.
    pub answers: BTreeMap<String, Value>,
    /// In percent, to one digit behind the point.
    pub percent: f64,
}

impl Scorecard {
    /// All that is wrong with it; nothing if it is a form.
    #[must_use]
    pub fn faults(&self) -> Vec<CardFault> {
        let mut faults = Vec::new();
        let mut fault = |question, key, must_be: &str| {
            faults.push(CardFault { question, key, must_be: must_be.to_owned() });
        };
        if !is_name(&self.name) {
            fault(None, "name", "1 to 64 characters, without control characters");
        }
        if self.questions.is_empty() || self.questions.len() > QUESTIONS_MAX {
            fault(None, "questions", "1 to 64 questions");
        }
        let mut seen = BTreeSet::new();
        for (index, question) in self.questions.iter().enumerate() {
            let number = Some(index + 1);
            if !is_name(&question.id) {
                fault(number, "id", "1 to 64 characters, without control characters");
            } else if !seen.insert(question.id.as_str()) {
                fault(number, "id", "another than those before: each question has its own");
            }
            let length = question.text.chars().count();
            if !(1..=TEXT_CHARS_MAX).contains(&length)
                || question.text.chars().any(char::is_control)
            {
                fault(number, "text", "1 to 500 characters, without control characters");
            }
            let counted =
                |number: Option<u32>| number.is_none_or(|n| (1..=NUMBER_MAX).contains(&n));
            match (question.kind, question.max) {
                (Kind::Points, None) => fault(number, "max", "given: the best that can be reached"),
                (Kind::Points, max) if !counted(max) => fault(number, "max", "from 1 to 1000"),
                (Kind::YesNo | Kind::Text, Some(_)) => {
                    fault(number, "max", "left out: only points have it");
                }
                _ => {}
            }
            match (question.kind, question.weight) {
                (Kind::Text, Some(_)) => fault(number, "weight", "left out: words do not count"),
                (_, weight) if !counted(weight) => fault(number, "weight", "from 1 to 1000"),
                _ => {}
            }
        }
        if !self.questions.is_empty() && self.questions.iter().all(|asked| asked.kind == Kind::Text)
        {
            fault(None, "questions", "not only texts: there would be no score");
        }
        faults
    }

    /// What answers come to.
    ///
    /// # Errors
    /// [`AnswerError`] names the first that is wrong.
    pub fn rate(&self, answers: &Map<String, Value>) -> Result<Rated, AnswerError> {
        let is_asked = |id: &String| self.questions.iter().any(|question| question.id == *id);
        if let Some(id) = answers.keys().find(|id| !is_asked(id)) {
            return Err(AnswerError::Unknown(id.chars().take(NAME_CHARS_MAX).collect()));
        }
        let mut kept = BTreeMap::new();
        // The sum of all parts, in weights; and what it would be at best.
        let (mut sum, mut best) = (0.0, 0_u64);
        for question in &self.questions {
            let missing = || AnswerError::Missing(question.id.clone());
            let answer = match answers.get(&question.id) {
                Some(answer) => answer,
                // What is to be said in words need not be said.
                None if question.kind == Kind::Text => &Value::Null,
                None => return Err(missing()),
            };
            if answer.is_null() {
                continue;
            }
            if let Some(part) = question.part(answer)? {
                let weight = question.weight.unwrap_or(1);
                sum += part * f64::from(weight);
                best += u64::from(weight);
            }
            kept.insert(question.id.clone(), answer.clone());
        }
        if best == 0 {
            return Err(AnswerError::Nothing);
        }
        let percent = (sum / best as f64 * 1000.0).round() / 10.0;
        Ok(Rated { answers: kept, percent })
    }
}

impl Question {
    /// How much of its best an answer is, 0 to 1; nothing if it does not count.
    fn part(&self, answer: &Value) -> Result<Option<f64>, AnswerError> {
        let wrong = |must_be: String| AnswerError::Wrong { id: self.id.clone(), must_be };
        match self.kind {
            Kind::Points => {
                let max = self.max.unwrap_or(1).max(1);
                let points = answer.as_u64().filter(|points| *points <= u64::from(max));
                let told = || wrong(format!("a whole number from 0 to {max}"));
                Ok(Some(points.ok_or_else(told)? as f64 / f64::from(max)))
            }
            Kind::YesNo => {
                let yes = answer.as_bool().ok_or_else(|| wrong("true or false".to_owned()))?;
                Ok(Some(if yes { 1.0 } else { 0.0 }))
            }
            Kind::Text => {
                let fits = answer.as_str().is_some_and(is_prose);
                let told = || wrong(format!("a text of at most {ANSWER_BYTES_MAX} bytes"));
                if fits { Ok(None) } else { Err(told()) }
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let length = name.chars().count();
    (1..=NAME_CHARS_MAX).contains(&length)
        && !name.chars().any(char::is_control)
        && name.trim() == name
}

/// Whether it is a text that may be kept: not too long, and of control characters line ends only.
#[must_use]
pub fn is_prose(text: &str) -> bool {
    text.len() <= ANSWER_BYTES_MAX && text.chars().all(|c| !c.is_control() || c == '\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn card() -> Scorecard {
        serde_json::from_value(json!({
            "name": "Service",
            "questions": [
                { "id": "greeting", "text": "Greeted?", "kind": "yesno", "weight": 1 },
                { "id": "help", "text": "Helped?", "kind": "points", "max": 10, "weight": 3 },
                { "id": "words", "text": "What was good?", "kind": "text" },
            ],
        }))
        .unwrap()
    }

    fn rate(answers: &Value) -> Result<f64, String> {
        let rated = card().rate(answers.as_object().unwrap());
        rated.map(|rated| rated.percent).map_err(|error| error.to_string())
    }

    #[test]
    fn a_score_is_the_mean_by_weight() {
        assert_eq!(card().faults(), []);
        for (answers, percent) in [
            (json!({ "greeting": true, "help": 10 }), 100.0),
            (json!({ "greeting": false, "help": 0, "words": "nothing" }), 0.0),
            (json!({ "greeting": true, "help": 5 }), 62.5),
            (json!({ "greeting": true, "help": 3 }), 47.5),
            (json!({ "greeting": null, "help": 3 }), 30.0),
            (json!({ "greeting": true, "help": null, "words": null }), 100.0),
        ] {
            assert_eq!(rate(&answers), Ok(percent), "{answers}");
        }
    }

    #[test]
    fn answers_that_do_not_fit_are_named() {
        for (answers, said) in [
            (json!({ "greeting": true }), "`help` is missing"),
            (json!({ "greeting": 1, "help": 1 }), "`greeting` must be true or false"),
            (json!({ "greeting": true, "help": 11 }), "`help` must be a whole number from 0 to 10"),
            (json!({ "greeting": true, "help": 1.5 }), "`help` must be"),
            (json!({ "greeting": true, "help": -1 }), "`help` must be"),
            (json!({ "greeting": true, "help": "5" }), "`help` must be"),
            (json!({ "greeting": true, "help": 5, "words": 5 }), "`words` must be a text"),
            (json!({ "greeting": true, "help": 5, "words": "\u{7}" }), "`words` must be a text"),
            (json!({ "greeting": true, "help": 5, "more": 5 }), "no question `more`"),
            (json!({ "greeting": null, "help": null, "words": "x" }), "there is no score"),
        ] {
            let told = rate(&answers).unwrap_err();
            assert!(told.contains(said), "{answers}: {told}");
        }
        let rated = card().rate(json!({ "greeting": null, "help": 1 }).as_object().unwrap());
        assert_eq!(rated.unwrap().answers.keys().collect::<Vec<_>>(), ["help"]);
    }

    #[test]
    fn all_that_is_wrong_with_a_form_is_told() {
        let wrong: Scorecard = serde_json::from_value(json!({
            "name": " ",
            "questions": [
                { "id": "a", "text": "", "kind": "points" },
                { "id": "a", "text": "x", "kind": "yesno", "max": 3, "weight": 0 },
                { "id": "", "text": "x", "kind": "text", "weight": 1 },
                { "id": "d", "text": "x", "kind": "points", "max": 1001 },
            ],
        }))
        .unwrap();
        let told: Vec<_> =
            wrong.faults().into_iter().map(|fault| (fault.question, fault.key)).collect();
        let expected = [
            (None, "name"),
            (Some(1), "text"),
            (Some(1), "max"),
            (Some(2), "id"),
            (Some(2), "max"),
            (Some(2), "weight"),
            (Some(3), "id"),
            (Some(3), "weight"),
            (Some(4), "max"),
        ];
        assert_eq!(told, expected);
        let mut words = card();
        words.questions.retain(|question| question.kind == Kind::Text);
        assert_eq!(words.faults()[0].key, "questions");
        words.questions.clear();
        assert_eq!(words.faults()[0].must_be, "1 to 64 questions");
    }

    proptest! {
        #[test]
        fn a_score_is_a_percentage(yes: bool, points in 0_u32..=10, words in ".{0,30}") {
            let answers = json!({ "greeting": yes, "help": points, "words": words });
            if let Ok(rated) = card().rate(answers.as_object().unwrap()) {
                prop_assert!((0.0..=100.0).contains(&rated.percent));
                let shown = (rated.percent * 10.0).round() / 10.0;
                prop_assert_eq!(shown, rated.percent);
            }
        }
    }
}
