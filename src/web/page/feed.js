// What happens, in words, the newest on top.

import { el } from "./dom.js";
import { hour } from "./format.js";
import { t } from "./texts.js";

/** More than this nobody reads. */
const KEPT = 100;

export class Feed {
  #list = el("ol", { id: "feed", class: "feed" });
  #none = el("p", { class: "quiet", text: t("feed.none") });

  constructor() {
    // A live region would talk without end in a busy centre: who wants to hear it, reads it.
    this.element = el("section", { class: "card", "aria-labelledby": "feedhead" },
      el("h2", { id: "feedhead", text: t("feed") }), this.#none, this.#list);
  }

  /** Takes an event. */
  take(event) {
    const text = words(event);
    if (text === null) {
      return;
    }
    this.#none.hidden = true;
    const kind = event.eventtype === "alarm" ? "grave" : "";
    this.#list.prepend(el("li", { class: kind }, el("time", { text: hour(new Date()) }), el("span", { text })));
    while (this.#list.children.length > KEPT) {
      this.#list.lastChild.remove();
    }
  }
}

function words(event) {
  const member = (node) => node ?? t("feed.nobody");
  switch (event.eventtype) {
    case "callstarted":
    case "callended":
    case "recordingpaused":
    case "recordingresumed":
      return t(`feed.${event.eventtype}`, event);
    case "recordingstarted":
      return t("feed.recordingstarted", { ...event, node: member(event.recorded?.node) });
    case "recordingpublished":
      return t("feed.recordingpublished", event.recording);
    case "alarm":
    case "alarmcleared":
      return t(`feed.${event.eventtype}`, event);
    case "rolechanged":
      return t("feed.rolechanged", { node: event.node, duty: t(`duty.${event.duty}`) });
    case "takeover":
      return t("feed.takeover", { from: member(event.from), to: member(event.to) });
    default:
      return null;
  }
}
