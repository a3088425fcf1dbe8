//! Certificates for a group: one authority of its own, one certificate a member. Whoever holds a
//! certificate of this authority with a member's name in it is that member; nobody else gets in.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use storage_core::{NodeId, WallTime};

/// How long the authority's certificate lasts.
const AUTHORITY_DAYS: u64 = 20 * 365;
/// Allowance for clocks that are a little behind.
const BACKDATED: Duration = Duration::from_secs(24 * 3600);
const AUTHORITY_NAME: &str = "AstLogger group authority";

/// Why certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is in the way or the folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// There is an authority already, and it is incomplete.
    #[error("cannot read {}: {source}; to make a new authority remove ca.pem and ca.key, and give every member a new certificate", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A member has a certificate already.
    #[error("{} exists; remove it first if node {node} is to get another", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        node: NodeId,
    },
    /// A name or address that no certificate can carry.
    #[error("{0:?} is neither a host name nor an IP address")]
    Address(String),
    /// The cryptography failed.
    #[error("making a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// What was made for one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Whose it is.
    pub node: NodeId,
    /// `al_clustercert`.
    pub certificate: PathBuf,
    /// `al_clusterkey`; readable by its owner only.
    pub key: PathBuf,
    /// `al_clusterca`.
    pub authority: PathBuf,
    /// The certificate's last day, `YYYY-MM-DD`.
    pub ends: String,
}

/// The name that a member's certificate must carry.
#[must_use]
pub fn member_name(node: NodeId) -> String {
    format!("node-{node}.astlogger.internal")
}

/// Makes the authority in `folder` if there is none, and a certificate for each member (number and
/// host). Running it again with further members adds theirs under the same authority.
pub fn init(
    folder: &Path,
    members: &[(NodeId, String)],
    days: u64,
    now: WallTime,
) -> Result<Vec<Issued>, IdentityError> {
    std::fs::create_dir_all(folder)
        .map_err(|source| IdentityError::Write { path: folder.to_owned(), source })?;
    for (node, _) in members {
        let path = folder.join(format!("node-{node}.pem"));
        if path.exists() {
            return Err(IdentityError::Exists { path, node: *node });
        }
    }
    let (authority, issuer) = authority(folder, now)?;
    let mut issued = Vec::with_capacity(members.len());
    for (node, host) in members {
        let key = KeyPair::generate()?;
        let (params, ends) = member_params(*node, host, days, now)?;
        let signed = params.signed_by(&key, &issuer)?;
        let certificate = folder.join(format!("node-{node}.pem"));
        let key_file = folder.join(format!("node-{node}.key"));
        write_secret(&key_file, &key.serialize_pem())?;
        write(&certificate, &signed.pem(), 0o644)?;
        let authority = authority.clone();
        issued.push(Issued { node: *node, certificate, key: key_file, authority, ends });
    }
    Ok(issued)
}

fn authority(
    folder: &Path,
    now: WallTime,
) -> Result<(PathBuf, Issuer<'static, KeyPair>), IdentityError> {
    let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
    let params = authority_params(now)?;
    if certificate.exists() {
        // The issuer needs the name and the key only; both are the same as when it was made.
        let pem = std::fs::read_to_string(&key)
            .map_err(|source| IdentityError::Read { path: key, source })?;
        return Ok((certificate, Issuer::new(params, KeyPair::from_pem(&pem)?)));
    }
    let pair = KeyPair::generate()?;
    let signed: Certificate = params.self_signed(&pair)?;
    write_secret(&key, &pair.serialize_pem())?;
    write(&certificate, &signed.pem(), 0o644)?;
    Ok((certificate, Issuer::new(params, pair)))
}

fn authority_params(now: WallTime) -> Result<CertificateParams, IdentityError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, AUTHORITY_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    lasts(&mut params, now, AUTHORITY_DAYS);
    Ok(params)
}

fn member_params(
    node: NodeId,
    host: &str,
    days: u64,
    now: WallTime,
) -> Result<(CertificateParams, String), IdentityError> {
    let mut params = CertificateParams::new(vec![member_name(node)])?;
    let name = match host.parse() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => {
            SanType::DnsName(host.try_into().map_err(|_| IdentityError::Address(host.to_owned()))?)
        }
    };
    params.subject_alt_names.push(name);
    params.distinguished_name.push(DnType::CommonName, format!("AstLogger node {node}"));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    let ends = lasts(&mut params, now, days);
    Ok((params, ends))
}

/// Sets the time of validity in whole days; returns the last one.
fn lasts(params: &mut CertificateParams, now: WallTime, days: u64) -> String {
    let day = |time: WallTime| {
        let text: String = time.to_string().chars().take(10).collect();
        let mut parts = text.split('-').map(str::parse::<u16>);
        let mut next = || parts.next().and_then(Result::ok);
        let small = |part: Option<u16>| u8::try_from(part.unwrap_or(1)).unwrap_or(1);
        let year = next().unwrap_or(2100);
        let (month, date) = (small(next()), small(next()));
        (rcgen::date_time_ymd(i32::from(year), month, date), text)
    };
    params.not_before = day(now - BACKDATED).0;
    let (not_after, text) = day(now + Duration::from_secs(days * 24 * 3600));
    params.not_after = not_after;
    text
}

fn write_secret(path: &Path, text: &str) -> Result<(), IdentityError> {
    write(path, text, 0o600)
}

/// Writes a new file; the mode holds from its first moment.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    let failed = |source| IdentityError::Write { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_their_owners_alone_and_members_can_be_added_later() {
        let folder = tempfile::tempdir().unwrap();
        let now = WallTime::from_millis(1_780_000_000_000);
        let first = init(folder.path(), &[(NodeId(1), "10.0.0.1".into())], 365, now).unwrap();
        assert_eq!(first[0].ends, "2027-05-28");
        for name in ["ca.key", "node-1.key"] {
            let mode = folder.path().join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        init(folder.path(), &[(NodeId(2), "rec2.example".into())], 365, now).unwrap();
        let again = init(folder.path(), &[(NodeId(2), "rec2.example".into())], 365, now);
        assert!(matches!(again, Err(IdentityError::Exists { node: NodeId(2), .. })));
    }

    #[test]
    fn a_host_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let now = WallTime::from_millis(1_780_000_000_000);
        let wrong = init(folder.path(), &[(NodeId(1), "not a host ä".into())], 365, now);
        assert!(matches!(wrong, Err(IdentityError::Address(_))));
    }
}
