// A list that goes on as somebody scrolls: the next page is asked for before its end is seen. What is asked for, and
// what is shown of it, is the list's matter.

import { button } from "./dom.js";
import { t } from "./texts.js";

/**
 * `page(signal)` asks for a page, shows it, and says whether there is more; `broke(error)` is told where that failed, and says
 * whether there may be more. `button` is to stand at the end of the list.
 */
export class Endless {
  #page;
  #broke;
  #stop = null;
  #near;

  constructor(page, broke) {
    this.#page = page;
    this.#broke = broke;
    this.button = button(t("list.more"), () => this.next(), { id: "more", hidden: true });
    this.#near = new IntersectionObserver((seen) => {
      if (seen.some((entry) => entry.isIntersecting) && !this.button.hidden) {
        this.next();
      }
    }, { rootMargin: "600px" });
    this.#near.observe(this.button);
  }

  /** Forgets what is asked for, and begins anew. */
  begin() {
    this.#stop?.abort();
    this.#stop = null;
    this.button.hidden = true;
    return this.next();
  }

  /** The next page, if none is on its way. */
  async next() {
    if (this.#stop !== null) {
      return;
    }
    const stop = new AbortController();
    this.#stop = stop;
    try {
      this.button.hidden = !(await this.#page(stop.signal));
    } catch (error) {
      if (error.name !== "AbortError") {
        // Whoever wants it again presses the button: it may fail as soon.
        this.#stop = null;
        this.button.hidden = !this.#broke(error);
      }
      return;
    }
    this.#stop = null;
    // The observer tells of changes only. Where the end is in sight still, or again, there is none: asked anew, it tells.
    this.#near.unobserve(this.button);
    this.#near.observe(this.button);
  }
}
