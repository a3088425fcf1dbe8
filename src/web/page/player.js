// One recording, open: what it sounds like, looks like and says. Sound, waveform and words are made elsewhere;
// here they are put together, with the controls.

import { get } from "./api.js";
import { button, el, facts, fill } from "./dom.js";
import { clock, moment, size } from "./format.js";
import { failed, notice, words } from "./frame.js";
import { meaning, showHelp, singleKeys } from "./help.js";
import { hasTwoChannels, marks, quality } from "./record.js";
import { badges } from "./results.js";
import { scores } from "./scorecard.js";
import { silences } from "./silence.js";
import { askOnce } from "./socket.js";
import { SPEEDS, Sound } from "./sound.js";
import { t } from "./texts.js";
import { Wave, partyLines } from "./wave.js";

/** Copies of a call begin within so long of each other. */
const COPIES_WITHIN_MS = 600_000;

export class Player {
  #record;
  #sound;
  #wave;
  #marks;
  #controls;
  #keys;

  /** Opens a recording. `open(id)` opens another, `close()` this one no more. */
  constructor(record, who, { open, close }) {
    this.#record = record;
    this.#marks = marks(record);
    this.#sound = new Sound(record.recordingid, () => this.#show(), (message) => this.#unplayable(message));
    this.#wave = new Wave(record.durationms, this.#marks, (ms) => this.#sound.seek(ms));
    this.#controls = this.#makeControls();
    const title = t("player.title", record);
    this.element = el("section", { class: "player", id: "player", "aria-labelledby": "playerhead" },
      el("div", { class: "apart" }, el("h2", { id: "playerhead", tabindex: "-1", text: title }),
        button("×", close, { id: "close", "aria-label": t("player.close") })),
      el("div", { class: "badges" }, badges(record)), held(record),
      this.#wave.element, this.#controls.element, this.#about(),
      el("div", { class: "row" }, this.#downloads(), this.#repair(who, open),
        button(t("player.help"), showHelp, { id: "showhelp", class: "link" })));
    this.#keys = (event) => this.#key(event);
    document.addEventListener("keydown", this.#keys);
    this.#show();
    this.#look();
  }

  /** Ends it. */
  close() {
    document.removeEventListener("keydown", this.#keys);
    this.#sound.close();
    this.#wave.close();
    this.element.remove();
  }

  focus() {
    this.element.querySelector("#playerhead").focus({ preventScroll: true });
  }

  async #look() {
    const id = encodeURIComponent(this.#record.recordingid);
    try {
      const { peaks, peakms } = await get(`/api/recordings/${id}/waveform`, { points: 4000 });
      this.#wave.set(peaks, peakms);
      this.#sound.silences = silences(peaks, peakms);
      this.element.dataset.drawn = "true";
    } catch (error) {
      notice(t("player.nowave", { message: words(error) }), "bad");
    }
  }

  #unplayable(message) {
    notice(t("player.failed", { message }), "bad");
  }

  #makeControls() {
    const sound = this.#sound;
    const play = button(t("player.play"), () => sound.toggle(), { id: "play", class: "main" });
    const at = el("span", { id: "at", class: "at" });
    const speed = el("select", { id: "speed" },
      SPEEDS.map((rate) => el("option", { value: String(rate), text: `${rate} ×` })));
    speed.addEventListener("change", () => { sound.speed = Number(speed.value); });
    const volume = el("input", { id: "volume", type: "range", min: "0", max: "1", step: "0.05", value: "1" });
    volume.addEventListener("input", () => { sound.element.volume = Number(volume.value); });
    const skip = el("input", { id: "skip", type: "checkbox" });
    skip.addEventListener("change", () => { sound.skipping = skip.checked; });
    const channel = el("select", { id: "channel" },
      ["both", "left", "right"].map((which) => el("option", { value: which, text: t(`player.${which}`) })));
    channel.addEventListener("change", () => { sound.channel = channel.value; });
    const looped = el("span", { id: "looped", class: "quiet" });
    const loopTo = button(t("player.loopb"), () => this.#loop("to"), { id: "loopb" });
    const loopOff = button(t("player.loopoff"), () => this.#loop("off"), { id: "loopoff" });
    const two = hasTwoChannels(this.#record);
    const field = (text, control) => el("span", { class: "inline" }, el("label", { for: control.id, text: t(text) }), control);
    const element = el("div", { class: "controls" },
      el("div", { class: "row" }, button("−5 s", () => this.#by(-5000), { "aria-label": t("player.back") }), play,
        button("+5 s", () => this.#by(5000), { "aria-label": t("player.on") }), at,
        field("player.speed", speed), field("player.volume", volume),
        el("span", { class: "inline" }, skip, el("label", { for: "skip", text: t("player.skip") })),
        two ? field("player.channel", channel) : null),
      el("div", { class: "row" }, button(t("player.loopa"), () => this.#loop("from"), { id: "loopa" }),
        loopTo, loopOff, looped));
    return { element, play, at, speed, skip, channel, looped, loopTo, loopOff };
  }

  /** Everything that follows the sound. */
  #show() {
    const { play, at, speed, skip, channel, looped, loopTo, loopOff } = this.#controls ?? {};
    if (play === undefined) {
      return;
    }
    const { ms, playing, loop } = this.#sound;
    this.#wave.at(ms);
    this.#wave.looped(loop);
    play.textContent = t(playing ? "player.pause" : "player.play");
    at.textContent = t("player.at", { at: clock(ms), length: clock(this.#record.durationms) });
    speed.value = String(this.#sound.speed);
    skip.checked = this.#sound.skipping;
    channel.value = this.#sound.channel;
    loopTo.disabled = loop.from === null;
    loopOff.disabled = loop.from === null;
    const both = loop.from !== null && loop.to !== null;
    looped.textContent = both ? t("player.looped", { from: clock(loop.from), to: clock(loop.to) }) : "";
  }

  #by(ms) {
    this.#sound.seek(this.#sound.ms + ms);
  }

  #loop(end) {
    const { loop, ms } = this.#sound;
    if (end === "off") {
      this.#sound.loop = { from: null, to: null };
    } else if (end === "from") {
      this.#sound.loop = { from: ms, to: loop.to !== null && loop.to > ms ? loop.to : null };
    } else if (loop.from !== null && ms > loop.from) {
      this.#sound.loop = { from: loop.from, to: ms };
    }
    this.#show();
  }

  #key(event) {
    const inWave = this.#wave.element.contains(event.target);
    const inField = event.target.closest?.("input, select, textarea, button, a, summary, dialog") !== null;
    if (inField || !(inWave || singleKeys())) {
      return;
    }
    const found = meaning(event);
    if (found === null) {
      return;
    }
    event.preventDefault();
    const [action, argument] = found;
    const actions = {
      toggle: () => this.#sound.toggle(),
      by: () => this.#by(argument),
      to: () => this.#sound.seek(Math.min(argument, this.#record.durationms)),
      mark: () => this.#toMark(argument),
      speed: () => this.#sound.step(argument),
      skip: () => { this.#sound.skipping = !this.#sound.skipping; },
      loop: () => this.#loop(argument),
      channel: () => hasTwoChannels(this.#record) && (this.#sound.channel = argument),
    };
    actions[action]();
    this.#show();
  }

  #toMark(by) {
    const { ms } = this.#sound;
    const next = by > 0
      ? this.#marks.find((mark) => mark.startms > ms + 100)
      : this.#marks.findLast((mark) => mark.startms < ms - 1000);
    if (next !== undefined) {
      this.#sound.seek(next.startms);
    }
  }

  #about() {
    const record = this.#record;
    const told = quality(record);
    const sentences = told.length === 0 ? [{ grave: false, text: t("player.fine") }] : told;
    const happened = this.#marks.map((mark) => el("li", { class: mark.kind },
      button(clock(mark.startms), () => this.#sound.seek(mark.startms), { class: "link time" }),
      el("span", { text: mark.kind === "gap" ? t("mark.gap", mark) : mark.text })));
    const part = (id, text, ...children) => el("section", { "aria-labelledby": id }, el("h3", { id, text: t(text) }), ...children);
    return el("div", { class: "about" },
      part("h-quality", "player.quality", el("ul", { id: "quality", class: "sentences" },
        sentences.map(({ grave, text }) => el("li", { class: grave ? "grave" : "", text })))),
      part("h-marks", "player.marks", happened.length === 0
        ? el("p", { class: "quiet", text: t("player.marks.none") }) : el("ol", { id: "happened", class: "happened" }, happened)),
      scores(record, (scored) => fill(this.element.querySelector(".badges"), badges(scored))),
      record.parties.length === 0 ? null : part("h-parties", "player.parties", partyLines(record)),
      el("details", {}, el("summary", { text: t("player.details") }), details(record)));
  }

  #downloads() {
    const address = `/api/recordings/${encodeURIComponent(this.#record.recordingid)}/audio`;
    const link = (id, text, href) => el("a", { id, class: "button", href, download: true, text: t(text) });
    const all = [link("download", "player.download", address)];
    if (this.#record.format !== "wav") {
      all.push(link("downloadwav", "player.downloadwav", `${address}?format=wav`));
    }
    return all;
  }

  /** Only where there is another copy of the call to repair from. */
  #repair(who, open) {
    const repair = button(t("player.repair"), async () => {
      repair.disabled = true;
      repair.textContent = t("player.repairing");
      try {
        const { recordingid } = await askOnce("repairrecording", { recordingid: this.#record.recordingid });
        open(recordingid);
      } catch (error) {
        failed(error);
      }
      repair.disabled = false;
      repair.textContent = t("player.repair");
    }, { id: "repair", hidden: true });
    if (who.role === "qa" && this.#record.repairof === undefined) {
      hasCopy(this.#record).then((has) => { repair.hidden = !has; }, failed);
    }
    return repair;
  }
}

/** Who holds it, and why. */
function held(record) {
  if (!record.hold) {
    return null;
  }
  const { by = "", at, reason } = record.holdmark ?? {};
  const text = by === "" ? t("player.heldonly") : t("player.held", { by, at: moment(at), reason });
  return el("p", { id: "held", class: "underhold", text });
}

async function hasCopy(record) {
  const started = Date.parse(record.started);
  const { recordings } = await get("/api/recordings", {
    ucid: record.ucid ?? "", extension: record.extension, limit: 20,
    from: new Date(started - COPIES_WITHIN_MS).toISOString(),
    to: new Date(started + COPIES_WITHIN_MS).toISOString(),
  });
  return recordings.some((other) => other.copy !== record.copy && other.repairof === undefined
    && other.recordingid !== record.recordingid && other.scope === record.scope);
}

function details(record) {
  const codecs = [...new Set(record.segments.map((segment) => segment.codec))].join(", ");
  const trunk = [record.trunkgroup, record.trunkmember].filter((part) => part !== "").join(" / ");
  const listed = (texts) => (texts.length === 0 ? "" : fill(el("ul"), texts.map((text) =>
    el("li", { text: typeof text === "string" ? text : text.text ?? "" }))));
  return facts([
    [t("detail.started"), moment(record.started)], [t("detail.length"), clock(record.durationms)],
    [t("detail.calling"), record.calling], [t("detail.called"), record.called],
    [t("detail.direction"), t(`direction.${record.direction}`)], [t("detail.extension"), record.extension],
    [t("detail.agent"), record.agentid], [t("detail.trunk"), trunk], [t("detail.vdn"), record.vdn],
    [t("detail.split"), record.split], [t("detail.userdata"), record.userdata], [t("detail.rule"), record.rule],
    [t("detail.trigger"), t(`trigger.${record.trigger}`)], [t("detail.codec"), codecs],
    [t("detail.node"), record.node], [t("detail.copy"), record.copy > 1 ? record.copy : ""],
    [t("detail.repairof"), record.repairof], [t("detail.file"), `${record.format}, ${size(record.bytes)}`],
    [t("detail.tags"), record.tags.join(", ")], [t("detail.notes"), listed(record.notes)],
    [t("detail.ucid"), record.ucid], [t("detail.id"), record.recordingid],
  ]);
}
