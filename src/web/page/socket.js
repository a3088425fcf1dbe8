// The WebSocket to the node: requests with their replies, events, and coming back after it is lost. It
// knows no request.

import { Refused } from "./api.js";

/** Between two tries to connect, milliseconds: from, to. */
const AGAIN_MS = [500, 10_000];

/**
 * A socket that stays open until `close`. `opened` is called each time that it is connected, `lost` when it
 * is not any more, `event` with each event, `binary` with each binary frame.
 */
export class Socket {
  #socket = null;
  #waiting = new Map();
  #next = 1;
  #pause = AGAIN_MS[0];
  #closed = false;
  #handlers;

  constructor(handlers = {}) {
    this.#handlers = handlers;
    this.#connect();
  }

  /** Asks; the reply's members, or a `Refused`. */
  ask(request, members = {}) {
    if (this.#socket === null || this.#socket.readyState !== WebSocket.OPEN) {
      return Promise.reject(new Refused("unreachable", ""));
    }
    const id = this.#next;
    this.#next += 1;
    this.#socket.send(JSON.stringify({ request, id, ...members }));
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  /** Closes it for good. */
  close() {
    this.#closed = true;
    this.#socket?.close();
  }

  #connect() {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/ws`);
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      this.#pause = AGAIN_MS[0];
      this.#handlers.opened?.();
    });
    socket.addEventListener("message", (message) => this.#take(message.data));
    socket.addEventListener("close", () => this.#over());
  }

  #take(data) {
    if (typeof data !== "string") {
      this.#handlers.binary?.(data);
      return;
    }
    const told = JSON.parse(data);
    if (told.eventtype !== undefined) {
      this.#handlers.event?.(told);
      return;
    }
    const asked = this.#waiting.get(told.id);
    this.#waiting.delete(told.id);
    if (told.result === "success") {
      asked?.resolve(told);
    } else {
      asked?.reject(new Refused(told.error, told.message));
    }
  }

  #over() {
    for (const asked of this.#waiting.values()) {
      asked.reject(new Refused("unreachable", ""));
    }
    this.#waiting.clear();
    if (this.#closed) {
      return;
    }
    this.#handlers.lost?.();
    setTimeout(() => this.#closed || this.#connect(), this.#pause);
    this.#pause = Math.min(this.#pause * 2, AGAIN_MS[1]);
  }
}

/** One request on a socket of its own. */
export function askOnce(request, members) {
  return new Promise((resolve, reject) => {
    const socket = new Socket({
      opened: () => socket.ask(request, members).then(resolve, reject).finally(() => socket.close()),
      lost: () => {
        socket.close();
        reject(new Refused("unreachable", ""));
      },
    });
  });
}
