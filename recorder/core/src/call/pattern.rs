//! Patterns for numbers in rules: one number, a range of numbers of one length, or a prefix.

use std::fmt;
use std::str::FromStr;

/// What a number must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `31002`: this number.
    Exact(String),
    /// `31001-31050`: numbers of this length between the two, both included.
    Range(String, String),
    /// `85*`: numbers that begin so; `*` alone: any.
    Prefix(String),
}

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Nothing is written.
    #[error("is empty; write a number (31002), a range (31001-31050) or a prefix (85*)")]
    Empty,
    /// A star that is not the last character.
    #[error(
        "{0:?} has a * that is not its last character; only prefixes such as 85* are understood"
    )]
    Star(String),
    /// A range whose ends are not digits of one length.
    #[error("range {0:?} needs two numbers of digits and of one length, such as 31001-31050")]
    Range(String),
    /// A range that ends before it begins.
    #[error("range {0:?} ends before it begins; write the lower number first")]
    Backwards(String),
}

impl Pattern {
    /// Whether a number is like this. Digits of one length are in numeric order when they are in
    /// the order of texts, so no number is too long for a range.
    #[must_use]
    pub fn matches(&self, number: &str) -> bool {
        match self {
            Self::Exact(exact) => number == exact,
            Self::Prefix(prefix) => number.starts_with(prefix.as_str()) && !number.is_empty(),
            Self::Range(low, high) => {
                number.len() == low.len()
                    && is_digits(number)
                    && (low.as_str()..=high.as_str()).contains(&number)
            }
        }
    }
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        let text = text.trim();
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        if let Some(prefix) = text.strip_suffix('*') {
            if prefix.contains('*') {
                return Err(InvalidPattern::Star(text.to_owned()));
            }
            return Ok(Self::Prefix(prefix.to_owned()));
        }
        if text.contains('*') {
            return Err(InvalidPattern::Star(text.to_owned()));
        }
        let Some((low, high)) = text.split_once('-') else {
            return Ok(Self::Exact(text.to_owned()));
        };
        let (low, high) = (low.trim(), high.trim());
        if !is_digits(low) || !is_digits(high) || low.len() != high.len() {
            return Err(InvalidPattern::Range(text.to_owned()));
        }
        if low > high {
            return Err(InvalidPattern::Backwards(text.to_owned()));
        }
        Ok(Self::Range(low.to_owned(), high.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Range(low, high) => write!(f, "{low}-{high}"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_numbers() {
        let cases = [
            ("31002", "31002", true),
            ("31002", "310020", false),
            ("31001-31050", "31001", true),
            ("31001-31050", "31050", true),
            ("31001-31050", "31051", false),
            ("31001-31050", "3105", false),
            ("31001-31050", "3100x", false),
            ("85*", "85123", true),
            ("85*", "8", false),
            ("*", "1", true),
            ("*", "", false),
            ("0000-0099", "0042", true),
        ];
        for (pattern, number, matches) in cases {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(number), matches, "{pattern} {number}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in ["", " ", "8*5", "**", "31001-3105", "31050-31001", "a-b", "-", "1-"] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong:?}");
        }
    }
}
