//! `[[al_scorecard]]`: the forms by which calls are judged, from the file's tables. Here their keys and the
//! kinds of values are checked; which forms can be is decided in [`storage_core::scorecard`].

use std::collections::BTreeSet;

use storage_core::scorecard::{CARDS_MAX, CardFault, Kind, QUESTIONS_MAX, Question, Scorecard};

use super::keys;
use super::reader::{Reader, choice};
use super::remark::Remark;

const CARD_KEYS: [&str; 2] = ["name", "questions"];
const QUESTION_KEYS: [&str; 5] = ["id", "text", "kind", "max", "weight"];
const KINDS: [(&str, Kind); 3] =
    [("points", Kind::Points), ("yesno", Kind::YesNo), ("text", Kind::Text)];

pub(super) fn read(reader: &mut Reader) -> Vec<Scorecard> {
    let tables = match reader.given("al_scorecard").map(|given| given.value.clone()) {
        None => return Vec::new(),
        Some(toml::Value::Array(tables)) if tables.len() <= CARDS_MAX => tables,
        Some(toml::Value::Array(_)) => {
            let wrong = format!("more than {CARDS_MAX} scorecards");
            reader.refuse("al_scorecard", wrong, "remove some");
            return Vec::new();
        }
        Some(_) => {
            let remedy = "begin each scorecard with [[al_scorecard]]";
            reader.refuse_value("al_scorecard", "a list of tables", remedy);
            return Vec::new();
        }
    };
    let cards: Vec<Scorecard> = tables
        .iter()
        .enumerate()
        .map(|(index, table)| CardReader { reader, place: place(index, table) }.card(table))
        .collect();
    let mut names = BTreeSet::new();
    for card in cards.iter().filter(|card| !names.insert(card.name.as_str())) {
        let place = format!("al_scorecard {:?}", card.name);
        let remedy = "give each scorecard its own name";
        reader.refuse_remark(Remark::new(&place, "is there twice", remedy));
    }
    cards
}

/// How a scorecard is named in a remark.
fn place(index: usize, table: &toml::Value) -> String {
    match table.get("name").and_then(toml::Value::as_str) {
        Some(name) => format!("al_scorecard {name:?}"),
        None => format!("al_scorecard number {}", index + 1),
    }
}

/// Reads one scorecard and says where in it a mistake is.
struct CardReader<'a> {
    reader: &'a mut Reader,
    place: String,
}

impl CardReader<'_> {
    fn card(&mut self, value: &toml::Value) -> Scorecard {
        let mut card = Scorecard::default();
        let Some(table) = value.as_table() else {
            let remedy = "begin each scorecard with [[al_scorecard]]";
            self.refuse("", "a table", remedy, value);
            return card;
        };
        // What cannot be read is not told of a second time.
        let mut unread = BTreeSet::new();
        for (key, value) in table {
            match key.as_str() {
                "name" => card.name = self.text(None, "name", value, &mut unread),
                "questions" => card.questions = self.questions(value, &mut unread),
                _ => self.unknown("", key, &CARD_KEYS),
            }
        }
        for CardFault { question, key, must_be } in card.faults() {
            if !unread.contains(&(question, key)) {
                let place = within(question, key);
                let remark = Remark::new(
                    &format!("{}, {place}", self.place),
                    format!("must be {must_be}"),
                    "mend it; the example configuration has one that is right",
                );
                self.reader.refuse_remark(remark);
            }
        }
        card
    }

    fn questions(&mut self, value: &toml::Value, unread: &mut Unread) -> Vec<Question> {
        let Some(list) = value.as_array().filter(|list| list.len() <= QUESTIONS_MAX) else {
            unread.insert((None, "questions"));
            let must_be = format!("a list of at most {QUESTIONS_MAX} tables");
            let remedy = "write questions = [{ id = \"…\", text = \"…\", kind = \"yesno\" }]";
            self.refuse("questions", &must_be, remedy, value);
            return Vec::new();
        };
        let numbered = list.iter().enumerate();
        numbered.map(|(index, table)| self.question(index + 1, table, unread)).collect()
    }

    fn question(&mut self, number: usize, value: &toml::Value, unread: &mut Unread) -> Question {
        let mut question = Question::default();
        let Some(table) = value.as_table() else {
            for key in QUESTION_KEYS {
                unread.insert((Some(number), key));
            }
            let remedy = "write { id = \"…\", text = \"…\", kind = \"yesno\" }";
            self.refuse(&format!("question {number}"), "a table", remedy, value);
            return question;
        };
        let place = Some(number);
        if !table.contains_key("kind") {
            let remark = Remark::new(
                &format!("{}, {}", self.place, within(place, "kind")),
                "is missing",
                "write kind = \"points\", \"yesno\" or \"text\"",
            );
            self.reader.refuse_remark(remark);
            unread.extend([(place, "max"), (place, "weight")]);
        }
        for (key, value) in table {
            match key.as_str() {
                "id" => question.id = self.text(place, "id", value, unread),
                "text" => question.text = self.text(place, "text", value, unread),
                "kind" => question.kind = self.kind(number, value, unread),
                "max" => question.max = self.number(number, "max", value, unread),
                "weight" => question.weight = self.number(number, "weight", value, unread),
                _ => self.unknown(&format!("question {number}, "), key, &QUESTION_KEYS),
            }
        }
        question
    }

    fn text(
        &mut self,
        question: Option<usize>,
        key: &'static str,
        value: &toml::Value,
        unread: &mut Unread,
    ) -> String {
        if let Some(text) = value.as_str() {
            return text.trim().to_owned();
        }
        unread.insert((question, key));
        self.refuse(&within(question, key), "a text", &format!("write {key} = \"…\""), value);
        String::new()
    }

    fn kind(&mut self, number: usize, value: &toml::Value, unread: &mut Unread) -> Kind {
        let written = value.as_str().unwrap_or_default();
        if let Some((_, kind)) = KINDS.iter().find(|(word, _)| *word == written) {
            return *kind;
        }
        let place = Some(number);
        unread.extend([(place, "max"), (place, "weight"), (None, "questions")]);
        let (must_be, remedy) = choice(written, KINDS.iter().map(|(word, _)| *word));
        self.refuse(&within(place, "kind"), &must_be, &remedy, value);
        Kind::default()
    }

    fn number(
        &mut self,
        number: usize,
        key: &'static str,
        value: &toml::Value,
        unread: &mut Unread,
    ) -> Option<u32> {
        let found = value.as_integer().and_then(|found| u32::try_from(found).ok());
        if found.is_none() {
            let place = Some(number);
            unread.insert((place, key));
            let remedy = format!("write {key} = 10");
            self.refuse(&within(place, key), "a whole number from 1 to 1000", &remedy, value);
        }
        found
    }

    fn refuse(&mut self, place: &str, must_be: &str, remedy: &str, value: &toml::Value) {
        let whole = if place.is_empty() { String::new() } else { format!(", {place}") };
        let place = format!("{}{whole}", self.place);
        let remark = Remark::new(&place, format!("must be {must_be}"), remedy);
        self.reader.refuse_remark(remark.showing(value));
    }

    /// The value is not shown: a parameter that slipped in here may be a password.
    fn unknown(&mut self, within: &str, key: &str, known: &[&'static str]) {
        let remedy = match keys::find(key) {
            Some(_) => "move it above the first heading: what follows one belongs to it".to_owned(),
            None => match keys::nearest(key, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("there are {}", known.join(", ")),
            },
        };
        let place = format!("{}, {within}{key}", self.place);
        self.reader.refuse_remark(Remark::new(&place, "no key of a scorecard", remedy));
    }
}

/// Keys that could not be read, by question.
type Unread = BTreeSet<(Option<usize>, &'static str)>;

fn within(question: Option<usize>, key: &str) -> String {
    question.map_or_else(|| key.to_owned(), |number| format!("question {number}, {key}"))
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Scorecard>, Vec<String>> {
        let source = Source { text: text.to_owned(), ..Source::default() };
        let mut reader = Reader::new(&source);
        let cards = read(&mut reader);
        let (wrong, _) = reader.finish();
        let told: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        if told.is_empty() { Ok(cards) } else { Err(told) }
    }

    #[test]
    fn forms_are_read_in_their_order() {
        assert_eq!(read_text(""), Ok(Vec::new()));
        let text = "[[al_scorecard]]\nname = \"Service\"\n\
            [[al_scorecard.questions]]\nid = \"greeting\"\ntext = \"Greeted?\"\nkind = \"yesno\"\n\
            [[al_scorecard.questions]]\nid = \"help\"\ntext = \"Helped?\"\nkind = \"points\"\nmax = 10\nweight = 3\n\
            [[al_scorecard]]\nname = \"Sales\"\n\
            questions = [{ id = \"a\", text = \"Sold?\", kind = \"yesno\" }, { id = \"b\", text = \"What?\", kind = \"text\" }]\n";
        let cards = read_text(text).unwrap();
        assert_eq!(
            cards.iter().map(|card| card.name.as_str()).collect::<Vec<_>>(),
            ["Service", "Sales"]
        );
        let help = &cards[0].questions[1];
        assert_eq!((help.kind, help.max, help.weight), (Kind::Points, Some(10), Some(3)));
        assert_eq!(cards[1].questions[1].kind, Kind::Text);
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let told = read_text(
            "[[al_scorecard]]\nname = 7\nquestion = []\nquestions = [\n\
             { id = \"a\", text = \"x\", kind = \"yes\" },\n\
             { id = \"a\", text = \"x\", kind = \"points\", max = \"ten\", wieght = 1 },\n\
             { id = \"b\", text = \"\", kind = \"points\" },\n\
             7, { id = \"c\", text = \"x\" } ]\n\
             [[al_scorecard]]\nname = \"Twice\"\nquestions = [{ id = \"a\", text = \"x\", kind = \"yesno\", max = 1 }]\n\
             [[al_scorecard]]\nname = \"Twice\"\nquestions = []\nal_aespassword = \"secret\"\n",
        )
        .unwrap_err();
        let expected = [
            ("number 1, name", "must be a text"),
            ("number 1, question", "did you mean questions?"),
            ("question 1, kind", "yesno"),
            ("question 2, id", "another than those before"),
            ("question 2, max", "whole number"),
            ("question 2, wieght", "did you mean weight?"),
            ("question 3, text", "1 to 500 characters"),
            ("question 3, max", "given"),
            ("question 4", "must be a table"),
            ("question 5, kind", "is missing"),
            ("\"Twice\", question 1, max", "left out"),
            ("\"Twice\", questions", "1 to 64 questions"),
            ("\"Twice\", al_aespassword", "move it above"),
            ("\"Twice\"", "is there twice"),
        ];
        for (place, what) in expected {
            let found = told.iter().any(|line| line.contains(place) && line.contains(what));
            assert!(found, "{place} {what}: {told:#?}");
        }
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        assert!(!told.concat().contains("secret"), "{told:?}");
    }
}
