// Every column of a table becomes sortable: up, down, and back to the order that the page came in.
// Rows stay below the name of their slice. Without this script the page is complete.
"use strict";

/** Returns the header cell above every column. */
function columnsOf(table) {
  const grid = [];
  [...table.tHead.rows].forEach((row, top) => {
    let left = 0;
    for (const cell of row.cells) {
      grid[top] ??= [];
      while (grid[top][left]) left += 1;
      for (let y = top; y < top + cell.rowSpan; y += 1) {
        grid[y] ??= [];
        for (let x = left; x < left + cell.colSpan; x += 1) grid[y][x] = cell;
      }
    }
  });
  return grid.at(-1);
}

/** Returns what a row is sorted by: a number where the cell begins with one; null if it is empty. */
function keyOf(row, column) {
  const cell = row.cells[column];
  if (!cell || cell.classList.contains("none")) return null;
  const text = cell.textContent.trim();
  if (!cell.classList.contains("num")) return text;
  const number = parseFloat(text.replace("−", "-").replaceAll(",", ""));
  return Number.isNaN(number) ? null : number;
}

function compare(one, other, direction) {
  if (one === null || other === null) return (one === null) - (other === null);
  const order =
    typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true });
  return direction * order;
}

function sort(body, column, direction) {
  body.original ??= [...body.rows];
  const rows = [...body.original];
  if (direction) {
    const keys = new Map(rows.map((row) => [row, keyOf(row, column)]));
    const fixed = rows.filter((row) => row.classList.contains("heading")).length;
    const sorted = rows.slice(fixed);
    sorted.sort((one, other) => compare(keys.get(one), keys.get(other), direction));
    rows.splice(fixed, sorted.length, ...sorted);
  }
  body.append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headers = columnsOf(table);
  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: null }[header.ariaSort];
      const state = header.ariaSort && next === null ? null : (next ?? "ascending");
      for (const other of headers) other.removeAttribute("aria-sort");
      if (state) header.setAttribute("aria-sort", state);
      const direction = { ascending: 1, descending: -1 }[state] ?? 0;
      for (const body of table.tBodies) sort(body, column, direction);
    });
  });
}
