// The page that says how the group is: what is wrong and what to do about it first, then members, the last
// takeover, this node, and the day's completeness. The member that is asked tells how it sees the group.

import { get } from "./api.js";
import { button, el, facts, fill } from "./dom.js";
import { Feed } from "./feed.js";
import { length, moment, size } from "./format.js";
import { confirm, failed, frame, notice, words } from "./frame.js";
import { byLabel, metrics } from "./metrics.js";
import { Socket } from "./socket.js";
import { t } from "./texts.js";

const LOOK_EVERY_MS = 3000;
/** Each look at the completeness reads a day's records, and is written into the audit log. */
const COUNT_EVERY_MS = 300_000;
const COUNTED_FOR = ["qa", "supervisor", "auditor", "admin"];
const LISTENERS = ["qa", "supervisor"];
const LACKING_SHOWN = 20;

class Health {
  #socket;
  #role;
  #lost = null;
  #timers = [];
  #feed = new Feed();
  #summary = el("p", { id: "summary", class: "summary", role: "status" });
  #alarms = card("alarms", "health.alarms");
  #members = card("members", "health.members");
  #takeover = card("takeover", "health.takeover");
  #node = card("node", "health.node");
  #day = card("day", "health.day");
  #drill = card("drill", "drill");
  #shown = new Map();

  constructor(main, who) {
    this.#role = who.role;
    const counts = COUNTED_FOR.includes(who.role);
    main.append(el("h1", { text: t("health") }), this.#summary, el("div", { class: "live" },
      el("div", { class: "stack" }, this.#alarms.element, this.#members.element,
        el("div", { class: "pair" }, this.#takeover.element, this.#node.element), counts ? this.#day.element : null,
      who.role === "admin" ? this.#drill.element : null),
      this.#feed.element));
    this.#makeDrill();
    this.#socket = new Socket({
      opened: () => this.#opened(), lost: () => this.#gone(), event: (event) => this.#event(event),
    });
    this.#timers.push(setInterval(() => this.#look(), LOOK_EVERY_MS));
    if (counts) {
      this.#count();
      this.#timers.push(setInterval(() => this.#count(), COUNT_EVERY_MS));
    }
  }

  close() {
    this.#timers.forEach(clearInterval);
    this.#socket.close();
  }

  async #opened() {
    this.#lost?.remove();
    this.#lost = null;
    try {
      await this.#socket.ask("subscribe", { events: ["cluster", "alarms"] });
      await this.#look();
    } catch (error) {
      failed(error);
    }
  }

  #gone() {
    this.#lost ??= notice(t("socket.away"), "bad");
    this.#say("bad", t("health.gone"));
  }

  #makeDrill() {
    const outcome = el("div", { id: "drilled", role: "status" });
    const press = button(t("drill.begin"), () => confirm(t("drill.sure"), t("drill.begin"), async () => {
      press.disabled = true;
      fill(outcome, el("p", { text: t("drill.goeson") }));
      try {
        const { lines } = await this.#socket.ask("drill");
        fill(outcome, el("ul", {}, lines.map((text) => el("li", { text }))), el("p", { text: t("drill.done") }));
      } catch (error) {
        fill(outcome, el("p", { class: "error", text: words(error) }));
      }
      press.disabled = false;
    }), { id: "begindrill" });
    fill(this.#drill.body, el("p", { text: t("drill.what") }), press, outcome);
  }

  #event(event) {
    this.#feed.take(event);
    this.#look();
  }

  async #look() {
    if (this.#lost !== null) {
      return;
    }
    try {
      const [status, values] = await Promise.all([this.#socket.ask("clusterstatus"), metrics()]);
      this.#show(status, values);
    } catch (error) {
      if (error.code !== "unreachable") {
        failed(error);
      }
    }
  }

  #say(kind, text) {
    this.#summary.className = `summary ${kind}`;
    // A status is read out when it changes, so it is not written anew without need.
    if (this.#summary.textContent !== text) {
      this.#summary.textContent = text;
    }
  }

  #show(status, values) {
    const { alarms, health, members } = status;
    const away = members.filter((member) => !member.reachable && member.node !== status.node).length;
    if (!health.ready) {
      this.#say("bad", t("health.notready", { node: status.node, reasons: health.reasons.join("; ") }));
    } else if (alarms.length > 0 || away > 0) {
      this.#say("warn", t("health.alarmed", { alarms: alarms.length, away }));
    } else {
      this.#say("good", t("health.well"));
    }
    this.#put(this.#alarms, alarms, () => (alarms.length === 0
      ? [el("p", { class: "quiet", text: t("health.noalarms") })] : [el("ul", { class: "alarms" }, alarms.map(alarm))]));
    const table = members.map((member) => memberRow(member, status));
    const seen = { lead: status.lead ?? t("feed.nobody"), leader: status.leader ?? t("feed.nobody"), epoch: status.epoch, term: status.term };
    this.#put(this.#members, [members, status.clock_offset_us, status.round_trip_us, seen], () => [
      el("div", { class: "scroll", tabindex: "0", role: "group", "aria-labelledby": "h-members" }, el("table", {},
        el("thead", {}, el("tr", {}, MEMBER_COLUMNS.map((name) => el("th", { scope: "col", text: t(`member.${name}`) })))),
        el("tbody", {}, table))),
      el("p", { class: "quiet", text: t(status.quorum ? "health.group" : "health.noquorum", seen) })]);
    this.#put(this.#takeover, status.lasttakeover, () => [takeover(status.lasttakeover)]);
    const own = ownFacts(status, values);
    this.#put(this.#node, own, () => [facts(own)]);
  }

  /** Draws a part anew only if it has changed, so that nobody loses his place. */
  #put(part, of, draw) {
    const told = JSON.stringify(of ?? null);
    if (this.#shown.get(part) !== told) {
      this.#shown.set(part, told);
      fill(part.body, draw());
    }
  }

  async #count() {
    try {
      const day = await get("/api/completeness");
      fill(this.#day.body, completeness(day, this.#role), button(t("day.again"), () => this.#count(), { id: "countagain" }));
    } catch (error) {
      failed(error);
    }
  }
}

const MEMBER_COLUMNS = ["node", "role", "duty", "state", "aes", "phantoms", "disk", "media", "link", "program"];

function card(id, text) {
  const body = el("div");
  const head = `h-${id}`;
  return { body, element: el("section", { id, class: "card", "aria-labelledby": head }, el("h2", { id: head, text: t(text) }), body) };
}

function alarm({ alarm: name, subject, message, remedy }) {
  return el("li", {}, el("div", { class: "row tight" }, el("span", { class: "badge bad", text: name }),
    subject === "" ? null : el("span", { class: "quiet", text: subject })),
  el("p", { text: message }), el("p", { class: "remedy", text: t("health.remedy", { remedy }) }));
}

function badge(good, yes, no) {
  return el("span", { class: `badge ${good ? "good" : "bad"}`, text: t(good ? yes : no) });
}

function memberRow(member, status) {
  const own = member.node === status.node;
  const answers = own || member.reachable;
  // What one that does not answer has said of itself is old.
  const health = answers ? member.health : null;
  const offset = status.clock_offset_us[member.node];
  const trip = status.round_trip_us[member.node];
  const link = [trip === undefined ? null : t("member.trip", { ms: (trip / 1000).toFixed(1) }),
    offset === undefined ? null : t(offset < 0 ? "member.behind" : "member.ahead", { ms: (Math.abs(offset) / 1000).toFixed(1) })]
    .filter((text) => text !== null);
  const state = member.drained ? el("span", { class: "badge warn", text: t("member.drained") })
    : badge(answers, own ? "member.here" : "member.answers", "member.away");
  const told = (make) => (health === null ? el("span", { class: "quiet", text: "–" }) : make());
  const cells = {
    node: String(member.node) + (status.leader === member.node ? ` ${t("member.leader")}` : ""),
    role: member.role === null ? "–" : t(`role.${member.role}`),
    duty: el("span", { class: member.duty === "lead" ? "badge info" : "", text: t(`duty.${member.duty}`) }),
    state,
    aes: told(() => badge(health.aes, "member.up", "member.down")),
    phantoms: told(() => el("span", { class: `badge ${{ free: "good", full: "warn", none: "bad" }[health.phantoms]}`, text: t(`member.${health.phantoms}`) })),
    disk: told(() => badge(health.disk, "member.room", "member.noroom")),
    media: told(() => badge(health.media, "member.hears", "member.deaf")),
    link: own || !answers ? "" : link.join(", "),
    program: member.program,
  };
  return el("tr", { "data-node": member.node }, MEMBER_COLUMNS.map((name) =>
    el("td", { class: `c-${name}` }, cells[name])));
}

function takeover(last) {
  if (last === null || last === undefined) {
    return el("p", { class: "quiet", text: t("health.notakeover") });
  }
  const gap = last.gapms === null ? t("health.nogap") : length(last.gapms);
  return facts([
    [t("takeover.at"), moment(last.at)], [t("takeover.from"), last.from ?? t("feed.nobody")],
    [t("takeover.to"), last.to ?? t("feed.nobody")], [t("takeover.cause"), t(`cause.${last.cause}`)],
    [t("takeover.gap"), gap], [t("takeover.moves"), t(last.moves ? "takeover.all" : "takeover.new")],
  ]);
}

function ownFacts(status, values) {
  const value = (name) => values.get(`astlogger_${name}`);
  const phantoms = byLabel(values, "astlogger_phantoms").filter(([, count]) => count > 0)
    .map(([state, count]) => `${state} ${count}`).join(", ");
  const free = value("disk_free_bytes");
  const waiting = byLabel(values, "astlogger_mirror_lag_seconds")
    .map(([peer, seconds]) => t("node.lag", { peer, length: length(seconds * 1000) })).join(", ");
  return [
    [t("node.number"), status.node], [t("node.duty"), t(`duty.${status.duty.duty}`)],
    [t("node.calls"), status.calls], [t("node.recordings"), status.recordings],
    [t("node.aes"), value("aes_up") === undefined ? "" : t(value("aes_up") === 1 ? "member.up" : "member.down")],
    [t("node.phantoms"), phantoms], [t("node.disk"), free === undefined ? "" : size(free)],
    [t("node.seal"), value("seal_queue")], [t("node.copies"), value("copies_pending")], [t("node.mirror"), waiting],
  ];
}

function completeness(day, role) {
  const missing = Object.entries(day.missingms).map(([cause, ms]) =>
    el("li", { text: t("day.missing", { length: length(ms), cause: cause in CAUSES ? t(`gap.${cause}`) : cause }) }));
  const lacking = day.lacking.slice(0, LACKING_SHOWN).map((call) => el("li", {},
    el("span", { class: "time", text: moment(call.began) }),
    el("span", { class: `badge ${call.outcome === "missed" ? "bad" : "warn"}`, text: t(`day.${call.outcome}`) }),
    call.recordings.map((id) => (LISTENERS.includes(role) ? el("a", { href: `/#${id}`, text: t("day.listen") })
      : el("a", { href: `/audit#${id}`, text: t("day.audit") })))));
  const away = day.unreachable ?? [];
  return el("div", {},
    away.length === 0 ? null : el("p", { class: "notice bad", text: t("live.away", { nodes: away.map((m) => m.node).join(", ") }) }),
    day.site === undefined ? null : el("p", { class: "notice", text: t("day.site", { site: day.site }) }),
    facts(["calls", "recorded", "partial", "missed", "excluded", "pending"].map((name) => [t(`day.${name}`), day[name]])),
    missing.length === 0 ? null : el("ul", { class: "sentences" }, missing),
    lacking.length === 0 ? null : el("h3", { text: t("day.lacking", { count: day.lackingtotal }) }),
    el("ul", { class: "lacking" }, lacking));
}

const CAUSES = { loss: 1, takeover: 1, paused: 1, hold: 1, nomedia: 1, diskfull: 1 };

function begin(main, who) {
  const health = new Health(main, who);
  return () => health.close();
}

const ALL = ["agent", "supervisor", "qa", "auditor", "admin"];
frame({ address: "/health", title: "health", roles: ALL, begin });
