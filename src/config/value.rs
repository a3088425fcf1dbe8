//! The small languages inside values: spans of time, sizes, ranges of extensions and of ports,
//! addresses. Pure: text in, value or reason out.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use storage_core::Extension;

/// Most extensions that one key may name: a switch of this size has several recorders.
pub const EXTENSIONS_MAX: usize = 10_000;
/// Longest extension or agent number that a switch knows.
const EXTENSION_DIGITS_MAX: usize = 16;

/// Why a text is not what it should be: words that go on after "must be".
pub(crate) type Reason = String;

/// A span of time: a number with a unit, or in `unit_ms` where it has none.
pub(super) fn span(text: &str, unit_ms: u64) -> Result<Duration, Reason> {
    let (number, unit) = number_and_unit(text);
    let ms_each = match unit {
        "" => unit_ms,
        "ms" => 1,
        "s" => 1_000,
        "min" | "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("a span of time such as \"300 ms\", \"30 s\" or \"5 min\"".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(ms_each))
        .map(Duration::from_millis)
        .ok_or_else(|| "a span of time such as \"300 ms\", \"30 s\" or \"5 min\"".to_owned())
}

fn number_and_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// How much of a disk is to stay free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskShare {
    /// A part of the file system, 0 to 99.
    Percent(u8),
    /// A number of bytes.
    Bytes(u64),
}

impl DiskShare {
    /// What it comes to on a file system of this size.
    #[must_use]
    pub const fn bytes_of(self, total: u64) -> u64 {
        match self {
            Self::Percent(percent) => total / 100 * percent as u64,
            Self::Bytes(bytes) => bytes,
        }
    }
}

/// `5%`, `10 GiB`, `500 MB`, or bytes.
pub(super) fn disk_share(text: &str) -> Result<DiskShare, Reason> {
    let expected = || "a share or a size such as \"5%\", \"10 GiB\" or \"500 MB\"".to_owned();
    let (number, unit) = number_and_unit(text);
    let count: u64 = number.parse().map_err(|_| expected())?;
    let bytes_each: u64 = match unit {
        "%" if count < 100 => {
            return Ok(DiskShare::Percent(u8::try_from(count).unwrap_or(99)));
        }
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" | "M" => 1_000_000,
        "GB" | "G" => 1_000_000_000,
        "TB" | "T" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(expected()),
    };
    count.checked_mul(bytes_each).map(DiskShare::Bytes).ok_or_else(expected)
}

/// Extensions and ranges of them, each number at most once.
pub(crate) fn extensions(entries: &[String]) -> Result<BTreeSet<Extension>, (String, Reason)> {
    let mut all = BTreeSet::new();
    for entry in entries {
        let (first, last) = range(entry).map_err(|reason| (entry.clone(), reason))?;
        let width = entry.split('-').next().unwrap_or_default().trim().len();
        let count = last - first + 1;
        if count > EXTENSIONS_MAX as u64 || all.len() as u64 + count > EXTENSIONS_MAX as u64 {
            return Err((entry.clone(), format!("{EXTENSIONS_MAX} extensions at most in all")));
        }
        for number in first..=last {
            let extension = Extension::new(format!("{number:0width$}"));
            if all.contains(&extension) {
                let reason = format!("free of numbers named before; {extension} is named twice");
                return Err((entry.clone(), reason));
            }
            all.insert(extension);
        }
    }
    Ok(all)
}

fn range(entry: &str) -> Result<(u64, u64), Reason> {
    let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
    let (first, last) = (first.trim(), last.trim());
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let short = text.len() <= EXTENSION_DIGITS_MAX;
        if digits && short { text.parse::<u64>().ok() } else { None }
    };
    match (number(first), number(last)) {
        (Some(low), Some(high)) if first.len() == last.len() && low <= high => Ok((low, high)),
        (Some(_), Some(_)) => {
            Err("a range from a lower to a higher number of as many digits".to_owned())
        }
        _ => Err("an extension or a range of them such as \"78001-78050\"".to_owned()),
    }
}

/// The UDP ports of the phantoms: an even one for RTP and the next for RTCP, pair by pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPorts {
    /// The first port, even.
    pub first: u16,
    /// The last port, odd.
    pub last: u16,
}

impl RtpPorts {
    /// How many phantoms can be given a pair.
    #[must_use]
    pub const fn pairs(self) -> usize {
        (self.last as usize + 1 - self.first as usize) / 2
    }

    /// The even port of the pair with this number, from 0; `None` behind the last pair.
    #[must_use]
    pub fn pair(self, number: usize) -> Option<u16> {
        let offset = u16::try_from(number.checked_mul(2)?).ok()?;
        self.first.checked_add(offset).filter(|port| *port < self.last)
    }
}

/// `FIRST-LAST`.
pub(super) fn rtp_ports(text: &str) -> Result<RtpPorts, Reason> {
    let expected = || "a range of ports such as \"20000-21999\"".to_owned();
    let (first, last) = text.split_once('-').ok_or_else(expected)?;
    let first: u16 = first.trim().parse().map_err(|_| expected())?;
    let last: u16 = last.trim().parse().map_err(|_| expected())?;
    if first < 1024 {
        return Err("a range of ports from 1024 on".to_owned());
    }
    if !first.is_multiple_of(2) || last.is_multiple_of(2) || last < first {
        return Err("a range from an even port (RTP) to a higher odd one (RTCP)".to_owned());
    }
    Ok(RtpPorts { first, last })
}

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl HostPort {
    /// Whether it is on this machine for certain.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl std::fmt::Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `HOST:PORT` or `HOST`; an IPv6 address stands in brackets.
pub(crate) fn host_port(text: &str, default_port: u16) -> Result<HostPort, Reason> {
    let expected = || format!("HOST:PORT such as \"10.0.0.1:{default_port}\"");
    let text = text.trim();
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').ok_or_else(expected)?)),
        None => match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => return Err(expected()),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(expected)?,
        None => default_port,
    };
    if !is_host(host) {
        return Err(expected());
    }
    Ok(HostPort { host: host.to_owned(), port })
}

/// Where an HTTP server is, and what is asked for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    /// HTTPS.
    pub tls: bool,
    /// The server.
    pub place: HostPort,
    /// Path and query; it begins with `/`.
    pub path: String,
}

impl HttpUrl {
    /// Nobody on the way can read or change what is said.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.tls || self.place.is_loopback()
    }

    /// As `Host` has it.
    #[must_use]
    pub fn host(&self) -> String {
        let place = self.place.to_string();
        let usual = if self.tls { ":443" } else { ":80" };
        place.strip_suffix(usual).map_or(place.clone(), str::to_owned)
    }
}

impl std::fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host(), self.path)
    }
}

/// `http://HOST[:PORT][/PATH]` or `https://…`.
pub(crate) fn http_url(text: &str) -> Result<HttpUrl, Reason> {
    let must_be = || "an address that begins with https:// or http://, without blanks".to_owned();
    let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return Err(must_be()),
    };
    // A request line has no place for blanks, control characters, or what no URL holds.
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) || rest.contains(['@', '#']) {
        return Err(format!("{}, user name, or '#'", must_be()));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let place = host_port(host, if tls { 443 } else { 80 })?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(HttpUrl { tls, place, path: format!("{slash}{path}") })
}

/// Whether a text can stand for a host: an address, or letters, digits, dots, hyphens.
pub(super) fn is_host(text: &str) -> bool {
    let letters = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let name = !text.is_empty() && text.len() <= 253 && text.bytes().all(letters);
    name || text.parse::<IpAddr>().is_ok()
}

/// An address of this machine to listen at: `ADDRESS:PORT`, or `localhost:PORT`.
pub(super) fn listen_address(text: &str, default_port: u16) -> Result<SocketAddr, Reason> {
    let place = host_port(text, default_port)?;
    let address = match place.host.as_str() {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().map_err(|_| {
            format!("an address and a port such as \"127.0.0.1:{default_port}\", not a name")
        })?,
    };
    Ok(SocketAddr::new(address, place.port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_have_units() {
        for (text, ms) in [
            ("300", Some(300_000)),
            ("300 s", Some(300_000)),
            ("30s", Some(30_000)),
            ("5 min", Some(300_000)),
            ("250ms", Some(250)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("s", None),
            ("-5 s", None),
            ("1.5 s", None),
            ("5 weeks", None),
            ("99999999999999999999 s", None),
            ("18446744073709551615 d", None),
        ] {
            assert_eq!(span(text, 1000).ok(), ms.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn disk_shares_are_parts_or_sizes() {
        for (text, share) in [
            ("5%", Some(DiskShare::Percent(5))),
            ("0 %", Some(DiskShare::Percent(0))),
            ("10 GiB", Some(DiskShare::Bytes(10 << 30))),
            ("500MB", Some(DiskShare::Bytes(500_000_000))),
            ("1024", Some(DiskShare::Bytes(1024))),
            ("100%", None),
            ("five", None),
            ("10 parsecs", None),
            ("99999999999 TiB", None),
        ] {
            assert_eq!(disk_share(text).ok(), share, "{text}");
        }
        assert_eq!(DiskShare::Percent(5).bytes_of(1000), 50);
    }

    #[test]
    fn extensions_expand_keep_their_zeros_and_are_named_once() {
        let set = |entries: &[&str]| {
            extensions(&entries.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>())
                .map(|set| set.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(set(&["0098-0101"]).unwrap(), ["0098", "0099", "0100", "0101"]);
        assert_eq!(set(&["3100", " 3200 - 3201 "]).unwrap(), ["3100", "3200", "3201"]);
        assert_eq!(set(&["10000-19999"]).unwrap().len(), EXTENSIONS_MAX);
        for (wrong, reason) in [
            (&["3100", "3100"][..], "twice"),
            (&["3100-3105", "3105-3110"], "3105 is named twice"),
            (&["10000-20000"], "10000 extensions"),
            (&["1000000000000000-9999999999999999"], "10000 extensions"),
            (&["10000-19999", "5"], "10000 extensions"),
            (&["3105-3100"], "lower to a higher"),
            (&["99-100"], "as many digits"),
            (&["31x"], "an extension"),
            (&[""], "an extension"),
            (&["1-2-3"], "an extension"),
            (&["99999999999999999"], "an extension"),
        ] {
            let (_, told) = set(wrong).unwrap_err();
            assert!(told.contains(reason), "{wrong:?}: {told}");
        }
    }

    #[test]
    fn rtp_ports_are_pairs() {
        let ports = rtp_ports("20000-20003").unwrap();
        assert_eq!((ports.pairs(), ports.pair(0), ports.pair(1)), (2, Some(20000), Some(20002)));
        assert_eq!(ports.pair(2), None);
        assert_eq!(rtp_ports("65534-65535").unwrap().pair(0), Some(65534));
        for wrong in ["20001-20004", "20000-20002", "20003-20000", "20000", "80-91", "0-99999", ""]
        {
            assert!(rtp_ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_and_ports() {
        for (text, host, port) in [
            ("10.0.0.1:7401", "10.0.0.1", 7401),
            ("recorder-2.example", "recorder-2.example", 7400),
            ("[::1]:7401", "::1", 7401),
            ("[::1]", "::1", 7400),
        ] {
            let read = host_port(text, 7400).unwrap();
            assert_eq!((read.host.as_str(), read.port), (host, port));
            assert_eq!(host_port(&read.to_string(), 1).unwrap(), read);
        }
        for wrong in ["", ":7400", "a:b", "a:0", "a:70000", "::1:7400", "a b:1", "[::1]x"] {
            assert!(host_port(wrong, 7400).is_err(), "{wrong}");
        }
        assert_eq!(listen_address("localhost:1", 2).unwrap(), "127.0.0.1:1".parse().unwrap());
        assert!(listen_address("example.org:1", 2).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in any::<String>()) {
            let _ = (span(&text, 1), disk_share(&text), rtp_ports(&text), host_port(&text, 1));
            let _ = (extensions(std::slice::from_ref(&text)), listen_address(&text, 1));
        }

        #[test]
        fn no_numbers_make_a_reader_panic(text in "[0-9]{0,22}[-:%. ]{0,2}[0-9a-zA-Z]{0,22}") {
            let _ = (span(&text, 1), disk_share(&text), rtp_ports(&text), host_port(&text, 1));
            let _ = (extensions(std::slice::from_ref(&text)), listen_address(&text, 1));
        }
    }
}
