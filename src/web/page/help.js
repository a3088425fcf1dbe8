// Which key does what, and the dialog that says so. What is done is the player's matter.

import { button, el } from "./dom.js";
import { t } from "./texts.js";

const STORED = "astlogger.singlekeys";

const KEYS = [
  ["Space", "help.space"], ["← →", "help.arrows"], ["Shift ← →", "help.shiftarrows"], ["Home End", "help.homeend"],
  ["p n", "help.marks"], [", .", "help.speed"], ["s", "help.skip"], ["a b c", "help.loop"], ["0 1 2", "help.channel"],
  ["/", "help.search"], ["?", "help.help"],
];

/** Whether keys work anywhere on the page: who dictates or mistypes can switch that off. */
export function singleKeys() {
  try {
    return localStorage.getItem(STORED) !== "off";
  } catch {
    return true;
  }
}

/** Opens the dialog. */
export function showHelp() {
  const everywhere = el("input", { id: "singlekeys", type: "checkbox" });
  everywhere.checked = singleKeys();
  everywhere.addEventListener("change", () => {
    try {
      localStorage.setItem(STORED, everywhere.checked ? "on" : "off");
    } catch {
      // Where nothing may be kept it holds as it was.
      everywhere.checked = singleKeys();
    }
  });
  const rows = KEYS.map(([keys, what]) => el("div", {},
    el("dt", {}, keys.split(" ").map((key) => el("kbd", { text: key }))), el("dd", { text: t(what) })));
  const dialog = el("dialog", { id: "help", "aria-labelledby": "helphead" },
    el("h2", { id: "helphead", text: t("help") }), el("dl", { class: "keys" }, rows),
    el("p", {}, everywhere, el("label", { for: "singlekeys", text: t("help.single") })),
    el("p", { class: "quiet", text: t("help.why") }),
    button(t("help.close"), () => dialog.close(), { class: "main" }));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** What a key means: an action and its argument, or null. */
export function meaning(event) {
  if (event.ctrlKey || event.altKey || event.metaKey) {
    return null;
  }
  const step = event.shiftKey ? 1000 : 5000;
  const table = {
    " ": ["toggle"], ArrowLeft: ["by", -step], ArrowRight: ["by", step], Home: ["to", 0], End: ["to", Infinity],
    p: ["mark", -1], n: ["mark", 1], ",": ["speed", -1], ".": ["speed", 1], s: ["skip"], a: ["loop", "from"],
    b: ["loop", "to"], c: ["loop", "off"], 0: ["channel", "both"], 1: ["channel", "left"], 2: ["channel", "right"],
  };
  return table[event.key] ?? null;
}
