// What the health page reads out of the node's metrics (Prometheus's text form). Pure but for the question.

/** All values by name, and by name and labels: `Map` of `name` or `name{a="b"}` to number. */
export function parse(text) {
  const values = new Map();
  for (const line of text.split("\n")) {
    const found = /^([a-z_]+(?:\{[^}]*\})?) (\S+)$/i.exec(line);
    if (found !== null) {
      values.set(found[1], Number(found[2]));
    }
  }
  return values;
}

/** The values of one name by the value of its only label. */
export function byLabel(values, name) {
  const found = [];
  for (const [full, value] of values) {
    const label = full.startsWith(`${name}{`) ? /="([^"]*)"\}$/.exec(full) : null;
    if (label !== null) {
      found.push([label[1], value]);
    }
  }
  return found;
}

/** Asks this node. */
export async function metrics() {
  const answer = await fetch("/metrics", { credentials: "same-origin" });
  return parse(answer.ok ? await answer.text() : "");
}
