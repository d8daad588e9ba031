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
