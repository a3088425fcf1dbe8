// The list of recordings that a search found: page after page as somebody scrolls, by the node's cursor.

import { get } from "./api.js";
import { button, el, fill } from "./dom.js";
import { Endless } from "./endless.js";
import { clock, moment } from "./format.js";
import { failed } from "./frame.js";
import { grade, lacksAudio } from "./record.js";
import { members, t } from "./texts.js";

const PAGE = 50;

/** The list; `open(record)` is called when somebody chooses one. */
export class Results {
  #open;
  #body = el("tbody");
  #count = el("p", { id: "count", role: "status" });
  #away = el("p", { id: "away", class: "notice bad", hidden: true });
  #pages = new Endless((signal) => this.#page(signal), (error) => this.#broke(error));
  #search = null;
  #cursor = null;
  #chosen = null;

  constructor(open) {
    this.#open = open;
    const columns = ["started", "length", "parties", "extension", "direction", "quality"];
    const heads = columns.map((name) => el("th", { scope: "col", class: `c-${name}`, text: t(`list.${name}`) }));
    this.element = el("section", { class: "results", "aria-labelledby": "listhead" },
      el("h2", { id: "listhead", text: t("list") }), this.#away, this.#count,
      el("table", {}, el("thead", {}, el("tr", {}, heads)), this.#body), this.#pages.button);
  }

  /** Searches anew. */
  async search(parameters) {
    this.#search = parameters;
    this.#cursor = null;
    fill(this.#body);
    this.#count.textContent = t("list.loading");
    await this.#pages.begin();
  }

  /** Says which one is open. */
  choose(id) {
    this.#chosen = id;
    for (const row of this.#body.rows) {
      row.classList.toggle("chosen", row.dataset.id === id);
      row.querySelector("button").setAttribute("aria-current", String(row.dataset.id === id));
    }
  }

  async #page(signal) {
    const parameters = { ...this.#search, limit: PAGE, cursor: this.#cursor ?? "" };
    const found = await get("/api/recordings", parameters, signal);
    this.#cursor = found.cursor ?? null;
    this.#body.append(...found.recordings.map((record) => this.#row(record)));
    this.#tell(found);
    return this.#cursor !== null;
  }

  #broke(error) {
    this.#count.textContent = "";
    failed(error);
    return this.#cursor !== null;
  }

  #tell(found) {
    const shown = this.#body.rows.length;
    const key = found.total !== undefined ? "list.count" : this.#cursor === null ? "list.countall" : "list.countmore";
    const none = shown === 0 && this.#cursor === null;
    this.#count.textContent = none ? t("list.none") : t(key, { shown, total: found.total });
    const away = found.unreachable ?? [];
    this.#away.hidden = away.length === 0;
    this.#away.textContent = t("list.away", { nodes: members(away) });
  }

  #row(record) {
    const started = moment(record.started);
    const cells = {
      started: [button(started, () => this.#open(record), { class: "link" })],
      length: [clock(record.durationms)],
      parties: two(record.calling, record.called),
      extension: two(record.extension, record.agentid),
      direction: [t(`direction.${record.direction}`)],
      quality: badges(record),
    };
    const row = el("tr", { "data-id": record.recordingid },
      Object.entries(cells).map(([name, children]) => el("td", { class: `c-${name}` }, children)));
    row.addEventListener("click", (event) => event.target.closest("button") ?? this.#open(record));
    row.classList.toggle("chosen", record.recordingid === this.#chosen);
    return row;
  }
}

/** One below the other. */
function two(first, second) {
  return [el("div", { text: first }), el("div", { class: "quiet", text: second })];
}

/** What is to be seen of a recording at a glance. */
export function badges(record) {
  const badge = (kind, text) => el("span", { class: `badge ${kind}`, text });
  const { mos } = record.quality;
  return [
    lacksAudio(record) ? badge("bad", t("list.incomplete")) : null,
    mos === undefined ? null : badge(grade(mos), t(`grade.${grade(mos)}`)),
    record.repairof === undefined ? null : badge("info", t("list.repaired")),
    record.copy > 1 ? badge("info", t("list.copy", record)) : null,
    record.hold ? badge("info", t("list.hold")) : null,
    ...(record.scores ?? []).map((score) => badge("info", t("list.score", score))),
    ...record.tags.map((tag) => badge("tag", tag)),
  ].filter((found) => found !== null);
}
