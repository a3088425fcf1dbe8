// What stands around every page: its head with the way to the others, signing in and out, and messages.
// Which roles a page is for is the page's to say; what a role may ask for, the node's.

import { Refused, get, post } from "./api.js";
import { button, el, fill } from "./dom.js";
import { t } from "./texts.js";

/** The other pages, and for whom they are. */
const PAGES = [
  { address: "/", text: "nav.recordings", roles: ["qa", "supervisor"] },
  { address: "/supervisor", text: "nav.live", roles: ["supervisor", "agent"] },
  { address: "/custody", text: "nav.custody", roles: ["admin"] },
  { address: "/audit", text: "nav.audit", roles: ["auditor", "admin"] },
  { address: "/health", text: "nav.health", roles: ["agent", "supervisor", "qa", "auditor", "admin"] },
];

/** Where somebody begins who comes to the address that everybody knows, and has no use of it. */
const HOMES = { agent: "/supervisor", auditor: "/audit", admin: "/health" };

const main = el("main", { id: "main", tabindex: "-1" });
const head = el("header", { class: "head" });
const notices = el("div", { class: "notices", role: "status", "aria-live": "polite" });
let began = null;
let page = null;
/** When somebody last touched the page or something was playing, and for how long nobody may (0: for ever). */
let touched = Date.now();
let idleMinutes = 0;
/** By whom one can sign in beside a password, if there is somebody. */
let provider = null;

/**
 * Begins a page: `address` is its own, `title` a text's key, `begin(main, who)` fills it once
 * somebody of its roles is signed in and returns what ends it, or nothing.
 */
export async function frame(of) {
  page = of;
  const skip = el("a", { class: "skip", href: "#main", text: t("skip") });
  document.title = `${t(of.title)} · ${t("app")}`;
  document.body.append(skip, head, notices, main);
  for (const event of ["pointerdown", "pointermove", "keydown", "wheel", "timeupdate"]) {
    document.addEventListener(event, () => { touched = Date.now(); }, { capture: true, passive: true });
  }
  setInterval(leftAlone, 5000);
  await look();
}

/** Finds out who is signed in, and shows what he is to see. */
async function look() {
  try {
    const who = await get("/api/session");
    if (who.user === null) {
      provider = who.provider ?? null;
      signIn(t(refusedWhy() ?? "signin.why"));
    } else if (page.address === "/" && who.role in HOMES && ["", "#main"].includes(location.hash)) {
      location.replace(HOMES[who.role]);
    } else {
      show(who);
    }
  } catch (error) {
    signIn(words(error));
  }
}

/** Why a sign-in by the provider came to nothing, if this page was opened to say so: a text's key. It is said once. */
function refusedWhy() {
  const code = new URLSearchParams(location.search).get("signin");
  if (code === null) {
    return undefined;
  }
  history.replaceState(null, "", location.pathname);
  return ["forbidden", "unavailable", "busy"].includes(code) ? `signin.failed.${code}` : "signin.failed";
}

/** Signs out whoever has left the page open: what stands on it is not for whoever comes by. */
function leftAlone() {
  if (idleMinutes > 0 && Date.now() - touched > idleMinutes * 60000) {
    // Should the node not hear this, the session ends there by itself.
    post("/api/signout").catch(() => {});
    signIn(t("signin.idle"));
  }
}

/** Tells what went wrong; whoever is not signed in any more is asked to sign in. */
export function failed(error) {
  if (error instanceof Refused && error.code === "notauthenticated") {
    signIn(t("signin.over"));
  } else {
    notice(words(error), "bad");
  }
}

/** What went wrong, for people. */
export function words(error) {
  if (!(error instanceof Refused)) {
    console.error(error);
    return t("error.internal");
  }
  return error.code === "unreachable" ? t("error.unreachable") : t("error.refused", { message: error.message });
}

/** Tells something, until it is closed or `seconds` are over. */
export function notice(text, kind = "info", seconds = 0) {
  const told = el("div", { class: `notice ${kind}` }, el("span", { text }));
  told.append(button("×", () => told.remove(), { "aria-label": t("help.close") }));
  // The same is not told twice at a time.
  for (const other of notices.children) {
    if (other.firstChild.textContent === text) {
      other.remove();
    }
  }
  notices.append(told);
  if (seconds > 0) {
    setTimeout(() => told.remove(), seconds * 1000);
  }
  return told;
}

/** Asks whether somebody is sure; `go` is called if he is. */
export function confirm(question, yes, go) {
  const dialog = el("dialog", { id: "sure", "aria-labelledby": "surehead" },
    el("h2", { id: "surehead", text: yes }), el("p", { text: question }),
    el("div", { class: "row" },
      button(yes, () => {
        dialog.close();
        go();
      }, { id: "yes", class: "main" }),
      button(t("cancel"), () => dialog.close())));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function end() {
  if (typeof began === "function") {
    began();
  }
  began = null;
}

function show(who) {
  end();
  touched = Date.now();
  idleMinutes = who.idleminutes ?? 0;
  fill(notices);
  const links = PAGES.filter((other) => other.roles.includes(who.role)).map((other) => {
    const here = other.address === page.address ? "page" : undefined;
    return el("li", {}, el("a", { href: other.address, text: t(other.text), "aria-current": here }));
  });
  const role = t(`role.${who.role}`);
  fill(head, brand(), el("nav", { "aria-label": t("nav") }, el("ul", {}, links)),
    el("div", { class: "who" }, el("span", { text: t("signedin", { user: who.user, role }) }),
      button(t("signout"), signOut, { id: "signout" })));
  fill(main);
  if (page.roles.includes(who.role)) {
    began = page.begin(main, who);
  } else {
    main.append(el("h1", { text: t(page.title) }), el("p", { id: "notforyou", text: t("notforyou", { role }) }));
  }
}

function signIn(why) {
  end();
  idleMinutes = 0;
  fill(head, brand());
  fill(notices);
  const user = el("input", { id: "user", name: "user", autocomplete: "username", required: true });
  const password = el("input", {
    id: "password", name: "password", type: "password", autocomplete: "current-password", required: true,
  });
  const error = el("p", { id: "signinerror", class: "error", role: "alert" });
  const submit = el("button", { id: "signin", class: "main", text: t("signin") });
  const form = el("form", { class: "signin" },
    el("h1", { text: t("signin") }), el("p", { text: why }),
    el("label", { for: "user", text: t("signin.user") }), user,
    el("label", { for: "password", text: t("signin.password") }), password, error, submit);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    error.textContent = "";
    try {
      await post("/api/signin", { user: user.value, password: password.value });
      await look();
      main.focus();
    } catch (refused) {
      error.textContent = words(refused);
      password.value = "";
      password.focus();
    } finally {
      submit.disabled = false;
    }
  });
  if (provider !== null) {
    const address = `/api/oidc/start?page=${encodeURIComponent(page.address)}`;
    form.append(el("a", { id: "signinby", class: "button", href: address, text: t("signin.by", { name: provider }) }));
  }
  fill(main, form);
  user.focus();
}

async function signOut() {
  try {
    await post("/api/signout");
  } catch (error) {
    // Signed out by the node before: that is what was wanted.
    if (!(error instanceof Refused && error.code === "notauthenticated")) {
      failed(error);
      return;
    }
  }
  signIn(t("signin.why"));
}

function brand() {
  return el("span", { class: "brand", text: t("app") });
}
