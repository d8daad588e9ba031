"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (id) => document.getElementById(id);
const option = (value, text = value) => { const o = document.createElement("option"); o.value = value; o.textContent = text; return o; };
const distinct = (values) => [...new Set(values)];

// the table: sort by a column, filter by words and by value
const body = one("table").tBodies[0], rows = [...body.rows];
const filters = all("select[data-filter]");
for (const filter of filters) {
  const values = distinct(rows.map((row) => row.dataset[filter.dataset.filter])).sort();
  filter.replaceChildren(option("", "all"), ...values.map((value) => option(value)));
  filter.addEventListener("change", filterRows);
}
one("search").addEventListener("input", filterRows);
function filterRows() {
  const words = one("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word)) || filters.some((f) => f.value && row.dataset[f.dataset.filter] !== f.value);
    shown += !row.hidden;
  }
  one("count").textContent = `${shown} of ${rows.length} rows`;
}
filterRows();
function sortBy(button) {
  const head = button.closest("th"), column = head.cellIndex, number = button.dataset.kind === "number";
  const up = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") !== "ascending" : !number;
  for (const other of all("th", head.parentElement)) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => { const cell = row.cells[column], text = cell.dataset.sort ?? cell.textContent; return number ? parseFloat(text) : text.toLowerCase(); };
  const empty = (value) => number && Number.isNaN(value);
  rows.sort((a, b) => {
    const x = key(a), y = key(b);
    if (empty(x) || empty(y)) return empty(x) - empty(y);  // what is missing stays below, whichever way
    return (x < y ? -1 : x > y ? 1 : 0) * (up ? 1 : -1);
  });
  body.append(...rows);
}
for (const button of all("#table th button")) button.addEventListener("click", () => sortBy(button));
