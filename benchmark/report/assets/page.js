"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (id) => document.getElementById(id);
const option = (value, text = value) => { const o = document.createElement("option"); o.value = value; o.textContent = text; return o; };
const distinct = (values) => [...new Set(values)];

// the first chart: one figure per data and protocol, one of them shown
const charts = all("figure.pareto");
function showChart() {
  const view = one("view").value, protocol = one("protocol").value;
  for (const chart of charts) chart.hidden = chart.dataset.view !== view || chart.dataset.protocol !== protocol;
  const shown = charts.find((chart) => !chart.hidden);
  if (shown) one("sentence").textContent = shown.dataset.sentence;
}
function fillProtocols() {
  const view = one("view").value, before = one("protocol").value;
  const names = charts.filter((chart) => chart.dataset.view === view).map((chart) => chart.dataset.protocol);
  one("protocol").replaceChildren(...names.map((name) => option(name)));
  if (names.includes(before)) one("protocol").value = before;
  showChart();
}
one("view").addEventListener("change", fillProtocols);
one("protocol").addEventListener("change", showChart);
fillProtocols();

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

// what is shown by one choice: heatmaps of a place, images of a method
function chooser(id, figures, key, everything) {
  const select = one(id);
  if (!select) return;
  select.replaceChildren(...(everything ? [option("", "all")] : []), ...distinct(figures.map((f) => f.dataset[key])).map((value) => option(value)));
  const show = () => { for (const figure of figures) figure.hidden = select.value !== "" && figure.dataset[key] !== select.value; };
  select.addEventListener("change", show);
  show();
}
chooser("heat", all("figure.heat"), "place", false);
chooser("strip", all("figure.strip"), "method", true);

// an image enlarged, with the nearest real one beside it; arrow keys go on
const tiles = all(".tile"), zoom = one("zoom");
let current = 0;
function enlarge(index) {
  const open = tiles.filter((tile) => !tile.closest("[hidden]"));
  current = (index + open.length) % open.length;
  const tile = open[current], image = tile.querySelector("img");
  one("zoom-image").src = image.src;
  one("zoom-real").hidden = !image.dataset.nearest;
  if (image.dataset.nearest) one("zoom-nearest").src = image.dataset.nearest;
  one("zoom-h").textContent = tile.getAttribute("aria-label").replace("Enlarge ", "");
  if (!zoom.open) zoom.showModal();
}
for (const tile of tiles) tile.addEventListener("click", () => enlarge(tiles.filter((t) => !t.closest("[hidden]")).indexOf(tile)));
one("zoom-next").addEventListener("click", () => enlarge(current + 1));
one("zoom-back").addEventListener("click", () => enlarge(current - 1));
one("zoom-close").addEventListener("click", () => zoom.close());
zoom.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") enlarge(current + 1);
  if (event.key === "ArrowLeft") enlarge(current - 1);
});
