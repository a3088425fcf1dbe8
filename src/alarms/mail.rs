//! Alarms as a mail: all that waits in one message. Pure; how it reaches the server is `smtp`'s matter, and
//! when, the outbox's.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use storage_core::{NodeId, WallTime};

use super::known::{self, Severity};
use super::outbox::Notice;
use crate::config::Mail;

/// What stands above the message: the gravest thing in it.
fn subject(node: NodeId, notices: &[Notice]) -> String {
    let raised = notices.iter().filter(|notice| notice.change.raised);
    let gravest = raised.rev().max_by_key(|notice| known::severity(notice.change.alarm.name));
    let others = match notices.len().saturating_sub(1) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let what = match (gravest, notices.first()) {
        (Some(notice), _) => {
            let name = notice.change.alarm.name;
            format!("{}: {name}", known::severity(name).as_str())
        }
        (None, Some(notice)) => format!("over: {}", notice.change.alarm.name),
        (None, None) => "nothing".to_owned(),
    };
    format!("AstLogger node {node}: {what}{others}")
}

fn text(notices: &[Notice]) -> String {
    let mut text = String::new();
    for notice in notices {
        let change = &notice.change;
        let alarm = &change.alarm;
        let about = match alarm.subject.as_str() {
            "" => String::new(),
            subject => format!(" ({subject})"),
        };
        let critical = known::severity(alarm.name) == Severity::Critical;
        let grave = if critical { "CRITICAL " } else { "" };
        let (at, name) = (change.at, alarm.name);
        let written = if change.raised {
            let (message, remedy) = (&alarm.message, alarm.remedy);
            write!(text, "{at} {grave}{name}{about}\n  {message}\n  What to do: {remedy}\n\n")
        } else {
            write!(text, "{at} over: {name}{about}\n\n")
        };
        written.expect("a string takes everything");
    }
    text
}

/// The whole message (RFC 5322), its body in quoted-printable, so that no line is too long for a mail
/// server and every letter arrives. The addresses were checked when the configuration was read.
pub(super) fn message(mail: &Mail, node: NodeId, now: WallTime, notices: &[Notice]) -> String {
    let date = Timestamp::from_millisecond(now.as_millis()).unwrap_or_default();
    let date = rfc2822::to_string(&date.to_zoned(jiff::tz::TimeZone::UTC)).unwrap_or_default();
    let number = notices.last().map_or(0, |notice| notice.number);
    let domain = mail.from.rsplit('@').next().unwrap_or_default();
    format!(
        "From: AstLogger <{from}>\r\nTo: {to}\r\nSubject: {subject}\r\nDate: {date}\r\n\
         Message-ID: <astlogger-{node}-{number}-{at}@{domain}>\r\nAuto-Submitted: auto-generated\r\n\
         MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n{body}",
        from = mail.from,
        to = mail.to.join(",\r\n "),
        subject = subject(node, notices),
        at = now.as_micros(),
        body = quoted_printable(&text(notices)),
    )
}

/// RFC 2045 section 6.7, with lines of at most 76 characters, which end in CR LF.
fn quoted_printable(text: &str) -> String {
    const LINE_MAX: usize = 76;
    let mut encoded = String::new();
    for line in text.lines() {
        let mut column = 0;
        let last = line.len().saturating_sub(1);
        for (index, byte) in line.bytes().enumerate() {
            let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~') || byte == b' ' && index != last;
            let piece = if plain { char::from(byte).to_string() } else { format!("={byte:02X}") };
            // Room for the mark that the line goes on.
            if column + piece.len() >= LINE_MAX {
                encoded.push_str("=\r\n");
                column = 0;
            }
            column += piece.len();
            encoded.push_str(&piece);
        }
        encoded.push_str("\r\n");
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::super::Alarm;
    use super::super::outbox::Change;
    use super::*;

    fn notice(raised: bool, name: &'static str) -> Notice {
        let message = format!("what {name} means");
        let alarm = Alarm { name, subject: "s".to_owned(), message, remedy: "look" };
        Notice { number: 1, change: Change { raised, alarm, at: WallTime::from_millis(0) } }
    }

    #[test]
    fn the_gravest_thing_stands_above_the_message() {
        let node = NodeId(2);
        for (notices, expected) in [
            (vec![notice(true, "catalog")], "AstLogger node 2: warning: catalog"),
            (
                vec![notice(true, "catalog"), notice(true, "diskfull"), notice(false, "aesdown")],
                "AstLogger node 2: critical: diskfull and 2 more",
            ),
            (vec![notice(false, "aesdown")], "AstLogger node 2: over: aesdown"),
        ] {
            assert_eq!(subject(node, &notices), expected);
        }
    }

    #[test]
    fn a_body_is_of_short_lines_of_plain_letters() {
        for (text, encoded) in [
            ("a = b\n", "a =3D b\r\n"),
            ("ä\n", "=C3=A4\r\n"),
            ("a \n", "a=20\r\n"),
            ("a\n\nb", "a\r\n\r\nb\r\n"),
        ] {
            assert_eq!(quoted_printable(text), encoded, "{text:?}");
        }
        let long = quoted_printable(&"ä=x".repeat(200));
        assert!(long.lines().all(|line| line.len() <= 76), "{long}");
        assert_eq!(long.replace("=\r\n", ""), "=C3=A4=3Dx".repeat(200) + "\r\n");
    }
}
