// The search form: all filters of `listrecordings`, and searches that a user keeps in his browser. It makes
// the node's arguments of what is filled in; it asks nothing itself.

import { button, el, fill } from "./dom.js";
import { choice, input, labelled, period, periods } from "./fields.js";
import { notice } from "./frame.js";
import { t } from "./texts.js";

/** Filters that are sent as they are typed. */
const PLAIN = ["text", "party", "extension", "agentid", "direction", "trunkgroup", "vdn", "split", "tag", "ucid",
  "scorecard", "minscore", "maxscore"];

/** The form. `search(arguments)` is called when somebody searches. */
export function searchForm(who, search) {
  const key = `astlogger.searches.${who.user}`;
  const fields = makeFields();
  const between = el("div", { class: "fields", hidden: true },
    labelled("search.from", fields.from), labelled("search.to", fields.to));
  const more = el("details", { class: "more" }, el("summary", { text: t("search.filters") }),
    el("div", { class: "fields" }, ["agentid", "direction", "trunkgroup", "vdn", "split", "tag", "ucid",
      "scorecard", "minscore", "maxscore", "minseconds", "incomplete", "hold", "order"].map((name) => labelled(TEXTS[name], fields[name]))));
  const form = el("form", { class: "search", role: "search", "aria-label": t("search") },
    el("div", { class: "fields" }, labelled("search.text", fields.text, "field wide"), labelled("search.party", fields.party),
      labelled("search.extension", fields.extension), labelled("search.period", fields.period)),
    between, more,
    el("div", { class: "row" },
      el("button", { id: "search", class: "main", text: t("search") }),
      button(t("search.clear"), () => set({}), { id: "clear" })),
    savedSearches(key, () => given(fields), set));
  function shown() {
    between.hidden = fields.period.value !== "between";
  }
  function set(values) {
    for (const [name, field] of Object.entries(fields)) {
      field.value = values[name] ?? field.dataset.plain ?? "";
    }
    const hidden = more.querySelectorAll("input, select");
    more.open = [...hidden].some((field) => field.value !== (field.dataset.plain ?? ""));
    shown();
    search(parameters(given(fields), new Date()));
  }
  fields.period.addEventListener("change", shown);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    search(parameters(given(fields), new Date()));
  });
  return form;
}

/** The node's arguments of what is filled in, at this moment. */
export function parameters(values, now) {
  const wanted = {};
  for (const name of PLAIN) {
    wanted[name] = values[name] ?? "";
  }
  if (values.minseconds) {
    wanted.mindurationms = Math.round(Number(values.minseconds) * 1000);
  }
  wanted.incomplete = values.incomplete ?? "";
  wanted.hold = values.hold ?? "";
  wanted.order = values.order ?? "newest";
  [wanted.from, wanted.to] = period(values, now);
  return wanted;
}

const TEXTS = {
  agentid: "search.agentid", direction: "search.direction", trunkgroup: "search.trunkgroup", vdn: "search.vdn",
  split: "search.split", tag: "search.tag", ucid: "search.ucid", scorecard: "search.scorecard", minscore: "search.minscore", maxscore: "search.maxscore",
  minseconds: "search.minseconds",
  incomplete: "search.completeness", hold: "search.hold", order: "search.order",
};

function makeFields() {
  const digits = { inputmode: "tel" };
  return {
    text: input("text", { type: "search", placeholder: t("search.text.hint") }),
    party: input("party", digits),
    extension: input("extension", digits),
    period: periods(["", "today", "yesterday", "week", "month", "between"]),
    from: input("from", { type: "datetime-local" }),
    to: input("to", { type: "datetime-local" }),
    agentid: input("agentid"),
    direction: choice("direction", ["", "inbound", "outbound", "internal"],
      (value) => t(value ? `direction.${value}` : "search.any")),
    trunkgroup: input("trunkgroup"),
    vdn: input("vdn", digits),
    split: input("split"),
    tag: input("tag"),
    ucid: input("ucid", { inputmode: "numeric" }),
    scorecard: input("scorecard"),
    minscore: input("minscore", { type: "number", min: "0", max: "100", step: "1" }),
    maxscore: input("maxscore", { type: "number", min: "0", max: "100", step: "1" }),
    minseconds: input("minseconds", { type: "number", min: "0", step: "1" }),
    incomplete: choice("incomplete", ["", "true", "false"],
      (value) => t({ "": "search.any", true: "search.incomplete", false: "search.complete" }[value])),
    hold: choice("hold", ["", "true", "false"],
      (value) => t({ "": "search.any", true: "search.held", false: "search.free" }[value])),
    order: choice("order", ["newest", "oldest"], (value) => t(`search.${value}`)),
  };
}

function given(fields) {
  const filled = Object.entries(fields).map(([name, field]) => [name, field.value.trim()]);
  return Object.fromEntries(filled.filter(([name, value]) => value !== (fields[name].dataset.plain ?? "")));
}

function savedSearches(key, current, use) {
  const chosen = el("select", { id: "savedsearch" });
  const name = el("input", { id: "savedname", autocomplete: "off", maxlength: "60" });
  const draw = () => fill(chosen, el("option", { value: "", text: t("saved.choose") }),
    Object.keys(read(key)).sort().map((saved) => el("option", { value: saved, text: saved })));
  chosen.addEventListener("change", () => {
    const saved = read(key)[chosen.value];
    if (saved !== undefined) {
      name.value = chosen.value;
      use(saved);
    }
  });
  const save = () => {
    if (name.value.trim() === "") {
      name.focus();
      return;
    }
    write(key, { ...read(key), [name.value.trim()]: current() });
    draw();
    chosen.value = name.value.trim();
  };
  const remove = () => {
    const { [chosen.value]: _, ...rest } = read(key);
    write(key, rest);
    draw();
  };
  draw();
  return el("details", { class: "more" }, el("summary", { text: t("saved") }),
    el("div", { class: "fields" }, labelled("saved", chosen), labelled("saved.name", name)),
    el("div", { class: "row" }, button(t("saved.save"), save, { id: "save" }),
      button(t("saved.remove"), remove, { id: "remove" })));
}

function read(key) {
  try {
    const saved = JSON.parse(localStorage.getItem(key) ?? "{}");
    return typeof saved === "object" && saved !== null ? saved : {};
  } catch {
    // Somebody else's, or none may be kept here.
    return {};
  }
}

function write(key, saved) {
  try {
    localStorage.setItem(key, JSON.stringify(saved));
  } catch {
    notice(t("saved.full"), "bad");
  }
}
