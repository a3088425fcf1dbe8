//! The forms in which a call comes and is kept: channels, codec, encryption on the wire and on the disk, one recorder
//! or two.

use std::path::PathBuf;

use astlogger::demo::Shape;
use simulator::SiteConfig;
use simulator::tone::Part;
use storage_core::{NodeId, Role};
use tempfile::TempDir;

use super::group::{GroupBench, ONE, TWO};
use super::keys::{key_file, setting};

/// Each station is registered for each side of its calls.
pub const TWO_SIDES: &str = "al_method = \"mr\"\nal_stereo = true\n";
const SRTP: &str = "1-srtp-aescm128-hmac80";

/// A form.
#[derive(Default)]
pub struct Form {
    /// Two recorders make a file each, and mirror each other; there is a witness.
    pub twice: bool,
    pub settings: &'static str,
    /// Of the switch; none: G.711.
    pub codec: Option<&'static str>,
    pub srtp: bool,
    /// Each recorder has a key of its own.
    pub keys: bool,
}

/// A running group that records in a form, and the keys of its recorders.
pub struct Running {
    pub bench: GroupBench,
    pub keys: Vec<PathBuf>,
    _folder: TempDir,
}

impl Form {
    /// Who records.
    pub fn recorders(&self) -> &'static [NodeId] {
        if self.twice { &[ONE, TWO] } else { &[ONE] }
    }

    /// Whose voices are on which channel.
    pub fn parts(&self) -> &'static [Part] {
        let two = self.settings.contains("al_stereo");
        if two { &[Part::Station, Part::Others] } else { &[Part::Whole] }
    }

    /// By how much a tone may be louder or softer than it was, in dB: G.729 and Opus code voices.
    pub fn apart_max(&self) -> f64 {
        match self.codec {
            Some(_) => 9.0,
            None if self.settings.contains("opus") => 4.0,
            None => 1.5,
        }
    }

    /// Starts all that is needed to record so.
    pub async fn start(&self) -> Running {
        let folder = TempDir::new().expect("a folder");
        let mut bench = GroupBench::prepare(self.site(), &self.shape()).await;
        let mut keys = Vec::new();
        for node in self.recorders().iter().filter(|_| self.keys) {
            let file = key_file(folder.path(), &format!("k{node}"));
            let id = format!("al_nodeid = {node}\n");
            bench.edit(*node, &id, &format!("{id}{}", setting(&file)));
            keys.push(file);
        }
        bench.run().await;
        bench.leads_steadily(ONE).await;
        Running { bench, keys, _folder: folder }
    }

    fn site(&self) -> SiteConfig {
        let mut config = SiteConfig::demo(2, self.recorders().len());
        config.switches.codecs = vec![self.codec.unwrap_or("g711A").to_owned()];
        if self.srtp {
            config.switches.encryption = vec![SRTP.to_owned()];
        }
        config
    }

    fn shape(&self) -> Shape {
        let mut settings = self.settings.to_owned();
        if self.srtp {
            settings += "al_mediaencryption = [\"srtp-aescm128-hmac80\"]\n";
        }
        match self.twice {
            true => Shape { settings, ..Shape::active_active(2) },
            false => Shape { settings, roles: vec![Role::Active], ..Shape::hot_standby(2) },
        }
    }
}
