//! Texts as PostgreSQL can keep them: it refuses U+0000 in a text and its escape in jsonb. It decides how such a
//! text is written, so that it comes back as it was, and that a part of a text is a part of what is written.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Stands before what is not written as it is. It is a control character that means just that (SUBSTITUTE).
const MARK: char = '\u{1a}';

/// A text as it is written.
pub(super) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match letter {
            '\0' => written.extend([MARK, '0']),
            MARK => written.extend([MARK, '1']),
            letter => written.push(letter),
        }
    }
    Cow::Owned(written)
}

/// A text as it was before it was written.
pub(super) fn unstored(written: &str) -> String {
    let mut text = String::with_capacity(written.len());
    let mut letters = written.chars();
    while let Some(letter) = letters.next() {
        match letter {
            MARK => match letters.next() {
                Some('0') => text.push('\0'),
                Some('1') => text.push(MARK),
                // Nobody writes this.
                other => text.extend([Some(MARK), other].into_iter().flatten()),
            },
            letter => text.push(letter),
        }
    }
    text
}

/// The same with all texts in a value, names of members included.
pub(super) fn stored_value(value: Value) -> Value {
    each_text(value, &|text| stored(&text).into_owned())
}

/// The value as it was.
pub(super) fn unstored_value(value: Value) -> Value {
    each_text(value, &|text| unstored(&text))
}

fn each_text(value: Value, change: &impl Fn(String) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.into_iter().map(|item| each_text(item, change)).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            let changed = members.map(|(name, value)| (change(name), each_text(value, change)));
            Value::Object(changed.collect::<Map<_, _>>())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn any_text_comes_back_and_has_no_nul(text in "(\\PC|\u{0}|\u{1a}|0|1){0,12}") {
            let written = stored(&text);
            prop_assert!(!written.contains('\0'));
            prop_assert_eq!(unstored(&written), text);
        }

        #[test]
        fn a_part_of_a_text_is_a_part_of_what_is_written(
            before in "[\u{0}\u{1a}01a]{0,4}", part in "[\u{0}\u{1a}01a]{0,4}", after in "[\u{0}\u{1a}01a]{0,4}",
        ) {
            let whole = format!("{before}{part}{after}");
            prop_assert!(stored(&whole).contains(&*stored(&part)));
        }
    }

    #[test]
    fn all_of_a_value_is_written_so() {
        let value = json!({"a\0": ["\0", {"b": "\u{1a}"}, 7, null, 1.0]});
        let written = stored_value(value.clone());
        assert!(!written.to_string().contains("\\u0000"), "{written}");
        assert_eq!(unstored_value(written), value);
    }
}
