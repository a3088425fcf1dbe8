// The page of calls in progress: who is in them, who records them, and what can be done about that with one
// click. A supervisor sees all calls that he may; an agent those at his own station.

import { get } from "./api.js";
import { Calls, key, wanted } from "./calls.js";
import { button, el, fill } from "./dom.js";
import { Feed } from "./feed.js";
import { clock } from "./format.js";
import { failed, frame, notice, words } from "./frame.js";
import { Speaker, frameOf } from "./listen.js";
import { Socket } from "./socket.js";
import { t } from "./texts.js";

/** The whole group's list is asked for again after an event that one member cannot judge alone … */
const LIST_AFTER_MS = 1500;
/** … but no more often than this: each time is written into the audit log. */
const LIST_EVERY_MS = 15_000;
/** What is no louder than this is an empty meter, dB below the loudest there can be. */
const QUIET_DB = -60;
const COLUMNS = ["parties", "extension", "direction", "since", "who", "recorded", "actions"];

class Live {
  #who;
  #calls = new Calls();
  #feed = new Feed();
  #rows = new Map();
  #node = null;
  #listed = 0;
  #timer = null;
  #body = el("tbody");
  #count = el("p", { id: "count", role: "status" });
  #away = el("p", { id: "away", class: "notice bad", hidden: true });
  #filter = el("input", { id: "filter", type: "search", autocomplete: "off", placeholder: t("live.filter.hint") });
  #unrecorded = el("input", { id: "unrecorded", type: "checkbox" });
  #lost = null;
  /** The call that is listened to: its key and number, and what plays it. */
  #heard = null;
  #hearing = el("p", { id: "listening", role: "status", class: "quiet" });
  #socket;
  #ticking;

  constructor(main, who) {
    this.#who = who;
    const heads = COLUMNS.map((name) => el("th", { scope: "col", class: `c-${name}`, text: t(`live.${name}`) }));
    const title = this.#isAgent() ? t("live.agent", { extension: who.extension }) : t("live");
    const filters = el("div", { class: "row" },
      el("span", { class: "inline" }, el("label", { for: "filter", text: t("live.filter") }), this.#filter),
      el("span", { class: "inline" }, this.#unrecorded, el("label", { for: "unrecorded", text: t("live.unrecorded") })));
    main.append(el("div", { class: "live" }, el("section", { class: "card", "aria-labelledby": "livehead" },
      el("h1", { id: "livehead", text: title }), this.#away, this.#isAgent() ? null : filters, this.#count,
      this.#isAgent() ? null : this.#hearing,
      el("div", { class: "scroll", tabindex: "0", role: "group", "aria-labelledby": "livehead" },
        el("table", {}, el("thead", {}, el("tr", {}, heads)), this.#body))), this.#feed.element));
    this.#filter.addEventListener("input", () => this.#show());
    this.#unrecorded.addEventListener("change", () => this.#show());
    this.#socket = new Socket({
      opened: () => this.#opened(), lost: () => this.#gone(), event: (event) => this.#event(event),
      binary: (data) => this.#sound(data),
    });
    this.#ticking = setInterval(() => this.#tick(), 1000);
  }

  close() {
    clearInterval(this.#ticking);
    clearTimeout(this.#timer);
    this.#hearNothing();
    this.#socket.close();
  }

  #isAgent() {
    return this.#who.role === "agent";
  }

  async #opened() {
    this.#lost?.remove();
    this.#lost = null;
    try {
      // Told first, so that nothing that happens meanwhile is missed.
      const levels = this.#isAgent() ? [] : ["levels"];
      await this.#socket.ask("subscribe", { events: ["calls", "recordings", "cluster", "alarms", ...levels] });
      this.#node = (await this.#socket.ask("clusterstatus")).node;
      await this.#list();
    } catch (error) {
      failed(error);
    }
  }

  #gone() {
    this.#hearNothing();
    this.#lost ??= notice(t("socket.away"), "bad");
  }

  async #list() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#listed = Date.now();
    const told = this.#isAgent() ? await get("/api/calls/own") : await this.#socket.ask("listcalls");
    this.#calls.list(told.calls);
    const away = told.unreachable ?? [];
    this.#away.hidden = away.length === 0;
    this.#away.textContent = t("live.away", { nodes: away.map((member) => member.node).join(", ") });
    this.#show();
  }

  #listSoon() {
    const wait = Math.max(LIST_AFTER_MS, this.#listed + LIST_EVERY_MS - Date.now());
    this.#timer ??= setTimeout(() => this.#list().catch(failed), wait);
  }

  #event(event) {
    if (this.#heard !== null && event.listen === this.#heard.number) {
      this.#told(event);
      return;
    }
    if (event.eventtype === "levels") {
      this.#loud(event.levels);
      return;
    }
    this.#feed.take(event);
    const uncertain = this.#calls.take(event, this.#node);
    if (uncertain || ["takeover", "eventslost"].includes(event.eventtype)) {
      this.#listSoon();
    }
    this.#show();
  }

  /** How loud the calls are now; one that is not named is not heard. */
  #loud(levels) {
    const told = new Map(levels.map((call) => [key(call), call.level]));
    for (const [name, row] of this.#rows) {
      row.loud(told.get(name));
    }
  }

  /** Something of the call that is listened to. */
  #told(event) {
    if (event.eventtype === "listenmoved") {
      notice(t("live.listenmoved", event), "info", 6);
    } else if (event.eventtype === "listencomplete") {
      this.#hearNothing();
      notice(t("live.listenover"), "info", 6);
    }
  }

  #sound(data) {
    const heard = frameOf(data);
    if (heard !== null && heard.number === this.#heard?.number) {
      this.#heard.speaker.play(heard.samples);
    }
  }

  /** Listens to this call, and to no other. */
  async #listen({ key, call }) {
    await this.#stopListening();
    const speaker = new Speaker();
    try {
      const { listen } = await this.#socket.ask("listen", { ucid: call.ucid });
      // Somebody may have pressed two buttons at once.
      await this.#stopListening();
      this.#heard = { key, number: listen, speaker };
      this.#hearing.textContent = t("live.listening", call);
      this.#show();
    } catch (error) {
      speaker.close();
      throw error;
    }
  }

  async #stopListening() {
    const number = this.#heard?.number;
    this.#hearNothing();
    if (number !== undefined) {
      await this.#socket.ask("stoplisten", { listen: number });
    }
  }

  #hearNothing() {
    if (this.#heard !== null) {
      this.#heard.speaker.close();
      this.#heard = null;
      this.#hearing.textContent = "";
      this.#show();
    }
  }

  #show() {
    const all = this.#calls.all();
    const shown = all.filter((one) => wanted(one, this.#filter.value.trim(), this.#unrecorded.checked));
    const recorded = all.filter((one) => one.recorded.length > 0);
    const paused = recorded.filter((one) => one.recorded.some((by) => by.paused)).length;
    const key = all.length === 0 ? "live.none" : shown.length === 0 ? "live.nonematch" : "live.count";
    this.#count.textContent = t(key, { calls: all.length, recorded: recorded.length, paused });
    const keys = new Set(shown.map((one) => one.key));
    for (const [name, row] of this.#rows) {
      if (!keys.has(name)) {
        row.element.remove();
        this.#rows.delete(name);
      }
    }
    shown.forEach((one, index) => {
      const row = this.#rows.get(one.key) ?? new Row((action, of) => this.#act(action, of));
      this.#rows.set(one.key, row);
      row.show({ ...one, listens: this.#isAgent() ? "never" : one.key === this.#heard?.key ? "now" : "not" });
      if (this.#body.children[index] !== row.element) {
        this.#body.insertBefore(row.element, this.#body.children[index] ?? null);
      }
    });
  }

  #tick() {
    for (const row of this.#rows.values()) {
      row.tick();
    }
  }

  async #act(action, of) {
    const { call, recorded } = of;
    if (action === "listen" || action === "stoplisten") {
      await (action === "listen" ? this.#listen(of) : this.#stopListening()).catch((error) =>
        notice(`${t(`live.${action}`)}: ${words(error)}`, "bad"));
      return;
    }
    const which = call.ucid === undefined ? { extension: call.extension } : { ucid: call.ucid };
    const requests = {
      start: ["startrecording", { ...which, scope: "station" }],
      starttrunk: ["startrecording", { ...which, scope: "trunk" }],
      pause: ["pauserecording", { recordingid: recorded[0]?.recordingid }],
      resume: ["resumerecording", { recordingid: recorded[0]?.recordingid }],
      stop: ["stoprecording", { recordingid: recorded[0]?.recordingid }],
    };
    try {
      await this.#socket.ask(...requests[action]);
      notice(t("live.done", { action: t(`live.${action}`) }), "info", 4);
      this.#listSoon();
    } catch (error) {
      notice(`${t(`live.${action}`)}: ${words(error)}`, "bad");
    }
  }
}

/** A call's row: built once, so that a button stays where it is while somebody aims at it. */
class Row {
  element = el("tr");
  #cells = Object.fromEntries(COLUMNS.map((name) => [name, el("td", { class: `c-${name}` })]));
  #level = el("meter", { class: "level", min: QUIET_DB, max: 0, "aria-label": t("live.level"), hidden: true });
  #act;
  #one = null;
  #told = "";

  constructor(act) {
    this.#act = act;
    this.element.append(...Object.values(this.#cells));
  }

  show(one) {
    const told = JSON.stringify(one);
    if (told === this.#told) {
      return;
    }
    const before = this.#one;
    this.#told = told;
    this.#one = one;
    const { call, recorded } = one;
    const cells = this.#cells;
    this.element.dataset.key = one.key;
    const two = (first, second) => [el("div", { text: first }), el("div", { class: "quiet", text: second })];
    fill(cells.parties, two(call.calling, call.called));
    fill(cells.extension, two(call.extensions.join(", "), call.agentid));
    fill(cells.direction, el("span", { text: t(`direction.${call.direction}`) }));
    fill(cells.who, call.parties.map((party) =>
      el("div", { text: t("live.party", { who: party.who, state: t(`live.state.${party.state}`) }) })));
    fill(cells.recorded, recorded.length === 0
      ? el("span", { class: "badge warn", text: t("live.nobody") }) : recorded.map(recordedBy), this.#level);
    // Buttons are made anew only where others are due: the focus stays.
    if (before === null || actions(before).join() !== actions(one).join()) {
      this.#buttons();
    }
    this.tick();
  }

  loud(level) {
    this.#level.hidden = level === undefined;
    this.#level.value = level ?? QUIET_DB;
    this.#level.title = level === undefined ? "" : t("live.loud", { level: Math.round(level) });
  }

  tick() {
    this.#cells.since.textContent = clock(Math.max(0, Date.now() - Date.parse(this.#one.call.started)));
  }

  #buttons() {
    const focused = [...this.#cells.actions.querySelectorAll("button")].indexOf(document.activeElement);
    const { call } = this.#one;
    const made = actions(this.#one).map((action) => {
      const text = t(`live.${action}`);
      const label = t("live.for", { action: text, calling: call.calling, called: call.called });
      const pressed = button(text, async () => {
        pressed.disabled = true;
        await this.#act(action, this.#one);
        pressed.disabled = false;
      }, { "data-action": action, "aria-label": label, class: action === "stop" ? "danger" : "" });
      return pressed;
    });
    fill(this.#cells.actions, el("div", { class: "row tight" }, made));
    if (focused >= 0) {
      made[Math.min(focused, made.length - 1)]?.focus();
    }
  }
}

/** What can be done with a call now. */
function actions({ call, recorded, listens }) {
  if (recorded.length > 0) {
    const possible = [recorded.some((by) => by.paused) ? "resume" : "pause", "stop"];
    // One without a UCID cannot be named.
    const listen = { never: [], now: ["stoplisten"], not: call.ucid === undefined ? [] : ["listen"] }[listens];
    return [...possible, ...listen];
  }
  if (call.established === undefined || call.extension === "") {
    return [];
  }
  return call.trunkgroup === "" ? ["start"] : ["start", "starttrunk"];
}

function recordedBy(recorded) {
  const key = recorded.phantom === undefined ? "live.by" : "live.byphantom";
  return el("div", {},
    el("span", { class: `badge ${recorded.paused ? "warn" : "good"}`,
      text: recorded.paused ? t("live.paused") : t(`live.${recorded.scope}`) }),
    el("span", { class: "quiet", text: t(key, recorded) }));
}

function begin(main, who) {
  if (who.role === "agent" && who.extension === null) {
    main.append(el("h1", { text: t("live.own") }), el("p", { id: "nostation", text: t("live.nostation") }));
    return undefined;
  }
  const live = new Live(main, who);
  return () => live.close();
}

frame({ address: "/supervisor", title: "nav.live", roles: ["supervisor", "agent"], begin });
