// The page on which an auditor reads what people asked of the recorders. Lines come oldest first, page after page by the
// node's cursor; the fragment may name a recording, to which it is then narrowed. An auditor hears nothing, so a
// recording is named here and can be filtered by; who may hold it finds the way to that page.

import { get } from "./api.js";
import { csv } from "./csv.js";
import { button, el, fill } from "./dom.js";
import { Endless } from "./endless.js";
import { choice, input, labelled, period, periods } from "./fields.js";
import { moment } from "./format.js";
import { failed, frame } from "./frame.js";
import { members, t, worded } from "./texts.js";

const PAGE = 100;
/** Kinds of requests, by what people want to know. */
const KINDS = {
  "": [],
  heard: ["fetchrecording", "listen", "exportrecordings", "fetchexport"],
  sought: ["listrecordings", "getrecording", "listcalls", "completeness", "listholds"],
  recorded: ["startrecording", "stoprecording", "pauserecording", "resumerecording", "repairrecording", "drill"],
  marked: ["tagrecording", "scorerecording"],
  kept: ["legalhold", "deleterecording"],
  signed: ["authenticate", "signout"],
  read: ["listaudit"],
};
/** As many as the node gives at once. */
const FILE_PAGE = 1000;
/** A browser has it all in memory. */
const FILE_LINES_MAX = 50_000;
const FILE_KEPT_MS = 60_000;
/** Of what was asked; the file has all of it. */
const SHOWN_CHARACTERS_MAX = 300;

class Audit {
  #who;
  #wanted = {};
  /** Where the page begins that was asked for last, and the one behind it. */
  #asked = "";
  #cursor = "";
  /** What is shown: a page may be asked for again when a member is back. */
  #known = new Set();
  #body = el("tbody");
  #count = el("p", { id: "count", role: "status" });
  #away = el("p", { id: "away", class: "notice bad", hidden: true });
  #altered = el("p", { id: "altered", class: "notice bad", hidden: true });
  #pages = new Endless((signal) => this.#page(signal), (error) => this.#broke(error));
  #again = button(t("audit.again"), () => this.#look(), { id: "again", hidden: true });
  #file = button(t("audit.csv"), () => this.#download(), { id: "csv" });
  #told = el("span", { id: "csvtold", class: "quiet", role: "status" });
  #fields = {
    period: periods(["today", "hour", "yesterday", "week", "month", "", "between"]),
    from: input("from", { type: "datetime-local" }), to: input("to", { type: "datetime-local" }),
    kind: choice("kind", Object.keys(KINDS), (kind) => t(`audit.kind.${kind || "any"}`)),
    user: input("user", { spellcheck: "false" }), recordingid: input("recordingid", { spellcheck: "false" }),
  };
  #between = el("div", { class: "fields", hidden: true },
    labelled("search.from", this.#fields.from), labelled("search.to", this.#fields.to));

  constructor(main, who) {
    this.#who = who;
    const { kind, user, recordingid, period: chosen } = this.#fields;
    const form = el("form", { class: "search", role: "search", "aria-label": t("audit.filter") },
      el("div", { class: "fields" }, labelled("search.period", chosen), labelled("audit.kind", kind), labelled("audit.user", user),
        labelled("audit.recording", recordingid, "field wide")), this.#between,
      el("div", { class: "row" }, el("button", { id: "show", class: "main", text: t("audit.show") }),
        button(t("search.clear"), () => this.#clear(), { id: "clear" }), this.#file, this.#told));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.search();
    });
    chosen.addEventListener("change", () => this.#shown());
    const heads = COLUMNS.map((name) => el("th", { scope: "col", class: `c-${name}`, text: t(`audit.${name}`) }));
    main.append(el("h1", { text: t("audit") }), el("p", { class: "quiet", text: t("audit.what") }), this.#altered, form,
      el("section", { class: "card audit", "aria-label": t("audit") }, this.#away, this.#count,
        el("table", {}, el("thead", {}, el("tr", {}, heads)), this.#body), el("div", { class: "row" }, this.#pages.button, this.#again)));
    this.#judge();
  }

  /** Shows what was done with a recording, whenever that was. */
  of(recordingid) {
    this.#narrow({ recordingid, period: "", kind: "", user: "" });
  }

  search() {
    this.#wanted = this.#filter();
    [this.#asked, this.#cursor] = ["", ""];
    this.#known.clear();
    fill(this.#body);
    fill(this.#told);
    this.#again.hidden = true;
    this.#count.textContent = t("audit.loading");
    return this.#pages.begin();
  }

  #filter() {
    const values = Object.fromEntries(Object.entries(this.#fields).map(([name, field]) => [name, field.value.trim()]));
    const [from, to] = period(values, new Date());
    return { from, to, user: values.user, recordingid: values.recordingid, action: KINDS[values.kind].join() };
  }

  #shown() {
    this.#between.hidden = this.#fields.period.value !== "between";
  }

  #clear() {
    this.#narrow({ period: "today", from: "", to: "", kind: "", user: "", recordingid: "" });
  }

  #narrow(values) {
    Object.entries(values).forEach(([name, value]) => { this.#fields[name].value = value; });
    this.#shown();
    return this.search();
  }

  async #page(signal) {
    const asked = this.#cursor;
    const found = await get("/api/audit", { ...this.#wanted, limit: PAGE, cursor: asked }, signal);
    this.#asked = asked;
    this.#cursor = found.cursor ?? "";
    const fresh = found.entries.filter((line) => !this.#known.has(`${line.node}:${line.seq}`));
    fresh.forEach((line) => this.#known.add(`${line.node}:${line.seq}`));
    this.#body.append(...fresh.map((line) => this.#row(line)));
    const away = found.unreachable ?? [];
    this.#away.hidden = away.length === 0;
    this.#away.textContent = t("audit.away", { nodes: members(away) });
    const [shown, more] = [this.#body.rows.length, this.#cursor !== ""];
    this.#count.textContent = shown === 0 && !more ? t("audit.none") : t(more ? "audit.countmore" : "audit.count", { shown });
    this.#again.hidden = more;
    return more;
  }

  #broke(error) {
    this.#count.textContent = "";
    this.#again.hidden = this.#cursor !== "";
    failed(error);
    return this.#cursor !== "";
  }

  /** Asks for the last page again: what was written since is on it, and what a member has that was away. */
  #look() {
    this.#cursor = this.#asked;
    return this.#pages.next();
  }

  #row(line) {
    const cells = {
      when: [el("div", {}, moment(line.at).split(" ").flatMap((part) => [el("span", { class: "whole", text: part }), " "])), el("div", { class: "quiet", text: t("audit.node", line) })],
      who: [this.#user(line), role(line), el("div", { class: "quiet address", text: line.address })],
      from: [line.address],
      did: [el("div", { class: "row tight" }, el("strong", { text: worded("action", line.action, line.action) }), outcome(line)),
        el("div", { class: "quiet", text: asked(line) }), this.#recording(line)],
    };
    return el("tr", { "data-line": `${line.node}:${line.seq}`, "data-action": line.action },
      COLUMNS.map((name) => el("td", { class: `c-${name}` }, cells[name])));
  }

  #user({ user }) {
    if (user === "") {
      return el("span", { text: t("audit.nobody") });
    }
    return button(user, () => this.#narrow({ user }), { class: "link", "aria-label": t("audit.onlyuser", { user }) });
  }

  #recording({ recordingid: id }) {
    if (id === undefined) {
      return null;
    }
    const only = button(id, () => this.#narrow({ recordingid: id }),
      { class: "link", "aria-label": t("audit.onlyrecording", { id }) });
    const hold = el("a", { href: `/custody#${id}`, text: t("audit.custody") });
    return el("div", { class: "row tight" }, only, this.#who.role === "admin" ? hold : null);
  }

  /** Says so if this node has found that its log was changed. */
  async #judge() {
    try {
      const { node, alarms } = await get("/api/status");
      const found = alarms.find((alarm) => alarm.alarm === "logaltered");
      this.#altered.hidden = found === undefined;
      this.#altered.textContent = t("audit.altered", { node, ...found });
    } catch (error) {
      failed(error);
    }
  }

  /** All lines of what is shown, whether they have been read yet or not. */
  async #download() {
    this.#file.disabled = true;
    try {
      const [wanted, lines] = [this.#wanted, []];
      let [cursor, found] = ["", null];
      do {
        this.#told.textContent = t("audit.csv.loading", { lines: lines.length });
        found = await get("/api/audit", { ...wanted, limit: FILE_PAGE, cursor });
        lines.push(...found.entries);
        cursor = found.cursor ?? "";
      } while (cursor !== "" && lines.length < FILE_LINES_MAX);
      // Who was away for a page and is back has told by the last one.
      const away = found.unreachable ?? [];
      const said = cursor !== "" ? "long" : away.length > 0 ? "away" : "done";
      save(csv([FILE_COLUMNS, ...lines.map(cells)]), said === "done" ? "audit" : "audit-incomplete");
      this.#told.textContent = t(`audit.csv.${said}`, { lines: lines.length, nodes: members(away) });
    } catch (error) {
      fill(this.#told);
      failed(error);
    }
    this.#file.disabled = false;
  }
}

const COLUMNS = ["when", "who", "from", "did"];
const FILE_COLUMNS = ["at", "node", "seq", "user", "role", "address", "action", "outcome", "recordingid", "arguments"];

function role(line) {
  return line.role === undefined ? null : el("div", { class: "quiet", text: worded("role", line.role, line.role) });
}

function outcome({ outcome: code }) {
  const kind = code === "success" ? "good" : "bad";
  return el("span", { class: `badge ${kind}`, text: worded("outcome", code, t("audit.failed", { code })) });
}

/** What was asked, but for the recording, which stands by itself. */
function asked(line) {
  const given = Object.entries(line.arguments ?? {}).filter(([name]) => name !== "recordingid");
  const said = ([name, value]) => t("audit.argument", { name, value: typeof value === "string" ? value : JSON.stringify(value) });
  const text = given.map(said).join(" · ");
  return text.length > SHOWN_CHARACTERS_MAX ? t("audit.cut", { text: text.slice(0, SHOWN_CHARACTERS_MAX) }) : text;
}

function cells(line) {
  const given = line.arguments === undefined ? "" : JSON.stringify(line.arguments);
  return FILE_COLUMNS.map((name) => (name === "arguments" ? given : line[name]));
}

/** Gives a file to whoever sits there. */
function save(text, name) {
  // Without the mark spreadsheets take it for another character set.
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" }));
  const day = new Date().toISOString().slice(0, 10);
  el("a", { href: address, download: `${name}-${day}.csv` }).click();
  // A browser may ask whoever sits there first where it is to go.
  setTimeout(() => URL.revokeObjectURL(address), FILE_KEPT_MS);
}

function begin(main, who) {
  const page = new Audit(main, who);
  const named = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    if (id !== "" && id !== "main") {
      page.of(id);
      return true;
    }
    return false;
  };
  if (!named()) {
    page.search();
  }
  window.addEventListener("hashchange", named);
  return () => window.removeEventListener("hashchange", named);
}

frame({ address: "/audit", title: "nav.audit", roles: ["auditor", "admin"], begin });
