//! The names of all parameters, what kind of value each takes, and the nearest name to a mistyped
//! one. It does not say what a value means.

/// What a key holds; decides how the text of an environment variable is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole number.
    Number,
    /// A text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A list of texts; in an environment variable also `one,two`.
    List,
    /// A number or a text: a span of time or a size.
    Measure,
    /// A list of tables, `[[al_rule]]`, `[[al_retention]]` and `[[al_scorecard]]`.
    Rules,
    /// A text that is never shown.
    Secret,
}

/// One parameter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// What it holds.
    pub(super) kind: Kind,
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind }
}

/// Every parameter there is.
pub(super) const KEYS: &[Key] = &[
    key("al_nodeid", Kind::Number),
    key("al_serverrole", Kind::Text),
    key("al_datadir", Kind::Text),
    key("al_clusterlisten", Kind::Text),
    key("al_peers", Kind::List),
    key("al_clustercert", Kind::Text),
    key("al_clusterkey", Kind::Text),
    key("al_clusterca", Kind::Text),
    key("al_heartbeatms", Kind::Measure),
    key("al_electionms", Kind::Measure),
    key("al_aeshost", Kind::Text),
    key("al_aesport", Kind::Number),
    key("al_aestls", Kind::Flag),
    key("al_aesca", Kind::Text),
    key("al_aesuser", Kind::Text),
    key("al_aespassword", Kind::Secret),
    key("al_aespasswordfile", Kind::Text),
    key("al_aesservername", Kind::Text),
    key("al_switchname", Kind::Text),
    key("al_method", Kind::Text),
    key("al_stationpassword", Kind::Secret),
    key("al_stationpasswordfile", Kind::Text),
    key("al_stereo", Kind::Flag),
    key("al_observecode", Kind::Text),
    key("al_registrationwindow", Kind::Number),
    key("al_registrationrate", Kind::Number),
    key("al_maxparties", Kind::Number),
    key("al_phantoms", Kind::List),
    key("al_phantompassword", Kind::Secret),
    key("al_phantompasswordfile", Kind::Text),
    key("al_peerphantoms", Kind::List),
    key("al_stations", Kind::List),
    key("al_agents", Kind::List),
    key("al_vdns", Kind::List),
    key("al_skills", Kind::List),
    key("al_rtpaddress", Kind::Text),
    key("al_rtpports", Kind::Text),
    key("al_codecs", Kind::List),
    key("al_mediaencryption", Kind::List),
    key("al_rescuems", Kind::Measure),
    key("al_followms", Kind::Measure),
    key("al_standbyring", Kind::Measure),
    key("al_hold", Kind::Text),
    key("al_voiceformat", Kind::Text),
    key("al_opusbitrate", Kind::Number),
    key("al_keytones", Kind::Text),
    key("al_syncms", Kind::Measure),
    key("al_mirror", Kind::Flag),
    key("al_mirrorlagms", Kind::Measure),
    key("al_maxpauses", Kind::Measure),
    key("al_retentiondays", Kind::Number),
    key("al_mindiskfree", Kind::Measure),
    key("al_scrubdays", Kind::Number),
    key("al_archive", Kind::Text),
    key("al_archivelock", Kind::Text),
    key("al_archivelockdays", Kind::Number),
    key("al_s3endpoint", Kind::Text),
    key("al_s3region", Kind::Text),
    key("al_s3accesskey", Kind::Secret),
    key("al_s3accesskeyfile", Kind::Text),
    key("al_s3secretkey", Kind::Secret),
    key("al_s3secretkeyfile", Kind::Text),
    key("al_sftpkeyfile", Kind::Text),
    key("al_sftpknownhosts", Kind::Text),
    key("al_catalogurl", Kind::Secret),
    key("al_catalogurlfile", Kind::Text),
    key("al_catalogpassword", Kind::Secret),
    key("al_catalogpasswordfile", Kind::Text),
    key("al_catalogca", Kind::Text),
    key("al_catalogsearch", Kind::Text),
    key("al_site", Kind::Text),
    key("al_encryptionkeyfile", Kind::Text),
    key("al_listen", Kind::Text),
    key("al_tlscert", Kind::Text),
    key("al_tlskey", Kind::Text),
    key("al_insecure", Kind::Flag),
    key("al_usersfile", Kind::Text),
    key("al_sessionidlemin", Kind::Number),
    key("al_oidcissuer", Kind::Text),
    key("al_oidcname", Kind::Text),
    key("al_oidcclientid", Kind::Text),
    key("al_oidcclientsecret", Kind::Secret),
    key("al_oidcclientsecretfile", Kind::Text),
    key("al_oidcscopes", Kind::List),
    key("al_oidcrolesclaim", Kind::Text),
    key("al_oidcroles", Kind::List),
    key("al_oidcnameclaim", Kind::Text),
    key("al_oidcextensionclaim", Kind::Text),
    key("al_oidcredirect", Kind::Text),
    key("al_oidcca", Kind::Text),
    key("al_oidcrecheckmin", Kind::Number),
    key("al_consolelisten", Kind::Text),
    key("al_alarmwebhook", Kind::Secret),
    key("al_alarmwebhookfile", Kind::Text),
    key("al_alarmwebhooksecret", Kind::Secret),
    key("al_alarmwebhooksecretfile", Kind::Text),
    key("al_alarmmail", Kind::List),
    key("al_alarmmailfrom", Kind::Text),
    key("al_alarmmailserver", Kind::Text),
    key("al_alarmmailtls", Kind::Text),
    key("al_alarmmailuser", Kind::Text),
    key("al_alarmmailpassword", Kind::Secret),
    key("al_alarmmailpasswordfile", Kind::Text),
    key("al_alarmtrap", Kind::Text),
    key("al_alarmtrapcommunity", Kind::Secret),
    key("al_alarmtrapcommunityfile", Kind::Text),
    key("al_alarmca", Kind::Text),
    key("al_rule", Kind::Rules),
    key("al_retention", Kind::Rules),
    key("al_scorecard", Kind::Rules),
];

/// Names of environment variables that begin like a parameter and are none.
pub(super) const OTHER_VARIABLES: &[&str] = &["AL_LOG"];

/// The names of all parameters, in the order of the manual.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}

/// The parameter of this name.
pub(super) fn find(name: &str) -> Option<Key> {
    KEYS.iter().copied().find(|key| key.name == name)
}

/// The name among `known` that somebody who wrote `written` most likely meant, if any is near.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let bare = |name: &str| name.strip_prefix("al_").unwrap_or(name).to_owned();
    let meant = bare(&written.to_lowercase().replace('-', "_"));
    // A third of the letters may be wrong; beyond that a guess misleads more than it helps.
    let limit = (meant.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&meant, &bare(name)), name))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_name_stands_once_and_follows_the_habit() {
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.len());
        for name in names {
            let rest = name.strip_prefix("al_").unwrap();
            assert!(rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{name}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not() {
        let near = |written| nearest(written, KEYS.iter().map(|key| key.name));
        for (written, meant) in [
            ("al_nodid", Some("al_nodeid")),
            ("nodeid", Some("al_nodeid")),
            ("AL_NODEID", Some("al_nodeid")),
            ("al_phantom", Some("al_phantoms")),
            ("al_serverroll", Some("al_serverrole")),
            ("al_rtp_ports", Some("al_rtpports")),
            ("al_aes_password", Some("al_aespassword")),
            ("al_rules", Some("al_rule")),
            ("al_colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(near(written), meant, "{written}");
        }
    }
}
