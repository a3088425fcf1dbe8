// Questions to the node over HTTP. The browser's cookie says who asks. It decides nothing.

/** What the node refuses: its stable code, and its words for people. */
export class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** Asks for an object. */
export async function get(path, parameters = {}, signal = undefined) {
  return answer(await send(path + query(parameters), { signal }));
}

/** Sends an object; the answer may have no body. */
export async function post(path, body = {}) {
  const headers = { "Content-Type": "application/json" };
  return answer(await send(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

/** The part of an address behind its path; what is empty is left out. */
export function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined);
  return given.length === 0 ? "" : `?${new URLSearchParams(given)}`;
}

async function send(path, options) {
  try {
    return await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") {
      throw error;
    }
    throw new Refused("unreachable", "");
  }
}

async function answer(response) {
  if (response.status === 204) {
    return {};
  }
  let body = {};
  try {
    body = await response.json();
  } catch {
    // What stands between us and the node may answer in its own way.
    throw new Refused(response.ok ? "internal" : "unreachable", "");
  }
  if (!response.ok) {
    throw new Refused(body.error ?? "internal", body.message ?? "");
  }
  return body;
}
