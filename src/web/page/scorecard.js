// The scorecard of one recording: a form by which somebody judges the call, and the judgements there are. Which
// forms there are the node says; what answers come to it works out.

import { el, fill } from "./dom.js";
import { moment } from "./format.js";
import { failed, notice } from "./frame.js";
import { askOnce } from "./socket.js";
import { t } from "./texts.js";

/** The forms of this site, asked for once. */
let asked = null;

/** The forms there are, by name. */
export function scorecards() {
  asked ??= askOnce("listscorecards").then(({ scorecards: all }) => all);
  asked.catch(() => { asked = null; });
  return asked;
}

/** The part of a player that is about judging. Nothing is shown while there is neither form nor judgement. */
export function scores(record, changed) {
  const given = el("ul", { id: "scores", class: "scores" });
  const place = el("div", { id: "scoring" });
  const section = el("section", { "aria-labelledby": "h-scores", hidden: true },
    el("h3", { id: "h-scores", text: t("score") }), given, place);
  const draw = (all) => {
    fill(given, (record.scores ?? []).map((score) => line(score, all)));
    section.hidden = all.length === 0 && (record.scores ?? []).length === 0;
  };
  scorecards().then((all) => {
    draw(all);
    if (all.length > 0) {
      fill(place, chooser(all, record, (marked) => {
        record.scores = marked;
        draw(all);
        changed(record);
      }));
    }
  }, failed);
  return section;
}

/** A score in one line, and below it what was answered. */
function line(score, all) {
  const card = all.find((found) => found.name === score.scorecard);
  const text = (id) => card?.questions.find((question) => question.id === id)?.text ?? id;
  const answers = Object.entries(score.answers).map(([id, answer]) =>
    el("div", {}, el("dt", { text: text(id) }), el("dd", { text: said(answer) })));
  const comment = score.comment === undefined ? null : el("p", { text: score.comment });
  return el("li", {}, el("details", {},
    el("summary", { text: t("score.line", { ...score, at: moment(score.at) }) }),
    el("dl", { class: "facts" }, answers), comment));
}

function said(answer) {
  return typeof answer === "boolean" ? t(answer ? "score.yes" : "score.no") : String(answer);
}

function chooser(all, record, done) {
  const chosen = el("select", { id: "scorecard" }, el("option", { value: "", text: t("score.choose") }),
    all.map((card) => el("option", { value: card.name, text: card.name })));
  const form = el("div");
  chosen.addEventListener("change", () => {
    const card = all.find((found) => found.name === chosen.value);
    fill(form, card === undefined ? null : questions(card, record, (marked) => {
      chosen.value = "";
      fill(form);
      done(marked);
    }));
  });
  return el("div", {}, el("div", { class: "field" },
    el("label", { for: "scorecard", text: t("score.by") }), chosen), form);
}

function questions(card, record, done) {
  const fields = card.questions.map((question, at) => field(question, `q-${at}`));
  const comment = el("input", { id: "scorecomment", autocomplete: "off", maxlength: "250" });
  const send = el("button", { id: "score", class: "main", text: t("score.save") });
  const form = el("form", { class: "scoreform", "aria-label": card.name },
    fields.map(({ element }) => element),
    el("div", { class: "field" }, el("label", { for: "scorecomment", text: t("score.comment") }), comment),
    el("div", { class: "row" }, send));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      const answers = Object.fromEntries(fields.map(({ id, value }) => [id, value()]));
      const { recordingid } = record;
      const request = { recordingid, scorecard: card.name, answers, comment: comment.value };
      const reply = await askOnce("scorerecording", request);
      notice(t("score.saved", reply));
      done(reply.scores);
    } catch (error) {
      failed(error);
    }
    send.disabled = false;
  });
  return form;
}

/** A question as a field; `value()` is its answer, `null` where it does not fit this call. */
function field(question, id) {
  const labelled = (input) => el("div", { class: "field" }, el("label", { for: id, text: question.text }), input);
  if (question.kind === "text") {
    const input = el("input", { id, autocomplete: "off", maxlength: "250" });
    return { id: question.id, element: labelled(input), value: () => (input.value === "" ? null : input.value) };
  }
  const none = el("option", { value: "", text: t("score.none") });
  if (question.kind === "yesno") {
    const input = el("select", { id }, none, ["yes", "no"].map((value) =>
      el("option", { value, text: t(`score.${value}`) })));
    return {
      id: question.id, element: labelled(input), value: () => (input.value === "" ? null : input.value === "yes"),
    };
  }
  const input = el("input", { id, type: "number", min: "0", max: String(question.max), step: "1",
    placeholder: t("score.none") });
  const text = t("score.points", { text: question.text, max: question.max });
  const element = el("div", { class: "field" }, el("label", { for: id, text }), input);
  return { id: question.id, element, value: () => (input.value === "" ? null : Number(input.value)) };
}
