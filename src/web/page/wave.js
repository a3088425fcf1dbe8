// The waveform with its marks: drawn from peaks, sought in by mouse, finger and keys. What the marks are is
// `record.js`'s matter, what plays `sound.js`'s.

import { el, fill, place } from "./dom.js";
import { clock } from "./format.js";
import { t } from "./texts.js";

const HEIGHT = 112;

export class Wave {
  #length;
  #seek;
  #peaks = [];
  #peakms = 1;
  #canvas = el("canvas", { "aria-hidden": "true", height: HEIGHT });
  #cursor = el("div", { class: "cursor" });
  #loop = el("div", { class: "loop", hidden: true });
  #observer;

  /** Of a recording so long; `seek(ms)` is called when somebody points. */
  constructor(lengthms, marks, seek) {
    this.#length = Math.max(1, lengthms);
    this.#seek = seek;
    const drawn = marks.filter((mark) => !["came", "left"].includes(mark.kind)).map((mark) => this.#mark(mark));
    this.element = el("div", {
      id: "wave", class: "wave", role: "slider", tabindex: "0", "aria-label": t("player.wave"),
      "aria-valuemin": "0", "aria-valuemax": Math.round(lengthms / 1000), "aria-valuenow": "0",
    }, this.#canvas, el("div", { class: "marks" }, drawn), this.#loop, this.#cursor);
    this.element.addEventListener("pointerdown", (event) => this.#point(event));
    this.element.addEventListener("pointermove", (event) => event.buttons === 1 && this.#point(event));
    this.#observer = new ResizeObserver(() => this.#draw());
    this.#observer.observe(this.element);
    // Colours come from the style, which follows the system.
    this.dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.#draw();
    this.dark.addEventListener("change", this.redraw);
  }

  /** What it looks like. */
  set(peaks, peakms) {
    this.#peaks = peaks;
    this.#peakms = peakms;
    this.#draw();
  }

  /** Where playing is. */
  at(ms) {
    place(this.#cursor, Math.min(1, ms / this.#length));
    this.element.setAttribute("aria-valuenow", String(Math.round(ms / 1000)));
    const text = t("player.at", { at: clock(ms), length: clock(this.#length) });
    this.element.setAttribute("aria-valuetext", text);
  }

  /** What is repeated. */
  looped({ from, to }) {
    this.#loop.hidden = from === null;
    if (from !== null) {
      place(this.#loop, from / this.#length, (to ?? from) / this.#length);
    }
  }

  close() {
    this.#observer.disconnect();
    this.dark.removeEventListener("change", this.redraw);
  }

  #point(event) {
    if (event.button !== 0 && event.type === "pointerdown") {
      return;
    }
    const { left, width } = this.element.getBoundingClientRect();
    this.element.setPointerCapture?.(event.pointerId);
    this.#seek(Math.min(1, Math.max(0, (event.clientX - left) / width)) * this.#length);
  }

  #mark(mark) {
    const element = el("span", {
      class: `mark ${mark.kind}`, title: `${clock(mark.startms)} ${mark.text}`,
      "data-startms": mark.startms, "data-endms": mark.endms,
    });
    const moment = mark.startms === mark.endms;
    const to = moment ? undefined : Math.min(1, mark.endms / this.#length);
    return place(element, Math.min(1, mark.startms / this.#length), to);
  }

  #draw() {
    const width = this.element.clientWidth;
    if (width === 0) {
      return;
    }
    const scale = window.devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(HEIGHT * scale);
    const context = this.#canvas.getContext("2d");
    context.scale(scale, scale);
    context.fillStyle = getComputedStyle(this.element).getPropertyValue("--wave");
    const middle = HEIGHT / 2;
    for (let x = 0; x < width; x += 1) {
      const first = Math.floor((x / width) * this.#length / this.#peakms);
      const last = Math.max(first + 1, Math.ceil(((x + 1) / width) * this.#length / this.#peakms));
      let peak = 0;
      for (let index = first; index < last && index < this.#peaks.length; index += 1) {
        peak = Math.max(peak, this.#peaks[index]);
      }
      // By the root, so that quiet talk is seen, too.
      const half = Math.max(0.5, Math.sqrt(peak / 255) * (middle - 4));
      context.fillRect(x, middle - half, 1, half * 2);
    }
  }
}

/** Who was in the call, when, and who held it: a line for each. */
export function partyLines(record) {
  const length = Math.max(1, record.durationms);
  const lines = record.parties.map((party) => {
    const here = place(el("span", { class: "here" }), party.fromms / length, Math.min(1, party.toms / length));
    const holds = (party.holds ?? []).map((hold) =>
      place(el("span", { class: "held" }), hold.startms / length, Math.min(1, hold.endms / length)));
    const times = `${clock(party.fromms)} – ${clock(party.toms)}`;
    return el("li", {}, el("span", { class: "name", text: party.who, title: party.who }),
      el("span", { class: "times", text: times }), el("span", { class: "line", "aria-hidden": "true" }, here, holds));
  });
  return fill(el("ul", { class: "parties" }), lines);
}
