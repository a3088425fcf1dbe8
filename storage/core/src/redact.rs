//! Telephone numbers and names do not belong in logs. `Redacted` prints how many characters there
//! are and the last two of them, enough to follow one call through a log and too little to call.

use std::fmt;

/// A private text on its way into a log line.
pub struct Redacted<'a>(pub &'a str);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.chars().count();
        if count <= 4 {
            return f.write_str(&"*".repeat(count));
        }
        f.write_str(&"*".repeat(count - 2))?;
        self.0.chars().skip(count - 2).try_for_each(|c| write!(f, "{c}"))
    }
}

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_last_two_characters_are_hidden() {
        assert_eq!(Redacted("5551230001").to_string(), "********01");
        assert_eq!(Redacted("3100").to_string(), "****");
        assert_eq!(format!("{:?}", Redacted("")), "");
    }
}
