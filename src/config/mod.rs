//! The configuration: from TOML, environment and command line to checked, typed settings. It finds
//! all mistakes at once and touches nothing outside but the files that hold secrets; whether
//! ports are free and certificates valid is the preflight's matter.
//!
//! A key whose function this version does not have is read and checked all the same, and a
//! warning says that it does nothing yet.

mod alarms;
mod archive;
mod catalog_database;
mod cluster;
mod keys;
mod live;
mod method;
mod oidc;
mod params;
mod reader;
mod recorder;
mod refused;
mod remark;
mod retention;
mod ring;
mod rules;
mod save;
mod scorecards;
mod source;
mod storage;
mod value;
mod web;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use storage_core::scorecard::Scorecard;
use storage_core::{NodeId, Role};

use reader::Reader;

pub use recorder_core::dmcc::Secret;

pub use alarms::{AlarmsOut, Mail, MailSecurity, Trap, Webhook};
pub use archive::{Archive, ArchiveKind, LockMode, ObjectLock, S3, Sftp};
pub use cluster::{Cluster, TlsFiles};
pub(crate) use cluster::{DEFAULT_PORT as CLUSTER_PORT, read_peer};
pub(crate) use keys::{names as key_names, nearest};
pub use live::{LiveSetting, LiveValues, SetError};
pub use method::{Device, Method};
pub use oidc::{Oidc, RoleOf};
pub use params::{Param, Params, Shown};
pub use recorder::{Aes, Codec, MediaEncryption, Monitored, Recorder};
pub use remark::{ConfigError, Origin, Remark};
pub use save::{SaveError, save};
pub use source::Source;
pub use storage::Storage;
pub use value::{DiskShare, EXTENSIONS_MAX, HostPort, HttpUrl, RtpPorts};
pub(crate) use value::{extensions, host_port, http_url};
pub use web::{Console, Web};

/// Where the configuration is unless told otherwise.
pub const DEFAULT_FILE: &str = "/etc/astlogger/astlogger.toml";
/// Permission bit of a file.
const OTHERS_MAY_READ: u32 = 0o004;
/// No configuration is longer than this.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A node's configuration, complete and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// `al_nodeid`.
    pub nodeid: NodeId,
    /// `al_serverrole`.
    pub role: Role,
    /// `al_datadir`: captures, voice files, catalog.
    pub datadir: PathBuf,
    /// The group.
    pub cluster: Cluster,
    /// What it takes to record; absent on a witness.
    pub recorder: Option<Recorder>,
    /// What becomes of recordings.
    pub storage: Storage,
    /// Web page, WebSocket, HTTP.
    pub web: Web,
    /// `al_consolelisten`; absent: no console.
    pub console: Option<Console>,
    /// Where alarms are sent.
    pub alarms: AlarmsOut,
    /// `[[al_scorecard]]`: by which forms calls are judged.
    pub scorecards: Vec<Scorecard>,
    /// All parameters as they were given, for people.
    pub params: Params,
    /// What is worth knowing although it stops nothing; said at start and by `check`.
    pub warnings: Vec<Remark>,
}

impl Config {
    /// Reads the file and the process's environment.
    ///
    /// # Errors
    /// With everything that is wrong at once.
    pub fn load(file: &Path, role: Option<&str>) -> Result<Self, ConfigError> {
        Self::parse(&Source::load(file, role)?)
    }

    /// Reads what is given here. Beside it only the files that hold secrets are read.
    ///
    /// # Errors
    /// With everything that is wrong at once.
    pub fn parse(source: &Source) -> Result<Self, ConfigError> {
        let mut reader = Reader::new(source);
        let role = read_role(&mut reader);
        let cluster = cluster::read(&mut reader);
        let recorder = if role == Role::Witness {
            warn_of_witness(&mut reader);
            None
        } else {
            Some(recorder::read(&mut reader))
        };
        let mut config = Self {
            file: source.file.clone(),
            nodeid: cluster.nodeid,
            role,
            datadir: reader.path("al_datadir").unwrap_or_else(|| "/var/lib/astlogger".into()),
            cluster,
            recorder,
            storage: storage::read(&mut reader),
            web: web::read(&mut reader),
            console: web::read_console(&mut reader),
            alarms: alarms::read(&mut reader),
            scorecards: scorecards::read(&mut reader),
            params: Params::of(&reader),
            warnings: Vec::new(),
        };
        refused::settle(&config, &mut reader);
        ring::settle(&config, &mut reader);
        let (wrong, warnings) = reader.finish();
        if !wrong.is_empty() {
            return Err(ConfigError { file: source.file.clone(), remarks: wrong });
        }
        config.warnings = warnings;
        Ok(config)
    }
}

impl Web {
    /// Reads only where the node listens: what a command needs that talks to a running node and
    /// may not be allowed to read its passwords. Mistakes in other keys do not matter to it.
    ///
    /// # Errors
    /// With everything that is wrong with these keys.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let source = Source::load(file, None)?;
        let mut reader = Reader::new(&source);
        let web = web::read(&mut reader);
        let (wrong, _) = reader.finish();
        let remarks: Vec<_> =
            wrong.into_iter().filter(|remark| web::KEYS.contains(&remark.key.as_str())).collect();
        if remarks.is_empty() { Ok(web) } else { Err(ConfigError { file: source.file, remarks }) }
    }
}

impl Console {
    /// Reads only where the console listens, as [`Web::load`]; absent: no console.
    ///
    /// # Errors
    /// With what is wrong with this key.
    pub fn load(file: &Path) -> Result<Option<Self>, ConfigError> {
        let source = Source::load(file, None)?;
        let mut reader = Reader::new(&source);
        let console = web::read_console(&mut reader);
        let (mut remarks, _) = reader.finish();
        remarks.retain(|remark| remark.key == "al_consolelisten");
        if remarks.is_empty() {
            Ok(console)
        } else {
            Err(ConfigError { file: source.file, remarks })
        }
    }
}

/// Where systemd finds the service's credentials. Outside of the service root reads them there, so that
/// `astlogger check` sees what the service will.
const CREDENTIALS: &str = "/etc/credstore";

impl Source {
    /// The file, the process's environment and systemd's credentials.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn load(file: &Path, role: Option<&str>) -> Result<Self, ConfigError> {
        let (text, others_may_read) = read_file(file).map_err(|error| ConfigError {
            file: file.to_owned(),
            remarks: vec![Remark::new(
                &file.display().to_string(),
                format!("cannot be read: {error}"),
                "name another with --config, or make it readable",
            )],
        })?;
        // A variable that is not Unicode cannot be one of ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Self {
            file: file.to_owned(),
            text,
            others_may_read,
            environment,
            role: role.map(ToOwned::to_owned),
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY")
                .map(PathBuf::from)
                .or_else(|| std::fs::read_dir(CREDENTIALS).is_ok().then(|| CREDENTIALS.into())),
        })
    }
}

/// The text, and whether other users may read it.
fn read_file(path: &Path) -> io::Result<(String, bool)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok((text, mode & OTHERS_MAY_READ != 0))
}

fn read_role(reader: &mut Reader) -> Role {
    let words = [Role::Active, Role::Backup, Role::Parallel, Role::Witness];
    let words = words.map(|role| (role.as_str(), role));
    if !reader.has("al_serverrole") && reader.has("al_peers") {
        reader.refuse(
            "al_serverrole",
            "is missing",
            "say what this member is for: active, backup, parallel or witness",
        );
    }
    // A node alone is the active one.
    reader.word("al_serverrole", &words).unwrap_or(Role::Active)
}

fn warn_of_witness(reader: &mut Reader) {
    let unused: Vec<_> = recorder::KEYS.iter().copied().filter(|key| reader.has(key)).collect();
    if !unused.is_empty() {
        let wrong = format!("a witness records nothing and does not use {}", unused.join(", "));
        reader.warn("al_serverrole", wrong, "leave them out on a witness");
    }
}

#[cfg(test)]
mod tests;
