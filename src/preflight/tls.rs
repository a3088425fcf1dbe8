//! The certificates of the configuration: readable, matching their keys, valid now and for how long.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::sign::CertifiedKey;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::Finding;
use crate::certificates::validity::{Ends, Unusable, WARN_DAYS, ends, read_certificates};
use crate::config::{Config, TlsFiles};

/// The certificates of web server and cluster.
pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut findings = Vec::new();
    if let Some(tls) = &config.web.tls {
        findings.push(certificate("web certificate", ["al_tlscert", "al_tlskey"], tls, now));
    }
    if let Some(tls) = &config.cluster.tls {
        let keys = ["al_clustercert", "al_clusterkey"];
        findings.push(certificate("cluster certificate", keys, tls, now));
        if let Some(ca) = &tls.ca {
            findings.push(authority("cluster authority", "al_clusterca", ca, now));
        }
    }
    let ca = config.recorder.as_ref().and_then(|recorder| recorder.aes.ca.as_ref());
    if let Some(ca) = ca {
        findings.push(authority("AES authority", "al_aesca", ca, now));
    }
    findings
}

fn certificate(
    check: &'static str,
    [cert_key, key_key]: [&'static str; 2],
    files: &TlsFiles,
    now: i64,
) -> Finding {
    let chain = match read_certificates(&files.cert) {
        Ok(chain) => chain,
        Err(why) => return unusable(check, cert_key, &files.cert, &why),
    };
    let key = match fs::read(&files.key) {
        Ok(pem) => PrivateKeyDer::from_pem_slice(&pem).map_err(|_| Unusable::NoKey),
        Err(error) => Err(Unusable::Unreadable(error)),
    };
    let key = match key {
        Ok(key) => key,
        Err(why) => return unusable(check, key_key, &files.key, &why),
    };
    let ends = ends(&chain[0], now);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => judged(check, cert_key, &files.cert, ends),
        Err(rustls::Error::InconsistentKeys(_)) => {
            let found = format!("{} is not the key of this certificate", files.key.display());
            Finding::fail(check, found, "name certificate and key of one pair").of(key_key)
        }
        Err(error) => {
            let found = format!("{}: {error}", files.key.display());
            Finding::fail(check, found, "use an RSA, ECDSA or Ed25519 key").of(key_key)
        }
    }
}

fn authority(check: &'static str, key: &'static str, file: &Path, now: i64) -> Finding {
    match read_certificates(file) {
        // Of several the one that ends last counts: they are alternatives.
        Ok(all) => {
            let ends = all.iter().map(|one| ends(one, now)).max().unwrap_or(Ends::NotX509);
            judged(check, key, file, ends)
        }
        Err(why) => unusable(check, key, file, &why),
    }
}

fn judged(check: &'static str, key: &'static str, file: &Path, ends: Ends) -> Finding {
    let file = file.display();
    let renew = "renew it";
    match ends {
        Ends::NotX509 => Finding::fail(check, format!("{file} is no certificate"), renew).of(key),
        Ends::Over { days } => {
            Finding::fail(check, format!("{file} ended {days} days ago"), renew).of(key)
        }
        Ends::NotYet { days } => {
            let found = format!("{file} is not valid before another {days} days");
            Finding::fail(check, found, "is this machine's clock right?").of(key)
        }
        Ends::In { days } if days < WARN_DAYS => {
            Finding::warn(check, format!("{file} ends in {days} days"), renew).of(key)
        }
        Ends::In { days } => Finding::ok(check, format!("{file} ends in {days} days")),
    }
}

fn unusable(check: &'static str, key: &'static str, file: &Path, why: &Unusable) -> Finding {
    let found = format!("{}: {why}", file.display());
    Finding::fail(check, found, "name a file in PEM form that the node's user may read").of(key)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::super::Verdict;
    use super::*;
    use crate::certificates::validity::DAY_SECONDS;

    /// 2026-06-01.
    const NOW: i64 = 1_780_272_000;

    /// A certificate from 2026-01-01 on, and its key.
    fn pair(dir: &TempDir, name: &str, (year, month, day): (i32, u8, u8)) -> TlsFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["recorder1.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(year, month, day);
        let certificate = params.self_signed(&key).unwrap();
        let write = |end: &str, pem: String| -> PathBuf {
            let path = dir.path().join(format!("{name}.{end}"));
            fs::write(&path, pem).unwrap();
            path
        };
        TlsFiles {
            cert: write("crt", certificate.pem()),
            key: write("key", key.serialize_pem()),
            ca: None,
        }
    }

    fn look(files: &TlsFiles, now: i64) -> Finding {
        certificate("web certificate", ["al_tlscert", "al_tlskey"], files, now)
    }

    #[test]
    fn a_certificate_is_judged_by_when_it_ends() {
        let dir = TempDir::new().unwrap();
        let year = pair(&dir, "year", (2027, 1, 1));
        let month = pair(&dir, "month", (2026, 6, 20));
        let early = NOW - 200 * DAY_SECONDS;
        for (files, now, verdict, found) in [
            (&year, NOW, Verdict::Ok, "ends in 214 days"),
            (&month, NOW, Verdict::Warn, "ends in 19 days"),
            (&month, NOW + 29 * DAY_SECONDS, Verdict::Fail, "ended 10 days ago"),
            (&year, early, Verdict::Fail, "not valid before another 49 days"),
        ] {
            let finding = look(files, now);
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.found.contains(found), "{finding:?}");
        }
    }

    #[test]
    fn the_file_that_is_wrong_is_named_by_its_key() {
        let dir = TempDir::new().unwrap();
        let own = pair(&dir, "own", (2027, 1, 1));
        let other = pair(&dir, "other", (2027, 1, 1));
        let with =
            |cert: &Path, key: &Path| TlsFiles { cert: cert.into(), key: key.into(), ca: None };
        let none = dir.path().join("none");
        for (files, key, found) in [
            (with(&own.cert, &other.key), "al_tlskey", "not the key of this certificate"),
            (with(&own.cert, &own.cert), "al_tlskey", "no private key"),
            (with(&own.key, &own.key), "al_tlscert", "no certificate"),
            (with(&none, &own.key), "al_tlscert", "No such file"),
            (with(&own.cert, &none), "al_tlskey", "No such file"),
        ] {
            let finding = look(&files, NOW);
            assert_eq!((finding.verdict, finding.key), (Verdict::Fail, Some(key)), "{finding:?}");
            assert!(finding.found.contains(found), "{finding:?}");
        }
    }

    #[test]
    fn of_several_authorities_the_one_that_ends_last_counts() {
        let dir = TempDir::new().unwrap();
        let files = ["old", "new"].map(|name| {
            let end = if name == "old" { (2026, 3, 1) } else { (2027, 1, 1) };
            fs::read_to_string(pair(&dir, name, end).cert).unwrap()
        });
        let bundle = dir.path().join("bundle.pem");
        fs::write(&bundle, files.concat()).unwrap();
        assert_eq!(authority("AES authority", "al_aesca", &bundle, NOW).verdict, Verdict::Ok);
        fs::write(&bundle, &files[0]).unwrap();
        assert_eq!(authority("AES authority", "al_aesca", &bundle, NOW).verdict, Verdict::Fail);
    }
}
