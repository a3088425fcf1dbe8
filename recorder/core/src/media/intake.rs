//! What the media thread does with a datagram that came to a phantom's port: keep it for the open
//! segment, or count it as something else; and when to say that a segment is silent. It looks at
//! one datagram at a time and judges neither order nor loss.
//!
//! A stranger is kept out only when the source that the switch named has been heard: where the
//! far end sends from another address than it named, nothing is lost, and the sealer decides.

use std::net::SocketAddr;
use std::time::Duration;

use storage_core::journal::Channel;
use storage_core::{MonoTime, SegmentId};

use super::rtp::{NotRtp, RtpPacket, is_rtcp};

/// How long after the switch has named a source packets of others are still kept: they may have
/// been on the way, or the event came before the switch itself was ready.
pub const TERMS_GRACE: Duration = Duration::from_secs(1);
/// A segment that has received nothing for so long is silent (dossier 8.3, watchdog b).
pub const SILENT_AFTER: Duration = Duration::from_secs(3);
/// Media to a phantom in no call of ours is told once in so long.
pub const STRAY_EVERY: Duration = Duration::from_secs(10);

/// What to do with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It belongs to this segment.
    Keep(SegmentId),
    /// It is not from the source that the switch named.
    Stranger,
    /// It is not what belongs on this port.
    Malformed(NotRtp),
    /// The phantom is in no call of ours.
    Stray,
}

/// What to tell the control plane of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hearing {
    /// Nothing came for [`SILENT_AFTER`].
    Silent(SegmentId),
    /// A silent segment receives again.
    Audible(SegmentId),
}

/// The state of one phantom's ports.
#[derive(Clone, Debug, Default)]
pub struct Intake {
    open: Option<Open>,
    stray_told: Option<MonoTime>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    segment: SegmentId,
    named: Option<(SocketAddr, MonoTime)>,
    named_heard: bool,
    heard: MonoTime,
    silent: bool,
}

/// What to do with a datagram that is still to be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Decrypt it.
    Open,
    /// It is not from the source that the switch named.
    Stranger,
    /// The phantom is in no call of ours.
    Stray,
}

impl Open {
    fn is_named(&self, channel: Channel, source: SocketAddr) -> bool {
        self.named.is_some_and(|(named, _)| match channel {
            Channel::Rtp => source == named,
            Channel::Rtcp => source.ip() == named.ip(),
        })
    }

    fn is_stranger(&self, now: MonoTime, channel: Channel, source: SocketAddr) -> bool {
        let Some((_, since)) = self.named else { return false };
        self.named_heard && now.since(since) >= TERMS_GRACE && !self.is_named(channel, source)
    }
}

impl Intake {
    /// The segment that what comes now belongs to.
    #[must_use]
    pub fn segment(&self) -> Option<SegmentId> {
        self.open.map(|open| open.segment)
    }

    /// A segment begins; one that was open is forgotten.
    pub fn open(&mut self, now: MonoTime, segment: SegmentId) {
        let heard = now;
        self.open = Some(Open { segment, named: None, named_heard: false, heard, silent: false });
    }

    /// The switch has named the media's source, or does not any more.
    pub fn terms(&mut self, now: MonoTime, source: Option<SocketAddr>) {
        if let Some(open) = &mut self.open {
            let same = open.named.map(|(named, _)| named) == source;
            if !same {
                open.named = source.map(|source| (source, now));
                open.named_heard = false;
            }
        }
    }

    /// The segment ends.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Looks at where a datagram comes from, before it is decrypted: whether that can be worth it.
    /// What was decrypted is still to be judged; only that counts as heard.
    #[must_use]
    pub fn admits(&self, now: MonoTime, channel: Channel, source: SocketAddr) -> Admission {
        match &self.open {
            None => Admission::Stray,
            Some(open) if open.is_stranger(now, channel, source) => Admission::Stranger,
            Some(_) => Admission::Open,
        }
    }

    /// Judges a datagram that is plain.
    pub fn judge(
        &mut self,
        now: MonoTime,
        channel: Channel,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Verdict {
        let Some(open) = &mut self.open else { return Verdict::Stray };
        let reason = match channel {
            Channel::Rtp => RtpPacket::parse(datagram).err(),
            Channel::Rtcp => (!is_rtcp(datagram)).then_some(NotRtp::Header),
        };
        if let Some(reason) = reason {
            return Verdict::Malformed(reason);
        }
        if open.is_stranger(now, channel, source) {
            return Verdict::Stranger;
        }
        if channel == Channel::Rtp {
            open.named_heard |= open.is_named(channel, source);
            open.heard = now;
        }
        Verdict::Keep(open.segment)
    }

    /// Whether a stray datagram is to be told now.
    pub fn tell_stray(&mut self, now: MonoTime) -> bool {
        let due = self.stray_told.is_none_or(|told| now.since(told) >= STRAY_EVERY);
        if due {
            self.stray_told = Some(now);
        }
        due
    }

    /// After each sweep: what has changed.
    pub fn swept(&mut self, now: MonoTime) -> Option<Hearing> {
        let open = self.open.as_mut()?;
        let silent = now.since(open.heard) >= SILENT_AFTER;
        let changed = silent != open.silent;
        open.silent = silent;
        let segment = open.segment;
        changed.then_some(if silent { Hearing::Silent(segment) } else { Hearing::Audible(segment) })
    }
}

#[cfg(test)]
mod tests {
    use super::super::rtp::tests::packet;
    use super::*;

    fn ms(ms: u64) -> MonoTime {
        MonoTime::from_millis(ms)
    }

    fn source(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 5], port))
    }

    const SEGMENT: SegmentId = SegmentId(3);

    #[test]
    fn strangers_are_kept_out_once_the_named_source_is_heard_and_the_grace_is_over() {
        let rtp = packet(1, 1, 1, 8, false, &[0; 160]);
        let (named, other) = (source(2000), source(3000));
        let mut intake = Intake::default();
        let judge = |at, from, intake: &mut Intake| intake.judge(ms(at), Channel::Rtp, from, &rtp);
        assert_eq!(judge(0, other, &mut intake), Verdict::Stray);
        intake.open(ms(0), SEGMENT);
        assert_eq!(judge(10, other, &mut intake), Verdict::Keep(SEGMENT));
        intake.terms(ms(20), Some(named));
        assert_eq!(judge(1_500, other, &mut intake), Verdict::Keep(SEGMENT), "named is dumb");
        assert_eq!(judge(1_600, named, &mut intake), Verdict::Keep(SEGMENT));
        assert_eq!(judge(1_601, other, &mut intake), Verdict::Stranger);
        // The media moves on: the grace begins anew, and the same terms again do not.
        intake.terms(ms(2_000), Some(other));
        assert_eq!(judge(2_001, named, &mut intake), Verdict::Keep(SEGMENT));
        assert_eq!(judge(2_002, other, &mut intake), Verdict::Keep(SEGMENT));
        intake.terms(ms(2_900), Some(other));
        assert_eq!(judge(3_001, named, &mut intake), Verdict::Stranger);
        intake.close();
        assert_eq!(judge(3_002, other, &mut intake), Verdict::Stray);
    }

    #[test]
    fn what_is_not_decrypted_yet_is_admitted_by_its_source_and_not_heard() {
        let rtp = packet(1, 1, 1, 8, false, &[0; 160]);
        let (named, other) = (source(2000), source(3000));
        let mut intake = Intake::default();
        assert_eq!(intake.admits(ms(0), Channel::Rtp, named), Admission::Stray);
        intake.open(ms(0), SEGMENT);
        intake.terms(ms(0), Some(named));
        // The named source was not heard, whatever it sent that could not be decrypted.
        assert_eq!(intake.admits(ms(2_000), Channel::Rtp, named), Admission::Open);
        assert_eq!(intake.admits(ms(2_000), Channel::Rtp, other), Admission::Open);
        assert_eq!(intake.swept(ms(3_000)), Some(Hearing::Silent(SEGMENT)));
        assert_eq!(intake.judge(ms(3_100), Channel::Rtp, named, &rtp), Verdict::Keep(SEGMENT));
        assert_eq!(intake.admits(ms(3_200), Channel::Rtp, other), Admission::Stranger);
        assert_eq!(intake.admits(ms(3_200), Channel::Rtcp, source(2001)), Admission::Open);
    }

    #[test]
    fn each_port_takes_its_own_kind_only() {
        let rtp = packet(1, 1, 1, 8, false, &[0; 160]);
        let report = [0x80, 200, 0, 0];
        let mut intake = Intake::default();
        intake.open(ms(0), SEGMENT);
        intake.terms(ms(0), Some(source(2000)));
        let mut judge = |channel, bytes: &[u8]| intake.judge(ms(1), channel, source(2001), bytes);
        assert_eq!(judge(Channel::Rtcp, &report), Verdict::Keep(SEGMENT));
        assert_eq!(judge(Channel::Rtp, &report), Verdict::Malformed(NotRtp::Rtcp));
        assert_eq!(judge(Channel::Rtcp, &rtp), Verdict::Malformed(NotRtp::Header));
        assert_eq!(judge(Channel::Rtp, b"hello"), Verdict::Malformed(NotRtp::Short));
    }

    #[test]
    fn silence_is_told_once_and_its_end_too() {
        let rtp = packet(1, 1, 1, 8, false, &[0; 160]);
        let mut intake = Intake::default();
        assert_eq!(intake.swept(ms(9_999)), None);
        intake.open(ms(10_000), SEGMENT);
        assert_eq!(intake.swept(ms(12_999)), None);
        assert_eq!(intake.swept(ms(13_000)), Some(Hearing::Silent(SEGMENT)));
        assert_eq!(intake.swept(ms(14_000)), None);
        intake.judge(ms(14_100), Channel::Rtp, source(1), b"garbage is not heard");
        assert_eq!(intake.swept(ms(14_100)), None);
        intake.judge(ms(14_200), Channel::Rtp, source(1), &rtp);
        assert_eq!(intake.swept(ms(14_200)), Some(Hearing::Audible(SEGMENT)));
        assert_eq!((intake.tell_stray(ms(0)), intake.tell_stray(ms(9_999))), (true, false));
        assert!(intake.tell_stray(ms(10_000)));
    }
}
