// Elements of a page, made and filled without ever reading a text as markup. It decides nothing.

/**
 * An element. `properties` are attributes, but for `text` (its text), `on` (listeners by event), and
 * values of true and false (an attribute that is there or not).
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") {
      element.textContent = value;
    } else if (name === "on") {
      for (const [event, listener] of Object.entries(value)) {
        element.addEventListener(event, listener);
      }
    } else if (value === true) {
      element.setAttribute(name, "");
    } else if (value !== false && value !== undefined && value !== null) {
      element.setAttribute(name, String(value));
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A button that says `text`. */
export function button(text, press, properties = {}) {
  return el("button", { type: "button", text, on: { click: press }, ...properties });
}

/** Puts `children` in the place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** A list of terms, without those that have no value. */
export function facts(pairs) {
  const rows = pairs
    .filter(([, value]) => value !== "" && value !== undefined && value !== null)
    .map(([term, value]) =>
      el("div", {}, el("dt", { text: term }),
        el("dd", {}, value instanceof Node ? value : document.createTextNode(String(value)))));
  return el("dl", { class: "facts" }, ...rows);
}

/** Where a thing lies along a line, in percent: set through the object model, as the page's policy wants it. */
export function place(element, from, to) {
  element.style.setProperty("left", `${from * 100}%`);
  if (to !== undefined) {
    element.style.setProperty("width", `${Math.max(0, to - from) * 100}%`);
  }
  return element;
}
