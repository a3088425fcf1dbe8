// Where nobody speaks, from the peaks of a waveform. Pure.

/** Peaks of 0 to 255 up to this are silence: noise of a line, some 42 dB below the loudest. */
const QUIET = 2;
/** Shorter silence belongs to talk. */
const LEAST_MS = 1500;
/** So much of it is left at either end, so that no word is cut. */
const MARGIN_MS = 250;

/** Stretches to skip, in order: `[{ startms, endms }]`. */
export function silences(peaks, peakms) {
  const found = [];
  let from = null;
  for (let index = 0; index <= peaks.length; index += 1) {
    const quiet = index < peaks.length && peaks[index] <= QUIET;
    if (quiet && from === null) {
      from = index;
    } else if (!quiet && from !== null) {
      if ((index - from) * peakms >= LEAST_MS) {
        found.push({ startms: from * peakms + MARGIN_MS, endms: index * peakms - MARGIN_MS });
      }
      from = null;
    }
  }
  return found;
}

/** Where to go on from `ms`, if that is in a stretch to skip; else null. */
export function skipFrom(stretches, ms) {
  const inside = stretches.find((stretch) => ms >= stretch.startms && ms < stretch.endms - 50);
  return inside === undefined ? null : inside.endms;
}
