// Charts: panels of uPlot that keep their zoom while their data grow.

import { AXES, describeAxes } from "./axes.js";
import { onRepaint, paint } from "./colours.js";
import { spanOf, valueAt } from "./curves.js";
import { h, keep, measure, say, show } from "./dom.js";
import { drawZero, markEnds, markPoint } from "./marks.js";
import { figure } from "./words.js";

const panels = new Set();
onRepaint(() => panels.forEach((panel) => panel.chart?.redraw()));

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
    this.reset = h(
      "button",
      { type: "button", class: "small", click: () => this.unzoom() },
      "Whole range",
    );
    this.plot = h("div", { class: "plot", tabindex: "0", role: "img", "aria-label": title });
    this.plot.addEventListener("keydown", (event) => this.step(event));
    this.none = h("p", { class: "empty" }, "Nothing to draw yet.");
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

  /**
   * Draws lines; options: axis, log, zero (draws 0), range (of y), span (of x), best (marks it),
   * decimals (of the values below).
   */
  draw(lines, options) {
    lines = lines.filter((line) => line.y.some((value) => value !== null));
    if (lines.length && !globalThis.uPlot) {
      say(this.none, "The chart library is missing; the terminal says why.");
      lines = [];
    }
    if (options.axis !== this.options.axis) this.zoom = null;
    Object.assign(this, { lines, options });
    show(this.plot, lines.length);
    show(this.none, !lines.length);
    const looks = lines.map(({ colour, dash, width, faint, x }) => [
      colour,
      dash,
      width,
      faint,
      x.length < 2,
    ]);
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
      if (event.pointerType === "touch") this.point(event.clientX);
    });
  }

  /** Puts the cursor there, in this chart and in those of its group. */
  point(clientX) {
    const clientY = this.chart.over.getBoundingClientRect().top + 1;
    this.chart.over.dispatchEvent(new MouseEvent("mousemove", { clientX, clientY }));
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
    const y = { distr: log ? 3 : 1, range: (_, low, high) => this.rangeY(low, high) };
    return {
      scales: {
        x: { time: false, range: (chart, low, high) => this.rangeX(chart.data[0], low, high) },
        y,
      },
      series: [{}, ...this.lines.map((line) => this.describeLine(line))],
      axes: describeAxes(axis),
      legend: { show: false },
      padding: [10, 22, 0, 0],
      cursor: {
        y: false,
        points: { size: 7 },
        drag: { x: true, y: false, dist: 6 },
        sync: { key: this.group, scales: ["x", null] },
      },
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
    return {
      stroke,
      width: width ?? 2,
      dash,
      alpha: faint ? 0.32 : 1,
      points: { show: x.length < 2, size: 7, fill: stroke },
    };
  }

  /** The whole range unless a part of it is asked for. */
  rangeX(x, low, high) {
    return low <= x[0] && high >= x.at(-1) ? this.findWhole(x) : [low, high];
  }

  findWhole(x) {
    if (this.options.span) return this.options.span;
    return x.length < 2 ? [x[0] - 1, x[0] + 1] : [x[0], x.at(-1)];
  }

  rangeY(low, high) {
    if (this.options.range && !this.zoom) return this.options.range;
    return low === null ? [0, 1] : spanOf([{ y: [low, high] }], this.options.log);
  }

  drawMarks(chart) {
    const main = this.lines.filter((line) => !line.kind && !line.faint);
    if (this.options.best) {
      for (const { best, colour, shape } of main.filter((line) => line.best)) {
        markPoint(chart, best, colour, shape);
      }
    }
    markEnds(chart, main);
  }

  noteZoom(chart) {
    const { min, max } = chart.scales.x;
    const [first, last] = this.findWhole(chart.data[0]);
    this.zoom = min <= first && max >= last ? null : { min, max };
    show(this.reset, this.zoom);
  }

  unzoom() {
    for (const one of uPlot.sync(this.group).plots)
      one.setScale("x", { min: one.data[0][0], max: one.data[0].at(-1) });
  }

  /** Arrow keys move the cursor from epoch to epoch. */
  step(event) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!this.chart || !way) return;
    event.preventDefault();
    const x = this.chart.data[0];
    const from = this.chart.cursor.left < 0 ? x.length - 1 - way : this.chart.cursor.idx;
    const place = x[Math.min(x.length - 1, Math.max(0, from + way))];
    this.point(this.chart.over.getBoundingClientRect().left + this.chart.valToPos(place, "x"));
  }

  /** The values at the cursor as text, or the latest ones. */
  tell() {
    const { lines, options } = this;
    const place = this.findCursor();
    const { name, write } = AXES[options.axis];
    say(
      this.place,
      lines.length ? (place === Infinity ? "latest" : `${name} ${write(place)}`) : "",
    );
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

  /** The place of the cursor on the axis, at a point if there is one; Infinity without a cursor. */
  findCursor() {
    const { chart } = this;
    if (!chart || !(chart.cursor.left >= 0) || chart.cursor.idx == null) return Infinity;
    const last = chart.data[0].at(-1);
    const place = chart.posToVal(chart.cursor.left, "x");
    return place > last ? Math.max(last, Math.round(place)) : chart.data[0][chart.cursor.idx];
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

const makeValue = () => h("span", { class: "value" }, h("b"), h("span"), h("small"));
