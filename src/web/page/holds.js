// The list of what is under legal hold: which recording, by whom, since when and why. It asks the node a page at a
// time and hands out the id that somebody chooses; what is done with it is the page's matter.

import { post } from "./api.js";
import { button, el, facts, fill } from "./dom.js";
import { length, moment } from "./format.js";
import { words } from "./frame.js";
import { t } from "./texts.js";

const PAGE = 20;

/** The list. `choose(recordingid)` is called when somebody chooses one. */
export class Holds {
  #choose;
  #cursor = "";
  #asked = 0;
  #told = el("p", { class: "quiet", role: "status" });
  #away = el("p", { class: "notice bad", hidden: true });
  #list = el("ul", { id: "holds", class: "holds" });
  #more = button(t("holds.more"), () => this.#load(), { id: "moreholds", hidden: true });

  constructor(choose) {
    this.#choose = choose;
    this.element = el("section", { class: "card holding", "aria-labelledby": "holdshead" },
      el("h2", { id: "holdshead", text: t("holds") }), this.#told, this.#away, this.#list, this.#more);
  }

  /** Asks anew, from the begin. */
  load() {
    this.#cursor = "";
    return this.#load();
  }

  async #load() {
    this.#asked += 1;
    const [asked, cursor] = [this.#asked, this.#cursor];
    try {
      const found = await post("/api/requests/listholds", { limit: PAGE, cursor });
      // Somebody may have asked anew meanwhile.
      if (asked === this.#asked) {
        this.#show(found, cursor === "");
      }
    } catch (error) {
      if (asked === this.#asked) {
        fill(this.#told, t("holds.failed", { why: words(error) }));
      }
    }
  }

  #show(found, anew) {
    const entries = found.holds.map((held) => this.#entry(held));
    if (anew) {
      fill(this.#list, entries);
    } else {
      this.#list.append(...entries);
      // The button may be gone, and who works by keys is to go on where he was.
      entries[0]?.querySelector("button").focus();
    }
    this.#cursor = found.cursor ?? "";
    this.#more.hidden = this.#cursor === "";
    this.#told.textContent = this.#list.children.length === 0 ? t("holds.none") : "";
    const away = (found.unreachable ?? []).map((member) => member.node).join(", ");
    const lacking = [
      away === "" ? null : t("list.away", { nodes: away }),
      found.searchedsites === "own" ? t("holds.ownonly") : null,
    ].filter((text) => text !== null);
    this.#away.hidden = lacking.length === 0;
    this.#away.textContent = lacking.join(" ");
  }

  #entry(held) {
    const { recordingid, extension } = held;
    const started = moment(held.started);
    const of = { extension, length: length(held.durationms), started };
    const what = [t(extension === "" ? "holds.nobody" : "holds.station", of),
      held.site === undefined ? null : t("holds.site", held)];
    return el("li", { "data-id": recordingid },
      el("div", { class: "apart" },
        el("p", {}, el("strong", { text: started }), ` · ${what.filter((text) => text !== null).join(" · ")}`),
        button(t("holds.choose"), () => this.#choose(recordingid), { "aria-label": t("holds.chooseof", of) })),
      standing(held.holdmark));
  }
}

/** Who set the last hold, and who wished to release it. */
export function standing(mark) {
  if (mark === undefined) {
    return null;
  }
  const line = ({ by, at, reason }) => t("custody.by", { by: by === "" ? t("holds.unknown") : by, at: moment(at), reason });
  const wishes = (mark.releases ?? []).map((wish) => el("li", { text: line(wish) }));
  return facts([[t("custody.setby"), line(mark)],
    [t("custody.wishes"), wishes.length === 0 ? "" : fill(el("ul"), wishes)]]);
}
