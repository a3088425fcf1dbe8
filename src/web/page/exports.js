// Exports of recordings: the button that begins one of what was searched for last, and for each the progress,
// the way to its file, and its end. The node does the work and keeps it; whoever comes back sees how far it is.

import { button, el, fill } from "./dom.js";
import { moment, size } from "./format.js";
import { failed } from "./frame.js";
import { Socket } from "./socket.js";
import { members, t } from "./texts.js";

const FORMATS = ["original", "wav", "opus"];

/** The exports of one user; `wanted()` gives the arguments of the search that the list shows. */
export class Exports {
  #socket;
  #wanted;
  #known = new Map();
  #list = el("ul", { id: "exports", class: "exports" });
  #told = el("p", { id: "exporttold", class: "quiet", role: "status" });
  #format = el("select", { id: "exportformat" },
    FORMATS.map((value) => el("option", { value, text: t(`export.${value}`) })));
  #begin = button(t("export.begin"), () => this.#ask(), { id: "export" });

  constructor(wanted) {
    this.#wanted = wanted;
    const row = el("div", { class: "row" },
      el("label", { for: "exportformat", text: t("export.format") }), this.#format, this.#begin);
    this.element = el("section", { class: "card exportcard", "aria-labelledby": "exporthead" },
      el("h2", { id: "exporthead", text: t("export") }), row, this.#told, this.#list);
    this.#socket = new Socket({ opened: () => this.#opened(), event: (event) => this.#take(event) });
  }

  /** Nothing more is heard; exports go on. */
  close() {
    this.#socket.close();
  }

  /** Asking for the list also subscribes to what is told of them. */
  async #opened() {
    try {
      const { exports } = await this.#socket.ask("listexports");
      this.#known = new Map(exports.map((found) => [found.export, found]));
      this.#draw();
    } catch (error) {
      failed(error);
    }
  }

  async #ask() {
    this.#begin.disabled = true;
    try {
      const begun = await this.#socket.ask("exportrecordings", { ...this.#wanted(), format: this.#format.value });
      this.#told.textContent = t("export.begun", begun);
    } catch (error) {
      failed(error);
    }
    this.#begin.disabled = false;
  }

  #take(event) {
    if (event.eventtype !== "exportprogress" && event.eventtype !== "exportcomplete") {
      return;
    }
    this.#known.set(event.export, event);
    if (event.eventtype === "exportcomplete") {
      this.#told.textContent = t("export.complete", event);
    } else if (event.state === "failed") {
      this.#told.textContent = t("export.failed", event);
    }
    this.#draw();
  }

  async #remove(found) {
    try {
      await this.#socket.ask("cancelexport", { export: found.export });
      this.#known.delete(found.export);
      this.#draw();
    } catch (error) {
      failed(error);
    }
  }

  /** Lines stay where they are, so that what has the focus keeps it. */
  #draw() {
    const lines = new Map([...this.#list.children].map((line) => [line.dataset.id, line]));
    const newest = [...this.#known.values()].sort((a, b) => (a.begun < b.begun ? 1 : -1));
    for (const [id, line] of lines) {
      if (!this.#known.has(id)) {
        line.remove();
      }
    }
    newest.forEach((found, at) => {
      const line = lines.get(found.export) ?? this.#line(found);
      this.#show(line, found);
      if (this.#list.children[at] !== line) {
        this.#list.insertBefore(line, this.#list.children[at] ?? null);
      }
    });
  }

  #line(found) {
    const name = t("export.name", { begun: moment(found.begun) });
    return el("li", { "data-id": found.export },
      el("span", { class: "when", text: name }),
      el("progress", { max: "1", "aria-label": name }),
      el("div", { class: "state" }),
      el("a", { class: "button", hidden: true, download: true, text: t("export.download") }),
      button("", () => this.#remove(this.#known.get(found.export) ?? found)));
  }

  #show(line, found) {
    const [bar, state, link, end] = ["progress", ".state", "a", "button"].map((name) => line.querySelector(name));
    const complete = found.state === "complete";
    line.dataset.state = found.state;
    bar.max = Math.max(found.total, 1);
    bar.value = found.done;
    bar.hidden = complete;
    fill(state, words(found).map((text) => el("div", { text })));
    state.classList.toggle("grave", found.state === "failed" || (complete && lacks(found)));
    link.hidden = !complete;
    if (complete) {
      link.href = found.address;
    }
    end.textContent = t(found.state === "running" || found.state === "waiting" ? "export.cancel" : "export.remove");
  }
}

/** Whether something that was asked for is not in it. */
function lacks(found) {
  return found.missing > 0 || (found.unreachable ?? []).length > 0 || found.allsitesfailure !== undefined;
}

/** How far an export is, and what is not in it: a sentence each. */
export function words(found) {
  const said = [t(`export.is.${found.state}`, { ...found, size: size(found.size ?? found.bytes) })];
  if (found.missing > 0) {
    said.push(t("export.missing", found));
  }
  const elsewhere = Object.entries(found.othersites ?? {});
  said.push(...elsewhere.map(([site, count]) => t("export.elsewhere", { site, count })));
  const away = found.unreachable ?? [];
  if (away.length > 0) {
    said.push(t("export.away", { nodes: members(away) }));
  }
  if (found.allsitesfailure !== undefined) {
    said.push(t("export.ownonly"));
  }
  return said;
}
