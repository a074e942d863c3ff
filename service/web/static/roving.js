// One stop of the tab key for many rows, after the grid pattern of the ARIA authoring practices: arrows move within.

/** Make the rows of a table's body one stop: the first, or the one that was focused last; Home and End jump. */
export function rove(body) {
  const rows = [...body.rows];
  for (const [at, row] of rows.entries()) {
    row.tabIndex = at === 0 ? 0 : -1;
    row.addEventListener("focus", () => {
      for (const other of rows) other.tabIndex = other === row ? 0 : -1;
    });
    row.addEventListener("keydown", (event) => {
      const target = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
      if (target === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
      // Otherwise the page would scroll as well.
      event.preventDefault();
      rows[Math.max(0, Math.min(target, rows.length - 1))].focus();
    });
  }
}
