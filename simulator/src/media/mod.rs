//! Audio to registered terminals: who hears what (`plan`, pure), how packets are made (`stream`,
//! `coder` and `srtp`, pure), and the thread that sends them on a 20 ms beat (`sender`).

mod coder;
mod plan;
mod record;
mod rtp;
mod sender;
mod srtp;
mod stream;

pub use coder::Coding;
pub use plan::{Change, Notice, Plan, Started};
pub use record::StreamRecord;
pub use sender::{Sender, media_socket};
pub use srtp::{KeyText, MadeStream, Protection, Scheme, base64_text, made_stream};
pub use stream::{Intrusion, RtpFaults, SentFrame, Table};

use std::net::SocketAddr;

use crate::switch::{RegistrationKey, Serial};
use crate::time::Time;
use crate::tone::Part;

/// What is to be sent to one registered terminal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Play {
    /// Whose.
    pub key: RegistrationKey,
    /// AES whose media processor sends.
    pub aes: usize,
    /// Where to.
    pub to: SocketAddr,
    /// How its audio is coded.
    pub coding: Coding,
    /// How it is encrypted.
    pub protection: Option<Protection>,
    /// Index of its first packet, unless by chance.
    pub first_index: Option<u64>,
    /// A report each so many packets; 0: none.
    pub report_packets: u32,
    /// Whose voices it hears.
    pub part: Part,
    /// The interaction heard.
    pub serial: Serial,
    /// When its frame 0 began; before that there is only uncoded tone.
    pub established: Option<Time>,
    /// No packet before this moment.
    pub not_before: Time,
}
