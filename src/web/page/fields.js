// Fields of the forms that search, and the period that somebody chooses in one. It asks nothing.

import { el } from "./dom.js";
import { t } from "./texts.js";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A field for what is typed. */
export function input(name, properties = {}) {
  return el("input", { id: `f-${name}`, autocomplete: "off", ...properties });
}

/** A list to choose from; the first value is the plain one. */
export function choice(name, values, text) {
  const options = values.map((value) => el("option", { value, text: text(value) }));
  return el("select", { id: `f-${name}`, "data-plain": values[0] }, options);
}

/** A field below its name, a text's key. */
export function labelled(text, field, kind = "field") {
  return el("div", { class: kind }, el("label", { for: field.id, text: t(text) }), field);
}

/** A list of periods, the first of them plain. */
export function periods(values) {
  return choice("period", values, (value) => t(`search.period.${value || "any"}`));
}

/** From when until when, as the node wants it, at this moment; empty: no bound. */
export function period(values, now) {
  return bounds(values, now).map((time) => (time === null ? "" : time.toISOString()));
}

function bounds(values, now) {
  const today = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  const before = (days) => new Date(today.getFullYear(), today.getMonth(), today.getDate() - days);
  const typed = (text) => (text ? new Date(text) : null);
  switch (values.period) {
    case "hour": return [new Date(now.getTime() - HOUR_MS), null];
    case "today": return [today, null];
    case "yesterday": return [before(1), today];
    case "week": return [new Date(now.getTime() - 7 * DAY_MS), null];
    case "month": return [new Date(now.getTime() - 30 * DAY_MS), null];
    case "between": return [typed(values.from), typed(values.to)];
    default: return [null, null];
  }
}
