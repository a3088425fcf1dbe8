//! Media: from captured packets to one timeline.
//!
//! A sealed recording is read twice. [`index::Index`] looks at headers only, and its
//! [`timeline::Plan`] says which packet's audio goes where and where none is, and why.
//! [`render::Render`] then reads the audio and hands it on in order. Neither holds the audio of
//! a call in memory.

pub mod align;
pub mod clock_step;
pub mod drafts;
pub mod emodel;
pub mod fade;
pub(crate) mod holds;
pub(crate) mod hole;
pub(crate) mod identical;
pub mod index;
pub mod intake;
pub(crate) mod joins;
pub mod keys;
pub mod left_out;
pub mod mute;
pub mod payload;
pub(crate) mod pieces;
pub(crate) mod placer;
pub mod playout;
pub mod published;
pub mod quality;
pub mod record;
pub mod render;
pub mod repair;
pub(crate) mod report;
pub mod rtp;
pub(crate) mod run;
pub mod seam;
pub(crate) mod settle;
pub mod sound;
pub mod srtp;
pub mod stereo;
pub mod timeline;
pub mod weave;
pub mod writing;

#[cfg(test)]
mod ends_tests;
#[cfg(test)]
mod left_out_tests;
#[cfg(test)]
mod node_tests;
#[cfg(test)]
mod repair_tests;
#[cfg(test)]
mod seam_tests;
#[cfg(test)]
mod stereo_tests;
#[cfg(test)]
mod talk;
#[cfg(test)]
mod tests;

pub use drafts::{merge_drafts, shifted};
pub use fade::{Fades, Part};
pub use index::{CaptureKey, Index, Source};
pub use intake::{Admission, Hearing, Intake, Verdict};
pub use joins::{Joins, PlannedSeam};
pub use keys::Key;
pub use left_out::LeftOut;
pub use mute::Mute;
pub use payload::Codec;
pub use playout::Playout;
pub use record::{add_sound, begin_when_due, draft_of, record, record_of_sides, revised};
pub use render::{Coded, Pass, Render, RenderError, VoiceSink};
pub use repair::{Leaning, Listen, Piece as RepairPiece, Published, Repair, Repaired};
pub use rtp::{MediaTime, NotRtp, RtpPacket, Ssrc};
pub use seam::Listening;
pub use settle::Census;
pub use sound::{Heard, Sound};
pub use stereo::{Layout, Stereo};
pub use timeline::{Ignored, Plan, PlannedGap, PlannedSegment, Unplaceable};
pub use weave::{Piece, Weave};
pub use writing::{Look, Trouble, Writing};

use storage_core::{Extension, Now, SegmentId, WallTime};

/// What the media thread tells the control plane. Only changes are told, never each packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaNotice {
    /// The first packet of a segment is in the capture.
    FirstPacket {
        /// The segment.
        segment: SegmentId,
        /// When the kernel received it.
        received: WallTime,
        /// When it was written to the capture.
        captured: Now,
    },
    /// An open segment has received nothing for three seconds.
    Silent {
        /// The segment.
        segment: SegmentId,
    },
    /// A silent segment receives again.
    Audible {
        /// The segment.
        segment: SegmentId,
    },
    /// The capture takes what it is given again, or no longer.
    Writing(bool),
    /// The media thread is held up, by a slow disk for example, or was a moment ago: that it has not told of a first packet
    /// says nothing of the phantom.
    Stalled,
    /// A phantom that is in no call of ours receives media.
    Stray {
        /// The phantom.
        phantom: Extension,
    },
}
