// Playing one recording: position, speed, loop, silence that is skipped, and which side is heard. How it looks
// is decided elsewhere; it calls `changed` when something has.

import { skipFrom } from "./silence.js";

/** How fast it may go. */
export const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3];

export class Sound {
  /** Stretches that `skipping` skips. */
  silences = [];
  skipping = false;
  /** Milliseconds, or null: begin and end of the loop. */
  loop = { from: null, to: null };
  #audio = new Audio();
  #changed;
  #graph = null;
  #channel = "both";
  #frame = 0;

  /** Of this recording; a WAV file of linear samples is what every browser plays. */
  constructor(id, changed, failed) {
    this.#changed = changed;
    const audio = this.#audio;
    audio.preload = "metadata";
    audio.preservesPitch = true;
    audio.src = `/api/recordings/${encodeURIComponent(id)}/audio?format=wav`;
    for (const event of ["play", "pause", "seeked", "ratechange", "volumechange", "loadedmetadata", "ended"]) {
      audio.addEventListener(event, () => this.#changed());
    }
    audio.addEventListener("play", () => this.#follow());
    // Where nobody looks there are no frames, and it goes on all the same.
    audio.addEventListener("timeupdate", () => this.#tick());
    audio.addEventListener("error", () => audio.error !== null && failed(audio.error.message));
  }

  get element() {
    return this.#audio;
  }

  get ms() {
    return this.#audio.currentTime * 1000;
  }

  get playing() {
    return !this.#audio.paused;
  }

  get speed() {
    return this.#audio.playbackRate;
  }

  set speed(rate) {
    this.#audio.playbackRate = rate;
  }

  get channel() {
    return this.#channel;
  }

  /** `both`, `left` or `right`; the last two are heard on both ears. */
  set channel(which) {
    this.#channel = which;
    if (this.#graph === null && which === "both") {
      return;
    }
    this.#graph ??= graph(this.#audio);
    const { context, source, splitter, merger } = this.#graph;
    source.disconnect();
    splitter.disconnect();
    if (which === "both") {
      source.connect(context.destination);
    } else {
      source.connect(splitter);
      const output = which === "left" ? 0 : 1;
      splitter.connect(merger, output, 0);
      splitter.connect(merger, output, 1);
    }
    // Browsers begin a context only when somebody has touched the page, as he has now.
    context.resume();
    this.#changed();
  }

  toggle() {
    if (this.playing) {
      this.#audio.pause();
    } else {
      // A refusal comes as an event, too, but where the browser wants a touch first.
      this.#audio.play().catch(() => this.#changed());
    }
  }

  seek(ms) {
    const end = Number.isFinite(this.#audio.duration) ? this.#audio.duration * 1000 : Infinity;
    this.#audio.currentTime = Math.min(Math.max(0, ms), end) / 1000;
    this.#changed();
  }

  /** A step faster or slower. */
  step(by) {
    const at = SPEEDS.indexOf(this.speed);
    this.speed = SPEEDS[Math.min(Math.max(0, at + by), SPEEDS.length - 1)];
  }

  /** Ends it, and the connection that it is fetched on. */
  close() {
    cancelAnimationFrame(this.#frame);
    this.#audio.pause();
    this.#audio.removeAttribute("src");
    this.#audio.load();
    this.#graph?.context.close();
  }

  #follow() {
    cancelAnimationFrame(this.#frame);
    const next = () => {
      this.#tick();
      if (this.playing) {
        this.#frame = requestAnimationFrame(next);
      }
    };
    this.#frame = requestAnimationFrame(next);
  }

  #tick() {
    if (this.playing && !this.#audio.seeking) {
      const { from, to } = this.loop;
      const on = this.skipping ? skipFrom(this.silences, this.ms) : null;
      if (from !== null && to !== null && this.ms >= to) {
        this.seek(from);
      } else if (on !== null) {
        this.seek(on);
      }
    }
    this.#changed();
  }
}

function graph(audio) {
  const context = new AudioContext();
  return {
    context,
    source: context.createMediaElementSource(audio),
    splitter: context.createChannelSplitter(2),
    merger: (() => {
      const merger = context.createChannelMerger(2);
      merger.connect(context.destination);
      return merger;
    })(),
  };
}
