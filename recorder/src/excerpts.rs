//! Decodes the few seconds around a recording's seams to which its sealer listens. Which these are, and
//! what is to be concluded from them, is `recorder_core::media::seam`'s matter.

use recorder_core::media::render::Pass;
use recorder_core::media::{Coded, Plan, Render, VoiceSink};
use storage_core::g711::Law;
use storage_core::journal::Entry;

use crate::decode::Decoders;
use crate::sealing::{SealError, render_error};

/// The excerpts of a plan, one after the other. `read` gives each entry of the recording to what it is
/// given, the same each time.
pub(crate) fn excerpts(
    plan: &Plan,
    mut read: impl FnMut(&mut dyn FnMut(&Entry<'_>)) -> Result<(), SealError>,
) -> Result<Vec<i16>, SealError> {
    let mut excerpts = Excerpts { samples: Vec::new(), decoders: Decoders::default() };
    let mut render = Render::new(plan);
    loop {
        let mut outcome = Ok(());
        read(&mut |entry| {
            if outcome.is_ok() {
                outcome = render.entry(entry, &mut excerpts);
            }
        })?;
        outcome.map_err(render_error)?;
        if render.end_pass(&mut excerpts).map_err(render_error)? == Pass::Done {
            return Ok(excerpts.samples);
        }
    }
}

/// Keeps what it is given; a plan of excerpts is a few minutes long at most.
struct Excerpts {
    samples: Vec<i16>,
    decoders: Decoders,
}

impl VoiceSink for Excerpts {
    type Error = SealError;

    fn audio(&mut self, law: Law, samples: &[u8]) -> Result<(), SealError> {
        self.samples.extend(samples.iter().map(|byte| law.decode(*byte)));
        Ok(())
    }

    fn coded(&mut self, packet: Coded<'_>) -> Result<(), SealError> {
        self.samples.extend(self.decoders.decode(&packet));
        Ok(())
    }

    fn silence(&mut self, samples: u64) -> Result<(), SealError> {
        let samples = usize::try_from(samples).unwrap_or(0);
        self.samples.extend(std::iter::repeat_n(0, samples));
        Ok(())
    }
}
