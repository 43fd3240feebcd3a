// <time-chart>: what its data-chart says, drawn with uPlot, and drawn anew whenever that changes. It draws inside of a
// shadow, so that fresh content from the server leaves the drawing alone.

const STYLES = document.getElementById("charts-script").dataset.styles;
const HEIGHT = 150;
// Colour and dashes: told apart without hue.
const LOOKS = { good: [], main: [], bad: [7, 4], high: [7, 4], quiet: [2, 3] };
const COLOURS = { good: "--good", main: "--accent", bad: "--bad", high: "--wait", quiet: "--quiet" };
const LENGTHS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800,
  3600, 7200, 14400, 21600, 43200, 86400, 172800];
const hour = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const both = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function digits(value) {
  return String(Number(value.toPrecision(3)));
}

function text(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit !== "s") return unit === "%" ? `${digits(value)} %` : `${digits(value)}${unit}`;
  return value < 120 ? `${digits(value)} s` : value < 7200 ? `${digits(value / 60)} min` : `${digits(value / 3600)} h`;
}

function alone(values) {
  return values.flatMap((value, at) => value !== null && values[at - 1] == null && values[at + 1] == null ? [at] : []);
}

class TimeChart extends HTMLElement {
  static observedAttributes = ["data-chart"];

  connectedCallback() {
    if (this.shadowRoot) return;
    const shadow = this.attachShadow({ mode: "open" });
    const styles = document.createElement("link");
    styles.rel = "stylesheet";
    styles.href = STYLES;
    this.keys = document.createElement("div");
    this.keys.part = "keys";
    this.place = document.createElement("div");
    shadow.append(styles, this.keys, this.place);
    this.draw();
    new ResizeObserver(() => this.plot.setSize({ width: this.clientWidth, height: HEIGHT })).observe(this);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  attributeChangedCallback() {
    if (!this.shadowRoot) return;
    const before = this.chart;
    this.read();
    if (before.lines.length === this.chart.lines.length && before.step === this.chart.step) this.plot.setData(this.columns);
    else this.draw();
    this.explain(null);
  }

  read() {
    this.chart = JSON.parse(this.dataset.chart);
    const { start, step, lines } = this.chart;
    this.columns = [lines[0].values.map((_, at) => start + at * step), ...lines.map((line) => line.values)];
  }

  colour(look) {
    return getComputedStyle(this).getPropertyValue(COLOURS[look]).trim();
  }

  draw() {
    this.read();
    this.plot?.destroy();
    const { unit, lines } = this.chart;
    const line = getComputedStyle(this).getPropertyValue("--line").trim();
    const axis = {
      stroke: this.colour("quiet"), grid: { stroke: line, width: 1 }, ticks: { show: false },
      font: "12px system-ui, sans-serif", gap: 6,
    };
    this.plot = new uPlot({
      width: Math.max(160, this.clientWidth), height: HEIGHT, padding: [8, 26, 0, 0],
      legend: { show: false }, cursor: { drag: { x: false, y: false }, sync: { key: "charts" }, y: false },
      scales: { y: { range: unit === "%" ? [0, 100] : (_, __, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [
        { ...axis, size: 26, space: 60, values: (_, at, __, ___, gap) => at.map((each) => (gap >= 86400 ? day : hour).format(each * 1000)) },
        { ...axis, size: 52, space: 32, incrs: unit === "s" ? LENGTHS : undefined, values: (_, at) => at.map((each) => text(each, unit === "/min" ? "" : unit)) },
      ],
      series: [{}, ...lines.map(({ look }, at) => ({
        stroke: this.colour(look), width: LOOKS[look].length ? 1.5 : 2, dash: LOOKS[look],
        fill: at === 0 ? `color-mix(in srgb, ${this.colour(look)} 14%, transparent)` : undefined,
        spanGaps: unit !== "/min", // where no job ended, the line goes on to where one did
        points: { show: true, size: 5, filter: (_, number) => alone(this.columns[number]) },
      }))],
      hooks: { setCursor: [(plot) => this.explain(plot.cursor.idx)] },
    }, this.columns, this.place);
    this.explain(null);
  }

  // The lines' names and values: where the pointer is, else of the whole.
  explain(at) {
    const pointed = at !== null && at !== undefined;
    const { unit, about, lines } = this.chart;
    const parts = lines.map(({ name, look, values, whole }) => {
      const key = document.createElement("span"), value = document.createElement("b");
      key.part = `key ${look}`;
      value.textContent = pointed ? text(values[at], unit) : whole;
      key.append(`${name} `, value);
      return key;
    });
    const when = document.createElement("span");
    when.part = "when";
    when.textContent = pointed ? both.format(this.columns[0][at] * 1000) : about;
    this.keys.replaceChildren(...parts, when);
  }
}

customElements.define("time-chart", TimeChart);
