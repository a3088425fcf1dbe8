// The calls in progress, put together from the group's list and the events of the member that is asked. A
// member tells of its own recordings only, so what the list says of others stays until the next list. Pure.

export class Calls {
  #calls = new Map();

  /** Takes a list, which says all. */
  list(listed) {
    this.#calls = new Map(listed.map((call) => [key(call), { call, recorders: recorders(call) }]));
  }

  /**
   * Takes an event, heard from member `node`. True if somebody else may know more: a call that nobody here
   * records may be recorded elsewhere.
   */
  take(event, node) {
    if (event.calling === undefined || event.callid === undefined) {
      return false;
    }
    const name = this.#name(event);
    if (event.eventtype === "callended") {
      this.#calls.delete(name);
      return false;
    }
    const others = new Map(this.#calls.get(name)?.recorders ?? []);
    others.delete(node);
    for (const [member, recorded] of recorders(event)) {
      others.set(member, recorded);
    }
    this.#calls.set(name, { call: event, recorders: others });
    return others.size === 0 || [...others.keys()].some((member) => member !== node);
  }

  /** All of them, the longest first: `{ key, call, recorded }`, `recorded` a list. */
  all() {
    const found = [...this.#calls].map(([name, { call, recorders: by }]) =>
      ({ key: name, call, recorded: [...by.values()] }));
    return found.sort((one, other) => one.call.started.localeCompare(other.call.started));
  }

  /** A call keeps its place when the switch gives it a UCID late. */
  #name(event) {
    if (this.#calls.has(key(event))) {
      return key(event);
    }
    const same = [...this.#calls].find(([, { call }]) => call.ucid === undefined && call.callid === event.callid);
    return same === undefined ? key(event) : same[0];
  }
}

/** By which name a call is known here. */
export function key(call) {
  return call.ucid ?? `callid ${call.callid}`;
}

function recorders(call) {
  const all = call.recordedby ?? (call.recorded === undefined ? [] : [call.recorded]);
  return new Map(all.map((recorded) => [recorded.node, recorded]));
}

/** Whether a call is what somebody looks for. */
export function wanted({ call, recorded }, text, unrecordedOnly) {
  if (unrecordedOnly && recorded.length > 0) {
    return false;
  }
  const words = [call.calling, call.called, call.agentid, call.vdn, call.split, ...call.extensions,
    ...call.parties.map((party) => party.who)];
  return text === "" || words.some((word) => (word ?? "").toLowerCase().includes(text.toLowerCase()));
}
