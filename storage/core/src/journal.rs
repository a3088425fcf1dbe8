//! The capture journal's entries and their bytes: what is appended while calls go on, how it is
//! framed, and where a torn tail is cut. It decides nothing about files, durability or codecs.
//!
//! Small entries (facts) are JSON, because they are few and must stay readable for ever; media is
//! binary, because there is much of it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::draft::Draft;
use crate::ids::{Extension, RecordingId, SegmentId};
use crate::record::GapCause;
use crate::time::WallTime;

/// Which of a phantom's two ports a packet came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The even port: media.
    Rtp,
    /// The odd port: reports (RFC 3550, 6).
    Rtcp,
}

/// A fact in the journal. `Packets` is apart (see [`PacketBlock`]) because it is the hot one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "lowercase")]
pub enum Fact {
    /// A recording was opened, or what is known of it changed; the last one counts. One whose
    /// draft has `ended` will not grow any more and is to be sealed.
    Recording {
        /// What is known now.
        draft: Draft,
    },
    /// A phantom was asked into a call; what its port receives from now on is this segment.
    SegmentOpened {
        /// The new segment.
        segment: SegmentId,
        /// The recording it belongs to.
        recordingid: RecordingId,
        /// The phantom.
        phantom: Extension,
        /// When.
        at: WallTime,
    },
    /// The switch named the media's terms; each later one replaces the one before.
    MediaTerms {
        /// The segment.
        segment: SegmentId,
        /// When.
        at: WallTime,
        /// Where the media comes from.
        source: Option<SocketAddr>,
        /// Codec, by its name in `al_codecs` (`g711a`, …); empty if the switch named none.
        codec: String,
        /// Audio in one packet, milliseconds.
        packetms: u32,
    },
    /// The phantom has left the call; nothing is added to this segment any more.
    SegmentClosed {
        /// The segment.
        segment: SegmentId,
        /// When.
        at: WallTime,
    },
    /// Media arrived and could not be kept.
    Lost {
        /// The segment.
        segment: SegmentId,
        /// First packet not kept.
        from: WallTime,
        /// Last packet not kept.
        to: WallTime,
        /// How many.
        packets: u64,
        /// Why.
        cause: GapCause,
    },
    /// The recording's voice file and record are durable: the journal owes it nothing any more.
    Sealed {
        /// The recording.
        recordingid: RecordingId,
    },
}
