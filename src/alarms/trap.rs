//! An alarm as an SNMPv2 trap: the bytes of the message (RFC 3416 section 4.2.6, BER of X.690), with the
//! objects of `docs/ASTLOGGER-MIB.txt`. Pure; the datagram is sent elsewhere.

use std::time::Duration;

use storage_core::NodeId;

use super::known::Severity;
use super::outbox::Notice;

/// Where the MIB hangs. AstLogger has no enterprise number of its own; this is below net-snmp's arc
/// for whoever has none (netSnmpPlaypen). A number that is assigned one day changes here and in the MIB.
const ROOT: &[u32] = &[1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 7400];
const SYS_UP_TIME: &[u32] = &[1, 3, 6, 1, 2, 1, 1, 3, 0];
const SNMP_TRAP_OID: &[u32] = &[1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];
/// Version field of an SNMPv2c message (RFC 1901).
const VERSION_2C: i64 = 1;
/// Longest text of the MIB; so a trap stays within what every receiver takes (RFC 3417: 484 bytes at
/// least, in practice a datagram).
const TEXT_MAX: usize = 255;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const UNSIGNED32: u8 = 0x42;
const TIME_TICKS: u8 = 0x43;
const TRAP_V2: u8 = 0xa7;

/// The whole message. `up` is how long the sender has been running.
#[must_use]
pub fn message(
    community: &str,
    node: NodeId,
    severity: Severity,
    up: Duration,
    notice: &Notice,
) -> Vec<u8> {
    let change = &notice.change;
    let alarm = &change.alarm;
    let trap = [ROOT, &[0, if change.raised { 1 } else { 2 }]].concat();
    // Hundredths of a second, which wrap after 497 days.
    let ticks = (up.as_millis() / 10) as u32;
    let severity = match severity {
        Severity::Warning => 1,
        Severity::Critical => 2,
    };
    let number = (notice.number & 0x7fff_ffff) as i64;
    let bindings = [
        binding(SYS_UP_TIME, &unsigned(TIME_TICKS, ticks)),
        binding(SNMP_TRAP_OID, &identifier(&trap)),
        object(1, &text(alarm.name)),
        object(2, &text(&alarm.subject)),
        object(3, &text(&alarm.message)),
        object(4, &text(alarm.remedy)),
        object(5, &integer(severity)),
        object(6, &unsigned(UNSIGNED32, u32::from(node.0))),
        object(7, &text(&change.at.to_string())),
    ];
    let pdu = [integer(number), integer(0), integer(0), tagged(SEQUENCE, &bindings.concat())];
    let pdu = tagged(TRAP_V2, &pdu.concat());
    let message = [integer(VERSION_2C), tagged(OCTET_STRING, community.as_bytes()), pdu];
    tagged(SEQUENCE, &message.concat())
}

/// One of the MIB's scalars.
fn object(number: u32, value: &[u8]) -> Vec<u8> {
    binding(&[ROOT, &[1, number, 0]].concat(), value)
}

fn binding(name: &[u32], value: &[u8]) -> Vec<u8> {
    tagged(SEQUENCE, &[&identifier(name), value].concat())
}

/// As much of it as there is room for, in whole characters.
fn text(text: &str) -> Vec<u8> {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    tagged(OCTET_STRING, &text.as_bytes()[..end])
}

fn integer(value: i64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    tagged(INTEGER, &bytes[superfluous(&bytes)..])
}

/// Of the types that have no sign; a first bit that is set would be one.
fn unsigned(tag: u8, value: u32) -> Vec<u8> {
    let bytes = i64::from(value).to_be_bytes();
    tagged(tag, &bytes[superfluous(&bytes)..])
}

/// How many of the first bytes say nothing (X.690 section 8.3.2).
fn superfluous(bytes: &[u8; 8]) -> usize {
    let says_nothing = |pair: &&[u8]| {
        let sign = pair[1] & 0x80;
        (pair[0] == 0 && sign == 0) || (pair[0] == 0xff && sign != 0)
    };
    bytes.windows(2).take_while(says_nothing).count()
}

/// X.690 section 8.19. All of this file begin with 1.3.
fn identifier(arcs: &[u32]) -> Vec<u8> {
    let mut bytes = vec![0x2b];
    for arc in &arcs[2..] {
        let groups = (0..5).rev().map(|group| (arc >> (7 * group) & 0x7f) as u8);
        let groups: Vec<_> = groups.skip_while(|group| *group == 0).collect();
        match groups.split_last() {
            None => bytes.push(0),
            Some((last, others)) => {
                bytes.extend(others.iter().map(|group| group | 0x80));
                bytes.push(*last);
            }
        }
    }
    tagged(OBJECT_IDENTIFIER, &bytes)
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    match content.len() {
        length @ 0..=0x7f => bytes.push(length as u8),
        length => {
            let wide = length.to_be_bytes();
            let from = wide.iter().take_while(|byte| **byte == 0).count();
            bytes.push(0x80 | (wide.len() - from) as u8);
            bytes.extend(&wide[from..]);
        }
    }
    bytes.extend(content);
    bytes
}

#[cfg(test)]
mod tests {
    use storage_core::WallTime;

    use super::super::Alarm;
    use super::super::outbox::Change;
    use super::*;

    #[test]
    fn numbers_are_as_short_as_x690_wants_them() {
        for (value, bytes) in [
            (0, &[2, 1, 0][..]),
            (127, &[2, 1, 127]),
            (128, &[2, 2, 0, 128]),
            (256, &[2, 2, 1, 0]),
            (-1, &[2, 1, 0xff]),
            (-129, &[2, 2, 0xff, 0x7f]),
        ] {
            assert_eq!(integer(value), bytes, "{value}");
        }
        assert_eq!(unsigned(TIME_TICKS, u32::MAX), [0x43, 5, 0, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn identifiers_and_lengths_are_as_in_the_standard() {
        // sysUpTime.0, as every trap on any wire has it.
        assert_eq!(identifier(SYS_UP_TIME), [6, 8, 0x2b, 6, 1, 2, 1, 1, 3, 0]);
        assert_eq!(identifier(&[1, 3, 8072, 0]), [6, 4, 0x2b, 0xbf, 0x08, 0]);
        assert_eq!(tagged(4, &[0; 127])[..2], [4, 0x7f]);
        assert_eq!(tagged(4, &[0; 128])[..3], [4, 0x81, 0x80]);
        assert_eq!(tagged(4, &[0; 300])[..4], [4, 0x82, 1, 0x2c]);
    }

    #[test]
    fn long_texts_are_cut_between_characters_and_the_message_fits_a_datagram() {
        let alarm = Alarm {
            name: "nomedia",
            subject: "ä".repeat(400),
            message: "ö".repeat(400),
            remedy: "look",
        };
        let change = Change { raised: true, alarm, at: WallTime::from_millis(0) };
        let notice = Notice { number: u64::MAX, change };
        let up = Duration::from_secs(u64::from(u32::MAX));
        let bytes = message("public", NodeId(1), Severity::Critical, up, &notice);
        assert!(bytes.len() < 1400, "{}", bytes.len());
        assert_eq!(text(&"ä".repeat(400)).len(), 3 + 254);
    }
}
