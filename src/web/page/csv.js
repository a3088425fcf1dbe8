// A table as a file for spreadsheets (RFC 4180, UTF-8, lines ended by CR LF). Who asked for what chose the words himself,
// and a spreadsheet runs what begins like a formula: such a cell gets an apostrophe before it, as in an export. Pure.

const FORMULA = "=+-@\t\r\n＝＋－＠";

/** The text of such a file: lines of cells. */
export function csv(lines) {
  return lines.map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
}

function cell(value) {
  const text = String(value ?? "");
  const safe = text !== "" && FORMULA.includes(text[0]) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
