// The page on which an administrator holds recordings, releases them, and deletes them. He names a recording by its
// id, because he neither searches nor listens; who listens finds the id, and a link to this page, beside it. Those that
// are held he chooses from a list.

import { post } from "./api.js";
import { button, el, fill } from "./dom.js";
import { moment } from "./format.js";
import { confirm, frame, words } from "./frame.js";
import { Holds, standing } from "./holds.js";
import { t } from "./texts.js";

function begin(main) {
  const named = decodeURIComponent(location.hash.slice(1));
  const id = el("input", {
    id: "custodyid", value: named === "main" ? "" : named, required: true, autocomplete: "off", spellcheck: "false",
  });
  const reason = el("input", { id: "reason", required: true, maxlength: "500", autocomplete: "off" });
  const outcome = el("div", { id: "outcome", role: "status" });
  const press = (action, name, sure) => button(t(`custody.${name}`), () => {
    // What is missing is said by the browser, at its field.
    if (form.reportValidity()) {
      sure === null ? ask(action, name) : confirm(t(sure, { id: id.value.trim() }), t(`custody.${name}`), () => ask(action, name));
    }
  }, { id: name, class: name === "delete" ? "danger" : "" });
  const buttons = [
    press(() => hold(true), "hold", null), press(() => hold(false), "release", "custody.release.sure"),
    press(() => post("/api/requests/deleterecording", asked()), "delete", "custody.delete.sure"),
  ];
  const field = (control, text) => el("div", { class: "field" }, el("label", { for: control.id, text: t(text) }), control);
  const form = el("form", { class: "card custody" },
    field(id, "custody.id"), field(reason, "custody.reason"), el("p", { class: "quiet", text: t("custody.what") }),
    el("div", { class: "row" }, buttons), outcome);
  form.addEventListener("submit", (event) => event.preventDefault());

  const asked = () => ({ recordingid: id.value.trim(), reason: reason.value.trim() });
  const hold = (on) => post("/api/requests/legalhold", { ...asked(), on });
  async function ask(action, name) {
    buttons.forEach((one) => { one.disabled = true; });
    try {
      const told = await action();
      fill(outcome, el("p", { class: "good", text: sentence(name, told) }), standing(told.holdmark));
      holds.load();
    } catch (error) {
      fill(outcome, el("p", { class: "error", text: words(error) }));
    }
    buttons.forEach((one) => { one.disabled = false; });
  }
  const holds = new Holds((chosen) => {
    id.value = chosen;
    fill(outcome);
    id.scrollIntoView({ block: "nearest" });
    reason.focus();
  });
  main.append(el("h1", { text: t("custody") }), form, holds.element);
  holds.load();
  (id.value === "" ? id : reason).focus();
}

/** What came of it. */
function sentence(name, told) {
  if (name === "delete") {
    return t("custody.deleted", { at: moment(told.at) });
  }
  if (told.releaserequestedby !== undefined) {
    return t("custody.pending", { by: told.releaserequestedby, before: moment(told.releasebefore) });
  }
  return t(told.hold ? "custody.held" : "custody.free");
}

frame({ address: "/custody", title: "nav.custody", roles: ["admin"], begin });
