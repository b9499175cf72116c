// Compare: the curves of several runs side by side, and what differs between them.

import { Curves, feed, readComparison, report } from "./api.js";
import { makeState } from "./card.js";
import { Panel } from "./charts.js";
import { choices, makeChooser, makeControls } from "./choices.js";
import { MOST_RUNS, spanOf, spanOfAxis } from "./curves.js";
import { listScores, listSettings, nameRun, TAGS } from "./differences.js";
import { h, keep, redo, say, section, show } from "./dom.js";
import { drawFold, drawFolds } from "./lines.js";
import { clean, metricName } from "./words.js";

const KINDS = ["loss", "metric"];
const HINTS = {
  charts:
    "Solid is validation, dashed is training; a run has a colour, a letter and a shape. " +
    "Of several folds thin lines are the folds, and the mean is over those that have ended. " +
    "Drag over a chart to look closer.",
  scores: "Of each fold when it has ended, and over folds the mean ± standard deviation.",
  settings: "A dash: that run does not know it.",
};

/** The view of some runs side by side. */
export function openCompare(asked) {
  const runs = (report ? report.runs.map(({ run }) => run) : asked).slice(0, MOST_RUNS);
  const curves = new Curves(runs);
  const [chooser, updateChooser] = makeChooser(runs);
  const [names, updateNames] = makeNames();
  const [charts, drawCharts, closeCharts] = makeCharts();
  const [scores, settings] = [h("div"), h("div")];
  const body = h(
    "div",
    { class: "stack" },
    names,
    makeControls(redraw),
    charts,
    section("Scores", HINTS.scores, scores),
    section("Settings that differ", HINTS.settings, settings),
  );
  const element = h("div", {}, h("h1", {}, "Compare"), chooser, show(body, runs.length));
  const listKnown = () => runs.filter((run) => feed.cards.has(run));

  async function refresh(changed) {
    updateChooser();
    const known = listKnown();
    if (!known.some((run) => changed.has(run))) return;
    const [compared] = await Promise.all([readComparison(known), curves.refresh(choices.axis)]);
    const titles = known.map((run) => feed.cards.get(run).title);
    redo(scores, [compared.scores, titles], ([rows]) => listScores(rows, known));
    redo(settings, [compared.settings, titles], ([rows]) => listSettings(rows, known));
    draw();
  }

  async function redraw() {
    if (curves.axis !== choices.axis) await curves.refresh(choices.axis);
    draw();
  }

  function draw() {
    const drawn = listKnown().map((run, place) => {
      const card = feed.cards.get(run);
      return { card, tag: TAGS[place], place, curves: curves.of(run) };
    });
    updateNames(drawn);
    drawCharts(drawn);
  }

  return { title: "Compare", element, refresh, tick() {}, close: closeCharts };
}

/** The runs by their tags, with their states. */
function makeNames() {
  const list = h("ul", { class: "names" });
  const updates = new Map();
  const make = ({ card, place }) => {
    const [state, setState] = makeState();
    const name = h("small");
    const href = `#/run/${encodeURIComponent(card.run)}`;
    updates.set(card.run, (latest) => {
      setState(latest);
      say(name, clean(latest.name || latest.run, 40));
    });
    return h("li", {}, h("a", { href }, nameRun(card.run, place), name, state));
  };
  const update = (drawn) =>
    keep(
      list,
      drawn,
      ({ card }) => card.run,
      make,
      (_, { card }) => updates.get(card.run)(card),
    );
  return [list, update];
}

/** Panels of loss and metric: over all folds, and for each fold of several. */
function makeCharts() {
  const panels = new Map();
  const overview = h("div", { class: "pair" });
  const multiples = KINDS.map((kind) => {
    const [title, grid] = [h("h2"), h("div", { class: "multiples" })];
    return { kind, title, grid, node: h("section", {}, title, grid) };
  });
  const parts = [
    section("All folds", HINTS.charts, overview),
    ...multiples.map(({ node }) => node),
  ];

  /** Draws panels into a place; {key, title, kind, lines} describes each. */
  function place(parent, height, described, optionsOf) {
    keep(
      parent,
      described,
      ({ key }) => key,
      ({ key, title }) => {
        panels.set(key, new Panel(title, height, "compare"));
        return panels.get(key).element;
      },
    );
    for (const one of described) {
      const panel = panels.get(one.key);
      say(panel.title, one.title);
      panel.draw(one.lines, optionsOf(one));
    }
  }

  function draw(drawn) {
    const metrics = [...new Set(drawn.map(({ card }) => metricName(card.metric)))].join(" · ");
    const titles = { loss: "loss", metric: metrics };
    const whole = KINDS.map((kind) => {
      const lines = drawn.flatMap((run) => drawFolds(run, kind, choices));
      return { key: kind, title: titles[kind], kind, lines };
    });
    place(overview, 240, whole, ({ kind, lines }) => chooseOptions(kind, lines));
    const folds = listFolds(drawn);
    for (const { kind, title, grid, node } of multiples) {
      show(node, folds.length > 1);
      say(title, `Fold by fold: ${titles[kind]}`);
      const each = (folds.length > 1 ? folds : []).map((fold) => {
        const lines = drawn.flatMap((run) => drawFold(run, fold, kind, choices));
        return { key: `${kind} ${fold}`, title: `fold ${fold}`, kind, lines };
      });
      // Small multiples are compared with one another, so they have the same scales.
      const options = chooseOptions(
        kind,
        each.flatMap(({ lines }) => lines),
      );
      place(grid, 150, each, () => options);
    }
  }

  const close = () => panels.forEach((panel) => panel.close());
  return [h("div", { class: "stack" }, ...parts), draw, close];
}

function listFolds(drawn) {
  const folds = drawn.flatMap(({ curves }) => curves.map((curve) => curve.fold ?? 0));
  return [...new Set(folds)].sort((one, other) => one - other);
}

function chooseOptions(kind, lines) {
  const { axis, best, gap } = choices;
  const log = choices.log && kind === "loss" && !gap;
  const range = spanOf(gap ? [...lines, { y: [0] }] : lines, log);
  const decimals = kind === "loss" ? 3 : 4;
  return { axis, log, best: best && !gap, zero: gap, range, span: spanOfAxis(lines), decimals };
}
