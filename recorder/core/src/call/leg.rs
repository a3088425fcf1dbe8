//! What one receiver of a tap is being sent, and since when it is overdue. A tap has one leg, or two where
//! its device hears each side of a call by itself: their segments are opened and closed together,
//! whether or not both receivers are registered, so that what comes late finds its segment open. What
//! to do about a leg that hears nothing is the watchdog's matter.

use std::net::SocketAddr;
use std::time::Duration;

use storage_core::journal::Fact;
use storage_core::record::Side;
use storage_core::{MonoTime, SegmentId, WallTime};

/// Media must be told of, and packets must come, within this (dossier 8.3 a, b).
pub(super) const MEDIA: Duration = Duration::from_secs(3);

/// One that was heard hears nothing. In a hold that is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// When it was looked at last.
    pub seen: MonoTime,
    /// Whether anybody held the call then.
    pub held: bool,
}

/// What the switch has said of a receiver's media.
#[derive(Clone, Debug)]
pub(super) struct MediaTerms {
    pub source: Option<SocketAddr>,
    pub codec: String,
    pub packetms: u32,
}

impl MediaTerms {
    /// As it is written down.
    pub fn fact(&self, segment: SegmentId, at: WallTime) -> Fact {
        let Self { source, codec, packetms } = self.clone();
        Fact::MediaTerms { segment, at, source, codec, packetms }
    }
}

/// One receiver in use.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    /// The side that it is sent; `None` for all in one.
    pub side: Option<Side>,
    /// The open segment, or the one that the tap's ring would become.
    pub segment: Option<SegmentId>,
    /// When the switch told of its media.
    pub media: Option<MonoTime>,
    /// The media that it is being sent.
    pub terms: Option<MediaTerms>,
    /// Whether a packet was heard.
    pub heard: bool,
    /// When the first packet of the segment was received.
    pub first: Option<WallTime>,
    /// It was heard once, and is not any more.
    pub silence: Option<Silence>,
    /// When something was last done about its hearing nothing, or it was opened.
    pub seen: MonoTime,
}

impl Leg {
    /// One on which a segment or a ring was just opened.
    pub const fn new(side: Option<Side>, segment: SegmentId, now: MonoTime) -> Self {
        Self {
            side,
            segment: Some(segment),
            media: None,
            terms: None,
            heard: false,
            first: None,
            silence: None,
            seen: now,
        }
    }

    /// Whether what is to be heard comes.
    pub const fn is_audible(&self) -> bool {
        self.heard && self.silence.is_none()
    }

    /// When it is overdue, if nothing comes; `since`: when the switch let it in.
    pub fn deadline(&self, since: MonoTime) -> Option<MonoTime> {
        if self.heard {
            return self.silence.map(|silence| silence.seen + MEDIA);
        }
        let since = since.max(self.seen);
        Some(self.media.map_or(since, |at| at.max(since)) + MEDIA)
    }

    /// Whether it should hear something and does not.
    pub fn is_deaf(&self, now: MonoTime, since: MonoTime) -> bool {
        match self.silence {
            Some(silence) => !silence.held,
            None => !self.heard && now.since(since) >= MEDIA,
        }
    }
}
