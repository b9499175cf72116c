// Compare: the curves of several runs side by side, and what differs between them.

import { Curves, feed, readComparison, report } from "./api.js";
import { describeInterval, makeState, sortCards, titleOf } from "./card.js";
import { makeAxes, Panel } from "./charts.js";
import { MOST_RUNS, spanOf } from "./curves.js";
import { h, keep, measure, redo, say, section, show, table } from "./dom.js";
import { drawFold, drawFolds } from "./lines.js";
import { clean, figure, metricName, showValue, spread } from "./words.js";

const TAGS = "ABCDEF";
const choices = { axis: "epoch", smooth: 0, log: false, best: true, gap: false };

/** The view of some runs side by side. */
export function openCompare(asked) {
  const runs = (report ? report.runs.map((card) => card.run) : asked).slice(0, MOST_RUNS);
  const curves = new Curves(runs);
  const panels = new Map();
  const [chooser, updateChooser] = makeChooser(runs);
  const names = h("ul", { class: "names" });
  const [loss, metric] = ["loss", "metric"].map((kind) => h("div", { class: "multiples", "data-kind": kind }));
  const overview = h("div", { class: "pair" });
  const metricHead = h("h2");
  const [scores, settings] = [h("div"), h("div")];
  const hint =
    "Solid is validation, dashed is training; a run has a colour, a letter and a shape. Of several folds thin " +
    "lines are the folds, and the mean is over those that have ended. Drag over a chart to look closer.";
  const charts = h(
    "div",
    { class: "stack" },
    makeControls(() => redraw(true)),
    section("All folds", hint, overview),
    h("section", { class: "apart" }, h("h2", {}, "Loss, fold by fold"), loss),
    h("section", { class: "apart" }, metricHead, metric),
    section("Scores", "Of each fold when it has ended, and over folds the mean ± standard deviation.", scores),
    section("Settings that differ", "A dash: that run does not know it.", settings),
  );
  const element = h("div", { class: "compare" }, h("h1", {}, "Compare"), chooser, names, show(charts, runs.length));

  function panel(key, title, height) {
    if (!panels.has(key)) panels.set(key, new Panel(title, height, "compare"));
    say(panels.get(key).title, title);
    return panels.get(key);
  }

  function shown() {
    return runs.flatMap((run, place) => {
      const card = feed.cards.get(run);
      return card ? [{ card, tag: TAGS[place], place, curves: curves.of(run) }] : [];
    });
  }

  async function refresh(changed) {
    updateChooser();
    if (!runs.some((run) => changed.has(run))) return;
    const [, compared] = await Promise.all([curves.refresh(choices.axis), readComparison(runs)]);
    const titles = runs.map((run) => feed.cards.get(run)?.title);
    redo(settings, [compared.settings, titles], ([rows]) => listSettings(rows, nameRuns(runs)));
    redo(scores, [compared.scores, titles], ([rows]) => listScores(rows, nameRuns(runs)));
    redraw(false);
  }

  async function redraw(asked) {
    if (asked && curves.axis !== choices.axis && !report) await curves.refresh(choices.axis);
    const all = shown();
    keep(names, all, ({ card }) => card.run, makeName, ({ firstChild }, one) => updateName(firstChild, one));
    const folds = [...new Set(all.flatMap((one) => one.curves.map((curve) => curve.fold ?? 0)))].sort((a, b) => a - b);
    const metrics = [...new Set(all.map((one) => metricName(one.card.metric)))].join(" · ");
    say(metricHead, `${metrics || "Metric"}, fold by fold`);
    show(loss.parentElement, folds.length > 1);
    show(metric.parentElement, folds.length > 1);
    const whole = ["loss", "metric"].map((kind) => {
      const one = panel(kind, kind === "loss" ? "loss" : metrics, 240);
      return { one, kind, lines: all.flatMap((run) => drawFolds(run, kind, choices)) };
    });
    keep(overview, whole, ({ kind }) => kind, ({ one }) => one.element);
    for (const { one, kind, lines } of whole) one.draw(lines, optionsOf(kind, lines));
    for (const [kind, place] of [["loss", loss], ["metric", metric]]) {
      const drawn = folds.map((fold) => ({
        one: panel(`${kind} ${fold}`, `fold ${fold}`, 150),
        lines: all.flatMap((run) => drawFold(run, fold, kind, choices)),
      }));
      // Small multiples are compared by height, so they have one scale.
      const options = optionsOf(kind, drawn.flatMap(({ lines }) => lines));
      keep(place, folds.length > 1 ? drawn : [], ({ one }) => one, ({ one }) => one.element);
      for (const { one, lines } of drawn) one.draw(lines, options);
    }
  }

  function close() {
    for (const one of panels.values()) one.close();
  }

  return { title: "Compare", element, refresh, tick() {}, close };
}

function optionsOf(kind, lines) {
  const log = choices.log && kind === "loss" && !choices.gap;
  const { axis, best, gap } = choices;
  return { axis, log, best: best && !gap, zero: gap, range: spanOf(lines, log), decimals: kind === "loss" ? 3 : 4 };
}

function makeControls(changed) {
  const set = (name, value) => {
    choices[name] = value;
    changed();
  };
  const told = h("output", {}, describeWeight());
  const slider = h("input", { type: "range", min: 0, max: 0.95, step: 0.05, value: choices.smooth, "aria-label": "smoothing" });
  slider.addEventListener("input", () => {
    set("smooth", Number(slider.value));
    say(told, describeWeight());
  });
  const boxes = Object.entries({ log: "log loss", best: "best marked", gap: "gap: validation − training" });
  const toggles = boxes.map(([name, words]) => {
    const input = h("input", { type: "checkbox", checked: choices[name] });
    input.addEventListener("change", () => set(name, input.checked));
    return h("label", { class: "toggle" }, input, words);
  });
  return h(
    "div",
    { class: "controls" },
    makeAxes(choices.axis, (axis) => set("axis", axis)),
    h("label", { class: "slider" }, "smoothing", slider, told),
    ...toggles,
  );
}

const describeWeight = () => (choices.smooth ? choices.smooth.toFixed(2) : "none");

function makeChooser(runs) {
  const boxes = h("div", { class: "boxes" });
  boxes.addEventListener("change", () => {
    const picked = [...boxes.querySelectorAll(":checked")].slice(0, MOST_RUNS);
    location.hash = `#/compare?runs=${picked.map((one) => encodeURIComponent(one.value)).join(",")}`;
  });
  const make = (card) => {
    const input = h("input", { type: "checkbox", value: card.run, checked: runs.includes(card.run) });
    return h("label", { class: "toggle" }, input, h("span", {}));
  };
  const update = () =>
    keep(boxes, sortCards([...feed.cards.values()]), ({ run }) => run, make, (label, card) => {
      say(label.lastChild, `${titleOf(card)} · ${clean(card.name || card.run, 40)}`);
    });
  const words = runs.length ? "Choose other runs" : "Choose runs to compare";
  const node = h("details", { class: "chooser", open: !runs.length }, h("summary", {}, words), boxes);
  return [show(node, !report), update];
}

function nameRun(run, tag, place) {
  const card = feed.cards.get(run);
  const node = h("span", { class: "tag" }, h("b", {}, tag), h("span", {}, card ? titleOf(card) : clean(run)));
  measure(node, "--c", `var(--run${place})`);
  return node;
}

const nameRuns = (runs) => runs.map((run, place) => nameRun(run, TAGS[place], place));

const states = new WeakMap();

function makeName({ card, tag, place }) {
  const [state, setState] = makeState();
  const link = h("a", { href: `#/run/${encodeURIComponent(card.run)}` }, nameRun(card.run, tag, place), h("small"), state);
  states.set(link, setState);
  return h("li", {}, link);
}

function updateName(link, { card }) {
  say(link.children[1], clean(card.name || card.run, 40));
  states.get(link)(card);
}

function listSettings(rows, heads) {
  if (!rows.length) return h("p", {}, heads.length > 1 ? "None: all are the same." : "There is one run only.");
  const cells = rows.map(({ name, values }) => [h("code", {}, clean(name)), ...values.map(showValue)]);
  return table("Settings that differ", ["setting", ...heads], cells, "words");
}

function listScores(rows, heads) {
  const folds = Math.max(0, ...rows.map((row) => row.folds.length));
  const cells = [...Array(folds).keys()].map((fold) => [`fold ${fold}`, ...rows.map((row) => figure(row.folds[fold]))]);
  cells.push(["mean ± sd", ...rows.map((row) => spread(row.mean, row.sd))]);
  cells.push(["out of fold", ...rows.map((row) => describeResult(row.result))]);
  cells.unshift(["metric", ...rows.map((row) => metricName(row.metric))]);
  return table("Scores", ["", ...heads], cells);
}

function describeResult(result) {
  if (result?.value == null) return "–";
  return h("span", {}, figure(result.value), h("small", {}, describeInterval(result.interval)));
}
