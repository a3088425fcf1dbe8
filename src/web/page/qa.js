// The page for quality assurance: search, list, player. The address's fragment names the recording that is
// open, so that it can be passed on; numbers of callers never stand in an address.

import { get } from "./api.js";
import { el, fill } from "./dom.js";
import { Exports } from "./exports.js";
import { failed, frame } from "./frame.js";
import { showHelp, singleKeys } from "./help.js";
import { Player } from "./player.js";
import { Results } from "./results.js";
import { searchForm } from "./search.js";
import { t } from "./texts.js";

function begin(main, who) {
  let player = null;
  let asked = null;
  let wanted = { order: "newest" };
  const place = el("div", { class: "playerplace" });
  const results = new Results((record) => show(record, true));

  function close() {
    player?.close();
    player = null;
    asked = null;
    fill(place, el("p", { class: "quiet", text: t("player.none") }));
    results.choose(null);
    history.replaceState(null, "", location.pathname);
  }
  function show(record, focus) {
    player?.close();
    player = new Player(record, who, { open, close });
    fill(place, player.element);
    results.choose(record.recordingid);
    asked = record.recordingid;
    history.replaceState(null, "", `#${record.recordingid}`);
    if (focus) {
      place.scrollIntoView({ block: "nearest" });
      player.focus();
    }
  }
  async function open(id) {
    asked = id;
    try {
      const record = await get(`/api/recordings/${encodeURIComponent(id)}`);
      // Somebody may have chosen another one meanwhile.
      if (asked === id) {
        show(record, true);
      }
    } catch (error) {
      failed(error);
    }
  }
  function named() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (id !== "" && id !== asked && id !== "main") {
      open(id);
    }
  }
  function keys(event) {
    const inField = event.target.closest?.("input, select, textarea, dialog") !== null;
    if (inField || event.ctrlKey || event.altKey || event.metaKey || !singleKeys()) {
      return;
    }
    if (event.key === "?") {
      event.preventDefault();
      showHelp();
    } else if (event.key === "/") {
      event.preventDefault();
      document.getElementById("f-text").focus();
    }
  }

  const form = searchForm(who, (parameters) => {
    wanted = parameters;
    results.search(parameters);
  });
  const exports = who.role === "qa" ? new Exports(() => wanted) : null;
  fill(place, el("p", { class: "quiet", text: t("player.none") }));
  main.append(el("h1", { class: "unseen", text: t("nav.recordings") }), form,
    ...(exports === null ? [] : [exports.element]), el("div", { class: "columns" }, results.element, place));
  results.search(wanted);
  named();
  window.addEventListener("hashchange", named);
  document.addEventListener("keydown", keys);
  return () => {
    player?.close();
    exports?.close();
    window.removeEventListener("hashchange", named);
    document.removeEventListener("keydown", keys);
  };
}

frame({ address: "/", title: "nav.recordings", roles: ["qa", "supervisor"], begin });
