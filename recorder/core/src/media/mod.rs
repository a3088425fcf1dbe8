//! Media: from captured packets to one timeline.

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
    /// A phantom that is in no call of ours receives media.
    Stray {
        /// The phantom.
        phantom: Extension,
    },
}
