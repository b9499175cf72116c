// Charts: panels of uPlot that keep their zoom while their data grow.

import { spanOf, valueAt } from "./curves.js";
import { h, keep, measure, say, show } from "./dom.js";
import { markEnds, markPoint } from "./marks.js";
import { count, duration, figure } from "./words.js";

const HOUR = 3600;
const WHOLE = [1, 2, 5].flatMap((one) => [1, 10, 100, 1e3, 1e4, 1e5].map((power) => one * power));
const AXES = {
  epoch: { words: "epochs", name: "epoch", steps: WHOLE.sort((one, other) => one - other), write: count },
  updates: { words: "updates", name: "update", steps: WHOLE, write: (value) => (value < 1e4 ? count(value) : `${value / 1e3} k`) },
  time: {
    words: "time",
    name: "after",
    steps: [1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 24 * HOUR],
    write: (value) => (value ? duration(value) : "0"),
  },
};
const panels = new Set();
let painted = new Map();

/** A colour of the style sheet, by its name there. */
export function paint(name) {
  if (!painted.has(name)) {
    painted.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  }
  return painted.get(name);
}

matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => {
  painted = new Map();
  for (const panel of panels) panel.chart?.redraw();
});

/**
 * A chart with a title, and its values as text below: those under the cursor, or the latest.
 *
 * A line: {x, y, tag, kind, colour, dash, width, faint, best: [x, y], shape}. Lines of a tag are
 * told of together; `kind` is "" for the one that is marked, and names any other.
 */
export class Panel {
  constructor(title, height, group) {
    Object.assign(this, { height, group, lines: [], options: {}, zoom: null, style: "" });
    this.title = h("h3", {}, title);
    this.reset = h("button", { type: "button", class: "small", click: () => this.unzoom() }, "Whole range");
    this.plot = h("div", { class: "plot", tabindex: "0", role: "img", "aria-label": title });
    this.plot.addEventListener("keydown", (event) => this.step(event));
    this.none = h("p", { class: "empty" }, "No epoch has ended yet.");
    this.place = h("span", { class: "at" });
    this.values = h("span", { class: "values" });
    const told = h("p", { class: "readout" }, this.place, this.values);
    const head = h("figcaption", {}, this.title, show(this.reset, false));
    this.element = h("figure", { class: "panel" }, head, this.plot, this.none, told);
    measure(this.plot, "height", `${height}px`);
    this.watcher = new ResizeObserver(() => this.fit());
    this.watcher.observe(this.plot);
    panels.add(this);
  }

  /** Draws lines; options: axis, log, zero (a line at 0), range (of y), best (marks it), decimals. */
  draw(lines, options) {
    lines = lines.filter((line) => line.y.some((value) => value !== null));
    if (options.axis !== this.options.axis) this.zoom = null;
    Object.assign(this, { lines, options });
    show(this.plot, lines.length);
    show(this.none, !lines.length);
    const looks = lines.map(({ colour, dash, width, faint, x }) => [colour, dash, width, faint, x.length < 2]);
    const style = JSON.stringify([options.axis, options.log, looks]);
    if (!lines.length || !this.plot.clientWidth) this.destroyChart();
    else if (this.chart && style === this.style) this.update();
    else this.build();
    this.style = style;
    this.tell();
  }

  build() {
    this.destroyChart();
    const size = { width: this.plot.clientWidth, height: this.height };
    this.chart = new uPlot({ ...size, ...this.describe() }, this.join(), this.plot);
    if (this.zoom) this.chart.setScale("x", this.zoom);
    // A finger that moves across reads values; one that moves along the page scrolls it.
    this.chart.over.addEventListener("pointermove", (event) => {
      if (event.pointerType !== "touch") return;
      const at = { clientX: event.clientX, clientY: event.clientY };
      this.chart.over.dispatchEvent(new MouseEvent("mousemove", at));
    });
  }

  update() {
    const { zoom } = this;
    this.chart.setData(this.join(), !zoom);
    if (zoom) this.chart.setScale("x", zoom);
  }

  join() {
    return uPlot.join(this.lines.map((line) => [line.x, line.y]));
  }

  describe() {
    const { axis, log } = this.options;
    const font = `12px ${getComputedStyle(document.body).fontFamily}`;
    const lines = { grid: { stroke: () => paint("--line"), width: 1 }, ticks: { show: false } };
    const look = { stroke: () => paint("--soft"), font, ...lines };
    const y = { distr: log ? 3 : 1, range: (_, low, high) => this.rangeY(low, high) };
    return {
      scales: { x: { time: false, range: (_, low, high) => (low === high ? [low - 1, high + 1] : [low, high]) }, y },
      series: [{}, ...this.lines.map((line) => this.describeLine(line))],
      axes: [
        { ...look, size: 26, gap: 5, space: 56, incrs: AXES[axis].steps, values: (_, at) => at.map(AXES[axis].write) },
        { ...look, size: widthOf, gap: 6, space: 28, values: (_, at) => nameTicks(at) },
      ],
      legend: { show: false },
      padding: [10, 22, 0, 0],
      cursor: { y: false, points: { size: 7 }, drag: { x: true, y: false, dist: 6 }, sync: { key: this.group, scales: ["x", null] } },
      hooks: {
        setScale: [(chart, key) => key === "x" && this.noteZoom(chart)],
        setCursor: [() => this.tell()],
        drawAxes: [(chart) => this.options.zero && drawZero(chart)],
        draw: [(chart) => this.drawMarks(chart)],
      },
    };
  }

  describeLine({ colour, dash, width, faint, x }) {
    const stroke = () => paint(colour);
    return { stroke, width: width ?? 2, dash, alpha: faint ? 0.32 : 1, points: { show: x.length < 2, size: 7, fill: stroke } };
  }

  rangeY(low, high) {
    if (this.options.range && !this.zoom) return this.options.range;
    return low === null ? [0, 1] : spanOf([{ y: [low, high] }], this.options.log);
  }

  drawMarks(chart) {
    const main = this.lines.filter((line) => !line.kind && !line.faint);
    if (this.options.best) {
      for (const { best, colour, shape } of main.filter((line) => line.best)) {
        markPoint(chart, ...best, paint(colour), paint("--card"), shape);
      }
    }
    markEnds(chart, main.filter((line) => line.tag), paint);
  }

  noteZoom(chart) {
    const { min, max } = chart.scales.x;
    const x = chart.data[0];
    const whole = x.length < 2 || (min <= x[0] && max >= x.at(-1));
    this.zoom = whole ? null : { min, max };
    show(this.reset, this.zoom);
  }

  unzoom() {
    const x = this.chart.data[0];
    for (const one of uPlot.sync(this.group).plots) one.setScale("x", { min: x[0], max: x.at(-1) });
  }

  /** Arrow keys move the cursor from epoch to epoch. */
  step(event) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!this.chart || !way) return;
    event.preventDefault();
    const x = this.chart.data[0];
    const from = this.chart.cursor.left < 0 ? x.length - 1 - way : this.chart.cursor.idx;
    const place = x[Math.min(x.length - 1, Math.max(0, from + way))];
    this.chart.setCursor({ left: this.chart.valToPos(place, "x"), top: 1 });
  }

  /** The values at the cursor as text, or the latest ones. */
  tell() {
    const { chart, lines, options } = this;
    const idx = chart && chart.cursor.left >= 0 ? chart.cursor.idx : null;
    const place = idx == null ? Infinity : chart.data[0][idx];
    const { name, write } = AXES[options.axis];
    say(this.place, lines.length ? (idx == null ? "latest" : `${name} ${write(place)}`) : "");
    const shown = lines.filter((line) => !line.faint);
    const tags = [...new Set(shown.map((line) => line.tag))];
    keep(this.values, tags, String, makeValue, (node, tag) => {
      const own = shown.filter((line) => line.tag === tag);
      measure(node, "--c", `var(${own[0].colour})`);
      const [main, ...others] = own.map((line) => figure(valueAt(line, place), options.decimals));
      say(node.children[0], tag);
      say(node.children[1], main);
      say(node.children[2], others.map((value, n) => `${own[n + 1].kind} ${value}`).join(" "));
    });
  }

  fit() {
    const width = this.plot.clientWidth;
    if (!width || !this.lines.length) return;
    if (!this.chart) this.draw(this.lines, this.options);
    else if (width !== this.chart.width) this.chart.setSize({ width, height: this.height });
  }

  destroyChart() {
    this.chart?.destroy();
    this.chart = null;
  }

  close() {
    this.watcher.disconnect();
    panels.delete(this);
    this.destroyChart();
  }
}

/** A choice of what the charts are drawn over. */
export function makeAxes(chosen, choose) {
  const labels = Object.entries(AXES).map(([value, { words }]) => {
    const input = h("input", { type: "radio", name: "axis", value, checked: chosen === value });
    input.addEventListener("change", () => choose(value));
    return h("label", {}, input, h("span", {}, words));
  });
  return h("fieldset", { class: "segments" }, h("legend", {}, "over"), ...labels);
}

const makeValue = () => h("span", { class: "value" }, h("b"), h("span"), h("small"));

/** The room that the y axis takes, in px, by its longest tick. */
function widthOf(_, ticks) {
  return 14 + 7 * Math.max(2, ...(ticks ?? []).map((one) => one.length));
}

/** Ticks with as many decimals as tell them apart. */
function nameTicks(ticks) {
  const values = ticks.filter((one) => one !== null);
  const apart = values.length > 1 ? Math.min(...values.slice(1).map((one, n) => one - values[n])) : 1;
  const decimals = Math.min(6, Math.max(0, Math.ceil(-Math.log10(apart) - 1e-9)));
  return ticks.map((one) => (one === null ? "" : nameTick(one, decimals)));
}

function nameTick(value, decimals) {
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e5)) return value.toExponential(0).replace("-", "−");
  return value.toFixed(decimals).replace("-", "−");
}

function drawZero(chart) {
  const { ctx, bbox } = chart;
  const y = Math.round(chart.valToPos(0, "y", true));
  if (y < bbox.top || y > bbox.top + bbox.height) return;
  ctx.save();
  ctx.strokeStyle = paint("--soft");
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}
