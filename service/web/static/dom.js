// Small pieces for making elements and saying numbers; every text goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** Return a new element with attributes (null and false are left out) and children (nodes or texts). */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== null && value !== false && value !== undefined) made.setAttribute(name, String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Return a button that calls `onPress`. */
export const button = (text, onPress, attributes = {}) =>
  element("button", { type: "button", class: "plain", click: onPress, ...attributes }, text);

/** Hide one control and show another in its stead; the keyboard's focus goes along. */
export function exchange(gone, come) {
  const hadFocus = document.activeElement === gone;
  come.hidden = false;
  gone.hidden = true;
  if (hadFocus) come.focus();
}

/** Return a small square in a colour; set by script, for the content policy forbids style attributes. */
export function swatch(colour) {
  const made = element("span", { class: "swatch", "aria-hidden": "true" });
  made.style.backgroundColor = colour;
  return made;
}

/** Replace the rows of a table's body; a cell is a text, a number (set right) or a node. */
export function fillBody(table, rows) {
  const body = table.tBodies[0];
  body.replaceChildren(
    ...rows.map(({ cells, attributes = {} }) => element("tr", attributes, ...cells.map((cell) =>
      (typeof cell === "number" ? element("td", { class: "number" }, String(cell)) : element("td", {}, cell))))),
  );
}

/** Replace the only row of a table's head; columns from `numbersFrom` on hold numbers and are set right. */
export function fillHead(table, names, numbersFrom = names.length) {
  table.tHead.replaceChildren(element("tr", {}, ...names.map((name, at) =>
    element("th", { scope: "col", class: at >= numbersFrom ? "number" : null }, name))));
}

/** Replace the pairs of a description list; pairs whose value is null are left out. */
export function fillFacts(list, pairs) {
  list.replaceChildren(
    ...pairs.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, String(value)))),
  );
}

/** Replace the options of a select and keep its value where it is still offered. */
export function fillSelect(select, entries, chosen) {
  const before = entries.some(([value]) => value === select.value) ? select.value : chosen;
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value }, text)));
  if (before !== undefined) select.value = before;
}

/** Offer a blob for download under a name. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = element("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  // The download starts after this turn; the address must live until then.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Return a size in bytes for people. */
export function bytesText(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  let value = bytes;
  while (value >= 1000 && place < units.length - 1) {
    value /= 1000;
    place += 1;
  }
  return `${value >= 100 || place === 0 ? Math.round(value) : value.toFixed(1)} ${units[place]}`;
}

/** Return a duration in seconds for people. */
export function durationText(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.round((seconds % 86_400) / 3600)} h`;
}

/** Return milliseconds for people, or a dash where there are none yet. */
export function millisecondsText(value) {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** Return "1 box" or "3 boxes". */
export const countText = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** Return when something happened: the time if today, else date and time. Takes ISO text or seconds since 1970. */
export function momentText(moment) {
  const when = new Date(typeof moment === "number" ? moment * 1000 : moment);
  if (Number.isNaN(when.getTime())) return "–";
  const time = when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return when.toDateString() === new Date().toDateString() ? time : `${when.toLocaleDateString()} ${time}`;
}
