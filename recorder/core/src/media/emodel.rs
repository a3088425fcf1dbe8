//! How a listener would rate what the network left of the voice: the E-model of ITU-T G.107 (06/2015),
//! with everything but packet loss at its default. A recording has no delay and no echo, and what
//! telephones and trunks did before the audio came here cannot be known.

use storage_core::record::GapCause;

use super::published::FRAME_SAMPLES;
use super::timeline::PlannedGap;

/// G.107, table 3: the rating with all parameters at their defaults.
const R_DEFAULT: f64 = 93.2;
/// ITU-T G.113 appendix I, packet-loss robustness of G.711 without concealment: lost audio is silence
/// in the file, whatever it was coded by.
const BPL: f64 = 4.3;

/// Loss as the E-model counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Lost audio to audio that was due, 0 to 1.
    pub ratio: f64,
    /// Mean length of bursts to what it would be if losses were independent (G.107, 3.4); 1 or more.
    pub burst_ratio: f64,
    /// The longest stretch that was lost, milliseconds.
    pub longest_ms: u64,
}

/// What the network lost of `total` samples. What a recorder or the switch is to blame for is neither
/// lost nor was it due from the network.
#[must_use]
pub fn loss(gaps: &[PlannedGap], total: u64) -> Loss {
    let samples = |gap: &PlannedGap| gap.to.0.saturating_sub(gap.from.0);
    let is_loss = |gap: &&PlannedGap| gap.cause == GapCause::Loss;
    let lost: u64 = gaps.iter().filter(is_loss).map(samples).sum();
    let other: u64 = gaps.iter().filter(|gap| !is_loss(gap)).map(samples).sum();
    let due = total.saturating_sub(other);
    let bursts = gaps.iter().filter(is_loss).count();
    if bursts == 0 || due == 0 {
        return Loss { ratio: 0.0, burst_ratio: 1.0, longest_ms: 0 };
    }
    let ratio = (lost as f64 / due as f64).clamp(0.0, 1.0);
    let mean_frames = lost as f64 / FRAME_SAMPLES as f64 / bursts as f64;
    let burst_ratio = (mean_frames * (1.0 - ratio)).max(1.0);
    let longest = gaps.iter().filter(is_loss).map(samples).max().unwrap_or(0);
    Loss { ratio, burst_ratio, longest_ms: longest / 8 }
}

/// Mean opinion score, 1 to 4.5 (G.107, annex B), with this loss, of a codec that impairs speech so
/// much by itself ([`super::Plan::impairment`]).
#[must_use]
pub fn mos(loss: Loss, impairment: f64) -> f64 {
    let percent = loss.ratio * 100.0;
    // G.107, equation 7-29.
    let ie_eff =
        impairment + (95.0 - impairment) * percent / (percent / loss.burst_ratio.max(1.0) + BPL);
    let r = R_DEFAULT - ie_eff;
    if r <= 0.0 {
        return 1.0;
    }
    if r >= 100.0 {
        return 4.5;
    }
    // Equation B-4; below 6.5 it would fall under 1.
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::super::rtp::MediaTime;
    use super::*;

    fn gap(from_ms: u64, to_ms: u64, cause: GapCause) -> PlannedGap {
        PlannedGap { from: MediaTime(from_ms * 8), to: MediaTime(to_ms * 8), cause }
    }

    #[test]
    fn the_score_is_that_of_the_recommendation() {
        // (loss in percent, burst ratio, score worked out by hand)
        for (percent, burst_ratio, expected) in [
            (0.0, 1.0, 4.409),
            (1.0, 1.0, 3.834),
            (4.3, 1.0, 2.351),
            (4.3, 4.0, 1.175),
            (100.0, 1.0, 1.0),
        ] {
            let loss = Loss { ratio: percent / 100.0, burst_ratio, longest_ms: 0 };
            let score = mos(loss, 0.0);
            assert!((score - expected).abs() < 0.002, "{percent} % {burst_ratio}: {score}");
        }
    }

    #[test]
    fn only_what_the_network_lost_counts_and_bursts_count_more() {
        let gaps = [
            gap(0, 20, GapCause::Loss),
            gap(100, 140, GapCause::Loss),
            gap(500, 1_500, GapCause::Takeover),
        ];
        let found = loss(&gaps, 2_000 * 8);
        assert!((found.ratio - 60.0 / 1_000.0).abs() < 1e-9, "{found:?}");
        assert!((found.burst_ratio - 1.5 * 0.94).abs() < 1e-9, "{found:?}");
        assert_eq!(found.longest_ms, 40);
        assert_eq!(loss(&gaps[2..], 2_000 * 8).ratio, 0.0);
        let even = Loss { burst_ratio: 1.0, ..found };
        assert!(mos(found, 0.0) < mos(even, 0.0));
    }
}
