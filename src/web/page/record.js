// What a record says, for people: the marks on its timeline, and its quality in words. Pure: a record
// goes in, and out come lists.

import { clock, length, percent } from "./format.js";
import { t } from "./texts.js";

/** Gaps of lost packets that are closer together than this are told as one. */
const ONE_TROUBLE_MS = 5000;
/** Shorter loss is not worth a sentence of its own. */
const WORTH_TELLING_MS = 40;
const DEAD_AIR_MS = 15_000;
const JITTER_MS = 30;
const CLIPPED = 0.001;
const QUIET_DB = -36;

/** Whether it has a channel for each side of the call. */
export function hasTwoChannels(record) {
  return record.segments.some((segment) => segment.side !== undefined);
}

/** Whether audio is missing for which a recorder is to blame; as the filter `incomplete` has it. */
export function lacksAudio(record) {
  return !record.complete || record.gaps.some((gap) => ["takeover", "diskfull"].includes(gap.cause));
}

/**
 * What happened when, in order of time: `{ kind, startms, endms, text }`. `kind` is `gap`, `pause`,
 * `hold`, `seam`, `came`, `left` or `key`; a moment has `endms === startms`.
 */
export function marks(record) {
  const found = [];
  const add = (kind, startms, endms, text) => found.push({ kind, startms, endms, text });
  for (const gap of record.gaps) {
    const cause = t(`gap.${gap.cause}`);
    const side = gap.side === undefined ? "" : ` (${t(`side.${gap.side}`)})`;
    if (gap.cause !== "paused") {
      add("gap", gap.startms, gap.endms, `${cause}${side}, ${length(gap.endms - gap.startms)}`);
    }
  }
  for (const pause of record.pauses) {
    const by = pause.by === "" ? t("mark.paused") : t("mark.pausedby", { by: pause.by });
    add("pause", pause.startms, pause.endms, `${by}, ${length(pause.endms - pause.startms)}`);
  }
  for (const party of record.parties) {
    if (party.fromms > 0) {
      add("came", party.fromms, party.fromms, t("mark.came", { who: party.who }));
    }
    if (party.toms < record.durationms) {
      add("left", party.toms, party.toms, t("mark.left", { who: party.who }));
    }
    for (const hold of party.holds ?? []) {
      const text = t("mark.hold", { who: party.who, length: length(hold.endms - hold.startms) });
      add("hold", hold.startms, hold.endms, text);
    }
  }
  for (const seam of record.seams ?? []) {
    const how = t(`seam.${seam.method}`);
    add("seam", seam.atms, seam.atms, t("mark.seam", { from: seam.from, to: seam.to, how }));
  }
  for (const at of record.keysms ?? []) {
    add("key", at, at, t("mark.key"));
  }
  return found.sort((one, other) => one.startms - other.startms || one.endms - other.endms);
}

/** The quality in sentences, the worst first; `{ grave, text }` each. */
export function quality(record) {
  const told = [];
  const say = (grave, key, values) => told.push({ grave, text: t(key, values) });
  if (!record.complete) {
    say(true, record.cutshort ? "quality.cutshort" : "quality.incomplete");
  }
  told.push(...missing(record));
  const { mos, oneway, jitterms, leveldb, clippedratio, deadairms } = record.quality;
  if (oneway === true) {
    say(true, "quality.oneway");
  }
  if ((deadairms ?? 0) >= DEAD_AIR_MS) {
    say(false, "quality.deadair", { length: length(deadairms) });
  }
  if (jitterms > JITTER_MS) {
    say(false, "quality.jitter", { ms: Math.round(jitterms) });
  }
  if ((clippedratio ?? 0) > CLIPPED) {
    say(false, "quality.clipped", { percent: percent(clippedratio) });
  }
  if (leveldb !== undefined && leveldb < QUIET_DB) {
    say(false, "quality.quiet", { level: Math.round(-leveldb) });
  }
  if (mos !== undefined) {
    say(mos < 3.1, `quality.${grade(mos)}`, { mos: mos.toFixed(1) });
  }
  return told.sort((one, other) => Number(other.grave) - Number(one.grave));
}

/** A word for a mean opinion score: as ITU-T G.107, annex B, has its classes. */
export function grade(mos) {
  if (mos >= 4.03) {
    return "good";
  }
  if (mos >= 3.6) {
    return "fair";
  }
  return mos >= 3.1 ? "poor" : "bad";
}

function missing(record) {
  const told = [];
  const lost = record.gaps.filter((gap) => gap.cause === "loss");
  for (const trouble of together(lost)) {
    const between = { from: clock(trouble.startms), to: clock(trouble.endms) };
    const span = trouble.endms - trouble.startms;
    if (trouble.gaps > 1 && span > 0) {
      const ratio = percent(trouble.ms / span);
      told.push({ grave: trouble.ms / span >= 0.05, text: t("quality.loss", { percent: ratio, ...between }) });
    } else if (trouble.ms >= WORTH_TELLING_MS) {
      const values = { length: length(trouble.ms), from: between.from };
      told.push({ grave: trouble.ms >= 1000, text: t("quality.lossonce", values) });
    }
  }
  if (told.length === 0 && record.quality.lossratio > 0) {
    told.push({ grave: false, text: t("quality.lossall", { percent: percent(record.quality.lossratio) }) });
  }
  for (const gap of record.gaps) {
    if (gap.cause !== "loss" && gap.cause !== "paused") {
      const side = gap.side === undefined ? "" : ` (${t(`side.${gap.side}`)})`;
      const values = {
        length: length(gap.endms - gap.startms), from: clock(gap.startms), cause: t(`gap.${gap.cause}`) + side,
      };
      const text = t(gap.cause === "hold" ? "quality.leftout" : "quality.gap", values);
      told.push({ grave: ["takeover", "diskfull"].includes(gap.cause), text });
    }
  }
  return told;
}

/** Gaps that are near each other, as one. */
function together(gaps) {
  const joined = [];
  for (const gap of [...gaps].sort((one, other) => one.startms - other.startms)) {
    const last = joined.at(-1);
    if (last !== undefined && gap.startms - last.endms <= ONE_TROUBLE_MS) {
      last.endms = Math.max(last.endms, gap.endms);
      last.ms += gap.endms - gap.startms;
      last.gaps += 1;
    } else {
      joined.push({ startms: gap.startms, endms: gap.endms, ms: gap.endms - gap.startms, gaps: 1 });
    }
  }
  return joined;
}
