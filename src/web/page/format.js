// Times, lengths and sizes as people read them. Pure.

const two = (number) => String(number).padStart(2, "0");

/** A position or length: `0:41`, `1:02:03`. */
export function clock(ms) {
  const seconds = Math.floor(ms / 1000);
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** A short length: `120 ms`, `3.4 s`, or as a clock. */
export function length(ms) {
  if (ms < 1000) {
    return `${Math.round(ms)} ms`;
  }
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : clock(ms);
}

/** A moment in the reader's own time zone: `2026-11-27 14:03:22`. */
export function moment(text) {
  const time = new Date(text);
  return Number.isNaN(time.getTime()) ? "" : `${day(time)} ${hour(time)}`;
}

/** Its day. */
export function day(time) {
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
}

/** Its time of day. */
export function hour(time) {
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

/** A size in bytes: `1.4 MB`. */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** A ratio of 0 to 1 in percent, never rounded to nothing: `2 %`, `0.3 %`. */
export function percent(ratio) {
  const value = ratio * 100;
  if (value >= 10) {
    return `${Math.round(value)} %`;
  }
  if (value > 0 && value < 0.1) {
    return "< 0.1 %";
  }
  return `${Number(value.toFixed(1))} %`;
}
