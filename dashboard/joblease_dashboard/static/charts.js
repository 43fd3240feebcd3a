// The overview's charts: /api/stats drawn with uPlot, drawn anew every few seconds and for another window.

const REFRESH_MS = 10_000;
const section = document.getElementById("charts");
const charts = {};

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Told apart by dashes and width as well, not by hue alone.
function series(label, name, dash) {
  return { label, stroke: colour(name), width: dash ? 1.5 : 2.5, dash, points: { show: true, size: 5, width: 1 } };
}

const LINES = {
  ended: [["completed", "--good"], ["failed", "--bad", [6, 4]], ["cancelled", "--quiet", [2, 3]]],
  waited: [["waitedP50", "--busy"], ["waitedP95", "--wait", [6, 4]]],
  ran: [["ranP50", "--busy"], ["ranP95", "--wait", [6, 4]]],
};
const LABELS = { waitedP50: "median", waitedP95: "p95", ranP50: "median", ranP95: "p95" };

function draw(name, columns) {
  const target = document.getElementById(`chart-${name}`);
  const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line") }, ticks: { stroke: colour("--line") } };
  const width = Math.max(200, target.clientWidth);
  if (charts[name]) charts[name].destroy();
  charts[name] = new uPlot({
    width, height: 170, legend: { live: false }, cursor: { drag: { x: false, y: false } },
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
    axes: [axis, { ...axis, size: 55 }],
    series: [{}, ...LINES[name].map(([key, stroke, dash]) => series(LABELS[key] ?? key, stroke, dash))],
  }, columns, target);
}

function table(points) {
  const rows = points.filter((each) => each.completed + each.failed + each.cancelled).reverse().map((each) => {
    const row = document.createElement("tr");
    const cells = [new Date(each.time).toLocaleString(), each.completed, each.failed, each.cancelled,
      ...["waitedP50", "waitedP95", "ranP50", "ranP95"].map((key) => each[key] === null ? "" : each[key].toFixed(2))];
    for (const text of cells) row.appendChild(document.createElement("td")).textContent = text;
    return row;
  });
  document.querySelector("#numbers tbody").replaceChildren(...rows);
}

async function refresh() {
  const window_ = section.querySelector("input[name=window]:checked").value;
  let stats;
  try {
    const answer = await fetch(`/api/stats?window=${window_}`);
    if (!answer.ok) return;
    stats = await answer.json();
  } catch {
    return; // the lamp tells
  }
  const times = stats.points.map((each) => Date.parse(each.time) / 1000);
  const minutes = times.length > 1 ? (times[1] - times[0]) / 60 : 1;
  for (const [name, lines] of Object.entries(LINES)) {
    const scale = name === "ended" ? minutes : 1;
    draw(name, [times, ...lines.map(([key]) => stats.points.map((each) => each[key] === null ? null : each[key] / scale))]);
  }
  table(stats.points);
  const rate = stats.successRate === null ? "" : `, ${(stats.successRate * 100).toFixed(1)} % of them successfully`;
  const text = stats.ended ? `${stats.ended} jobs ended in the last ${window_}${rate}` : `No job ended in the last ${window_}`;
  const totals = document.getElementById("totals");
  if (totals.textContent !== text) totals.textContent = text;
}

if (section && window.uPlot) {
  section.addEventListener("change", refresh);
  addEventListener("resize", refresh);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  setInterval(refresh, REFRESH_MS);
  refresh();
}
