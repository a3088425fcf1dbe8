//! Whether two members' phantoms overlap. Ranges are written as in `al_phantoms`: `78001` or
//! `78001-78050`; numbers are compared as digits of one length, because leading zeros count.

/// The first pair of ranges that share a number.
pub(crate) fn overlap<'a>(ours: &'a [String], theirs: &'a [String]) -> Option<(&'a str, &'a str)> {
    let pairs = ours.iter().flat_map(|a| theirs.iter().map(move |b| (a.as_str(), b.as_str())));
    pairs.into_iter().find(|(a, b)| {
        let ((a_low, a_high), (b_low, b_high)) = (bounds(a), bounds(b));
        a_low.len() == b_low.len() && a_low <= b_high && b_low <= a_high
    })
}

fn bounds(range: &str) -> (&str, &str) {
    match range.split_once('-') {
        Some((low, high)) => (low.trim(), high.trim()),
        None => (range.trim(), range.trim()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_overlap_only_in_numbers_of_one_length() {
        let cases = [
            ("78001-78050", "78050-78099", true),
            ("78001-78050", "78051", false),
            ("78001-78050", "7802", false),
            ("78020", "78001-78050", true),
            ("078020", "78020", false),
        ];
        for (a, b, expected) in cases {
            assert_eq!(overlap(&[a.into()], &[b.into()]).is_some(), expected, "{a} {b}");
        }
    }
}
