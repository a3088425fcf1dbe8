//! Which bytes an HTTP request asks for (RFC 9110, section 14) and whether it has them already
//! (section 13). Pure: header texts in, decision out. Several ranges at once are answered with the
//! whole, as 14.2 allows: no player needs them, and they are a known way to make a server work.

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of it, status 200.
    Whole,
    /// This part, status 206. Never empty.
    Part {
        /// First byte.
        first: u64,
        /// Last byte, included.
        last: u64,
    },
    /// Status 416.
    Unsatisfiable,
}

/// Reads a `Range` header for something of `bytes` bytes. A header that is not understood is
/// ignored, as 14.2 asks.
pub fn select(range: Option<&str>, bytes: u64) -> Selection {
    let Some(set) = range.and_then(in_bytes) else { return Selection::Whole };
    match set.split_once('-') {
        Some(("", suffix)) => match digits(suffix) {
            None => Selection::Whole,
            Some(0) => Selection::Unsatisfiable,
            Some(_) if bytes == 0 => Selection::Unsatisfiable,
            Some(count) => Selection::Part { first: bytes.saturating_sub(count), last: bytes - 1 },
        },
        Some((first, last)) => match (digits(first), last) {
            (None, _) => Selection::Whole,
            (Some(first), "") => part(first, u64::MAX, bytes),
            (Some(first), last) => match digits(last) {
                Some(last) if first <= last => part(first, last, bytes),
                _ => Selection::Whole,
            },
        },
        None => Selection::Whole,
    }
}

fn in_bytes(header: &str) -> Option<&str> {
    let (unit, set) = header.split_once('=')?;
    (unit.trim().eq_ignore_ascii_case("bytes") && !set.contains(',')).then(|| set.trim())
}

fn part(first: u64, last: u64, bytes: u64) -> Selection {
    if first >= bytes {
        return Selection::Unsatisfiable;
    }
    Selection::Part { first, last: last.min(bytes - 1) }
}

/// Decimal digits alone; a number too great to count is as good as the greatest.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Whether an `If-None-Match` header names `etag` (weak comparison, 8.8.3.2).
pub fn none_match_hits(header: &str, etag: &str) -> bool {
    header.split(',').map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// Whether an `If-Range` header lets the range count: only the very tag does (strong comparison).
/// A date never does, since we tell none.
pub fn if_range_holds(header: &str, etag: &str) -> bool {
    etag == header.trim()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges() {
        use Selection::{Part, Unsatisfiable, Whole};
        let cases = [
            ("bytes=0-0", 10, Part { first: 0, last: 0 }),
            ("bytes=0-9", 10, Part { first: 0, last: 9 }),
            ("bytes=3-", 10, Part { first: 3, last: 9 }),
            ("bytes=3-100", 10, Part { first: 3, last: 9 }),
            ("Bytes= 3-4 ", 10, Part { first: 3, last: 4 }),
            ("bytes=-3", 10, Part { first: 7, last: 9 }),
            ("bytes=-100", 10, Part { first: 0, last: 9 }),
            ("bytes=9-99999999999999999999999", 10, Part { first: 9, last: 9 }),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-20", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-1", 0, Unsatisfiable),
            ("bytes=4-3", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1-2-3", 10, Whole),
            ("items=0-1", 10, Whole),
            ("0-1", 10, Whole),
            ("", 10, Whole),
        ];
        for (header, bytes, expected) in cases {
            assert_eq!(select(Some(header), bytes), expected, "{header} of {bytes}");
        }
        assert_eq!(select(None, 10), Whole);
    }

    #[test]
    fn tags() {
        let etag = "\"abc\"";
        for (header, expected) in [
            ("\"abc\"", true),
            ("W/\"abc\"", true),
            ("\"x\", \"abc\"", true),
            ("*", true),
            ("abc", false),
            ("\"x\"", false),
            ("", false),
        ] {
            assert_eq!(none_match_hits(header, etag), expected, "{header}");
        }
        assert!(if_range_holds("\"abc\"", etag));
        for header in ["W/\"abc\"", "\"x\"", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert!(!if_range_holds(header, etag), "{header}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_always_inside(header in ".{0,40}|bytes=[0-9]{0,22}-[0-9]{0,22}", bytes: u64) {
            if let Selection::Part { first, last } = select(Some(&header), bytes) {
                prop_assert!(first <= last && last < bytes);
            }
        }
    }
}
