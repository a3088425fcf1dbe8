//! Where alarms are sent beside the log and the WebSocket: a webhook, mail, SNMP traps. Sending them,
//! and when, is the matter of `crate::alarms`.

use std::path::PathBuf;

use recorder_core::dmcc::Secret;

use super::reader::Reader;
use super::value::{self, HostPort, HttpUrl, Reason};

/// Port of SMTP submission (RFC 6409), of SMTP over TLS (RFC 8314), of SNMP traps (RFC 3417).
const SUBMISSION_PORT: u16 = 587;
const SUBMISSIONS_PORT: u16 = 465;
const TRAP_PORT: u16 = 162;
/// Nobody sends an alarm to more people than this, but to a list.
const RECIPIENTS_MAX: usize = 50;

/// Where alarms go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlarmsOut {
    /// `al_alarmwebhook`.
    pub webhook: Option<Webhook>,
    /// `al_alarmmail`.
    pub mail: Option<Mail>,
    /// `al_alarmtrap`.
    pub trap: Option<Trap>,
}

/// An HTTP server that takes each alarm as a POST.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// HTTPS.
    pub tls: bool,
    /// Its place.
    pub place: HostPort,
    /// Path and query; many services put a token into it.
    pub path: Secret,
    /// `al_alarmwebhooksecret`: what the body is signed with.
    pub secret: Option<Secret>,
    /// `al_alarmca`: whose certificates are taken; absent: the system's.
    pub ca: Option<PathBuf>,
}

/// How mail is protected on its way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailSecurity {
    /// In plain until the server has taken STARTTLS; without it nothing is sent.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// Not at all.
    Plain,
}

/// A mail server, and to whom it is to bring alarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// `al_alarmmail`.
    pub to: Vec<String>,
    /// `al_alarmmailfrom`.
    pub from: String,
    /// `al_alarmmailserver`.
    pub server: HostPort,
    /// `al_alarmmailtls`.
    pub security: MailSecurity,
    /// `al_alarmmailuser` and `al_alarmmailpassword`.
    pub login: Option<(String, Secret)>,
    /// `al_alarmca`, as for the webhook.
    pub ca: Option<PathBuf>,
}

/// Who receives SNMP traps (v2c).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// `al_alarmtrap`.
    pub to: HostPort,
    /// `al_alarmtrapcommunity`.
    pub community: Secret,
}

pub(super) fn read(reader: &mut Reader) -> AlarmsOut {
    let ca = reader.path("al_alarmca");
    AlarmsOut {
        webhook: read_webhook(reader, ca.clone()),
        mail: read_mail(reader, ca),
        trap: read_trap(reader),
    }
}

fn read_webhook(reader: &mut Reader, ca: Option<PathBuf>) -> Option<Webhook> {
    let url = reader.secret("al_alarmwebhook", "al_alarmwebhookfile");
    let secret = reader.secret("al_alarmwebhooksecret", "al_alarmwebhooksecretfile");
    match value::http_url(url?.expose()) {
        Ok(HttpUrl { tls, place, path }) => {
            let path = Secret::new(path);
            if !tls && !place.is_loopback() {
                reader.warn(
                    "al_alarmwebhook",
                    format!("alarms go to {place} in plain"),
                    "write https:// unless the network is closed",
                );
            }
            Some(Webhook { tls, place, path, secret, ca })
        }
        Err(must_be) => {
            // Not shown: it may hold a token.
            let remedy = "write al_alarmwebhook = \"https://HOST/PATH\"";
            reader.refuse("al_alarmwebhook", format!("must be {must_be}"), remedy);
            None
        }
    }
}

fn read_mail(reader: &mut Reader, ca: Option<PathBuf>) -> Option<Mail> {
    let to = read_recipients(reader);
    let from = reader.parsed(
        "al_alarmmailfrom",
        address,
        "write al_alarmmailfrom = \"astlogger@example.org\"",
    );
    let words = [
        ("starttls", MailSecurity::StartTls),
        ("tls", MailSecurity::Tls),
        ("none", MailSecurity::Plain),
    ];
    let security = reader.word("al_alarmmailtls", &words).unwrap_or(MailSecurity::StartTls);
    let port = if security == MailSecurity::Tls { SUBMISSIONS_PORT } else { SUBMISSION_PORT };
    let server = reader.parsed(
        "al_alarmmailserver",
        |text| value::host_port(text, port),
        "write al_alarmmailserver = \"mail.example.org:587\"",
    );
    let user = reader.text("al_alarmmailuser");
    let password = reader.secret("al_alarmmailpassword", "al_alarmmailpasswordfile");
    let to = to?;
    for (key, given) in
        [("al_alarmmailfrom", from.is_some()), ("al_alarmmailserver", server.is_some())]
    {
        if !given && !reader.has(key) {
            reader.refuse(
                key,
                "is missing beside al_alarmmail",
                "say from whom and by which server",
            );
        }
    }
    let login = match (user, password) {
        (Some(user), Some(password)) => Some((user, password)),
        (None, None) => None,
        (user, _) => {
            let key = if user.is_some() { "al_alarmmailpassword" } else { "al_alarmmailuser" };
            reader.refuse(key, "is missing beside the other", "give both or none");
            None
        }
    };
    let (from, server) = (from?, server?);
    if login.is_some() && security == MailSecurity::Plain && !server.is_loopback() {
        reader.refuse_value(
            "al_alarmmailtls",
            "starttls or tls where there is a password",
            "write al_alarmmailtls = \"starttls\"",
        );
    }
    Some(Mail { to, from, server, security, login, ca })
}

fn read_recipients(reader: &mut Reader) -> Option<Vec<String>> {
    const KEY: &str = "al_alarmmail";
    let to = reader.list(KEY)?;
    if to.len() > RECIPIENTS_MAX {
        reader.refuse_value(
            KEY,
            &format!("at most {RECIPIENTS_MAX} addresses"),
            "name a mailing list",
        );
        return None;
    }
    if let Some(must_be) = to.iter().find_map(|text| address(text).err()) {
        let must_be = format!("a list, each of it {must_be}");
        reader.refuse_value(KEY, &must_be, "write al_alarmmail = [\"operators@example.org\"]");
        return None;
    }
    (!to.is_empty()).then_some(to)
}

/// An address as it stands in a header and in SMTP commands without quoting (RFC 5321 section 4.1.2,
/// `Dot-string`); what would need quoting, or letters beyond ASCII, is not taken.
fn address(text: &str) -> Result<String, Reason> {
    let atoms = |part: &str| {
        let letter = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
        part.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(letter))
    };
    match text.split_once('@') {
        Some((local, domain)) if atoms(local) && local.len() <= 64 && value::is_host(domain) => {
            Ok(text.to_owned())
        }
        _ => Err("an address such as operators@example.org".to_owned()),
    }
}

fn read_trap(reader: &mut Reader) -> Option<Trap> {
    let to = reader.parsed(
        "al_alarmtrap",
        |text| value::host_port(text, TRAP_PORT),
        "write al_alarmtrap = \"10.0.0.9:162\"",
    );
    let community = reader.secret("al_alarmtrapcommunity", "al_alarmtrapcommunityfile");
    Some(Trap { to: to?, community: community.unwrap_or_else(|| Secret::new("public")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Source};

    fn parse(text: &str) -> Result<Config, String> {
        let text = format!("al_nodeid = 1\nal_serverrole = \"witness\"\n{text}");
        Config::parse(&Source { text, ..Source::default() }).map_err(|error| error.to_string())
    }

    #[test]
    fn a_webhook_is_an_address_and_its_token_is_not_shown() {
        for (url, tls, place, path) in [
            ("https://hooks.example.org/a/b?c=d", true, "hooks.example.org:443", "/a/b?c=d"),
            ("http://10.0.0.9:8000", false, "10.0.0.9:8000", "/"),
            ("http://[::1]:8000/x", false, "[::1]:8000", "/x"),
            ("https://hooks.example.org?x", true, "hooks.example.org:443", "/?x"),
        ] {
            let config = parse(&format!("al_alarmwebhook = \"{url}\"")).expect(url);
            let webhook = config.alarms.webhook.as_ref().expect(url);
            assert_eq!((webhook.tls, &*webhook.place.to_string()), (tls, place), "{url}");
            assert_eq!(webhook.path.expose(), path, "{url}");
            assert!(!format!("{config:?}").contains("/a/b"), "{config:?}");
        }
        for url in
            ["ftp://x/", "x", "http://", "http://a b/", "http://u:p@x/", "https://x/\\r\\nA: b"]
        {
            let error = parse(&format!("al_alarmwebhook = \"{url}\"")).expect_err(url);
            assert!(error.contains("al_alarmwebhook"), "{error}");
        }
    }

    #[test]
    fn mail_needs_a_server_and_a_sender_and_protects_its_password() {
        let whole = "al_alarmmail = [\"a@example.org\"]\nal_alarmmailfrom = \"b@example.org\"\n\
                     al_alarmmailserver = \"mail.example.org\"\n";
        let mail = parse(whole).expect("complete").alarms.mail.expect("mail");
        assert_eq!((mail.security, mail.server.port), (MailSecurity::StartTls, 587));
        let tls = format!("{whole}al_alarmmailtls = \"tls\"\n");
        assert_eq!(parse(&tls).expect("complete").alarms.mail.expect("mail").server.port, 465);
        for wrong in ["nobody", "@x", "a@", "a b@x", "a@x>\\r\\nDATA", "a..b@x", "ä@x", "<a@x>"] {
            let error = parse(&format!("al_alarmmail = [\"{wrong}\"]")).expect_err(wrong);
            assert!(error.contains("al_alarmmail"), "{error}");
        }
        for (text, named) in [
            ("al_alarmmail = [\"a@example.org\"]\n".to_owned(), "al_alarmmailserver"),
            ("al_alarmmail = [\"nobody\"]\n".to_owned(), "al_alarmmail"),
            (format!("{whole}al_alarmmailuser = \"u\"\n"), "al_alarmmailpassword"),
            (
                format!(
                    "{whole}al_alarmmailuser = \"u\"\nal_alarmmailpassword = \"p\"\n\
                     al_alarmmailtls = \"none\"\n"
                ),
                "al_alarmmailtls",
            ),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_trap_goes_to_the_usual_port_and_community() {
        let trap = parse("al_alarmtrap = \"nms\"").expect("complete").alarms.trap.expect("a trap");
        assert_eq!((trap.to.port, trap.community.expose()), (162, "public"));
    }
}
