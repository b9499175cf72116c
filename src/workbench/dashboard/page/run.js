// Run: everything about one run.

import { Curves, feed, readRun, report } from "./api.js";
import { makeAxes } from "./axes.js";
import { describeFacts, describeMissing, gather, isGoing, makeProgress } from "./card.js";
import { makeScore, makeSeen, makeState, makeText, makeTime } from "./card.js";
import { stateOf, titleOf } from "./card.js";
import { Panel } from "./charts.js";
import { findStart, MOST_RUNS, trace } from "./curves.js";
import { makeDetails } from "./details.js";
import { h, mark, say, section, show } from "./dom.js";
import { drawFold } from "./lines.js";
import { makeStop } from "./stop.js";
import { clean, metricName } from "./words.js";

const HINT = "Solid is validation, dashed is training; each fold has a colour and its number.";
const EXPORTS = { csv: "CSV", "tensorboard.zip": "TensorBoard", html: "Report to keep" };
let axis = "epoch"; // of the charts, as long as the page is open

/** The view of one run. */
export function openRun(run) {
  const curves = new Curves([run]);
  const [headline, updateHeadline] = makeHeadline(run, tick);
  const [charts, drawCharts, closeCharts] = makeFoldCharts();
  const [details, updateDetails] = makeDetails();
  const controls = h("div", { class: "controls" }, makeAxes(axis, redraw));
  const learning = section("How it learns", HINT, controls, charts);
  const unknown = h("p", { class: "empty" }, "No run of this name is known.");
  const element = h("div", {}, unknown, headline, learning, details);

  function tick() {
    const card = feed.cards.get(run);
    show(unknown, feed.read && !card);
    for (const part of [headline, learning, details]) show(part, card);
    if (card) updateHeadline(card);
  }

  async function refresh(changed) {
    tick();
    if (!changed.has(run)) return;
    const [known] = await Promise.all([readRun(run), curves.refresh(axis)]);
    drawCharts(feed.cards.get(run), curves.of(run));
    updateDetails(known);
  }

  async function redraw(chosen) {
    axis = chosen;
    await curves.refresh(axis);
    drawCharts(feed.cards.get(run), curves.of(run));
  }

  const title = () => (feed.cards.has(run) ? titleOf(feed.cards.get(run)) : clean(run));
  return { title, element, refresh, tick, close: closeCharts };
}

/** How the run stands. */
function makeHeadline(run, changed) {
  const [[state, seen, name, score, progress, time, ...rest], updatePieces] = gather(
    makeState(),
    makeSeen(),
    makeText("name", (card) => clean(card.name || card.run, 120)),
    makeScore(),
    makeProgress(),
    makeTime(),
    makeText("facts", describeStep),
    // What a run died of and what it reached stand elsewhere on this page.
    makeText("note", (card) =>
      isGoing(card) || card.state === "stopped" ? clean(card.note, 400) : "",
    ),
    makeText("missing", describeMissing),
    makeStop(changed),
  );
  const title = h("h1");
  const top = h("div", { class: "top" }, state, seen);
  const going = h("div", { class: "going" }, progress, time);
  const figures = h("div", { class: "figures" }, score, going);
  const parts = [top, title, name, figures, ...rest, show(makeExports(run), !report)];
  const node = h("section", { class: "card headline" }, ...parts);
  const update = (card) => {
    mark(node, stateOf(card));
    updatePieces(card);
    say(title, titleOf(card));
  };
  return [node, update];
}

function describeStep(card) {
  const step = isGoing(card) ? clean(card.step, 40) : "";
  return [step, describeFacts(card)].filter(Boolean).join(" · ");
}

function makeExports(run) {
  const name = encodeURIComponent(run);
  const links = Object.entries(EXPORTS).map(([end, words]) =>
    h("a", { class: "button", href: `/export/${name}.${end}`, download: true }, words),
  );
  const compare = h("a", { class: "button", href: `#/compare?runs=${name}` }, "Compare");
  return h("p", { class: "exports" }, ...links, compare);
}

/** The charts of a run: a line for each fold. */
function makeFoldCharts() {
  const make = (title) => new Panel(title, 200, "run");
  const panels = ["loss", "metric", "learning rate", "images per second"].map(make);
  const [loss, metric, rate, speed] = panels;

  function draw(card, folds) {
    say(metric.title, metricName(card.metric));
    const since = findStart(card, folds);
    const looks = folds.map((curve, n) => ({ tag: `${curve.fold ?? 0}`, place: n % MOST_RUNS }));
    const learn = (kind) =>
      folds.flatMap((curve, n) => {
        const run = { card, curves: folds, ...looks[n] };
        return drawFold(run, curve.fold ?? 0, kind, { axis, smooth: 0, gap: false });
      });
    const follow = (column) =>
      folds.map((curve, n) => {
        const { tag, place } = looks[n];
        return { ...trace(curve, column, axis, since), tag, kind: "", colour: `--run${place}` };
      });
    loss.draw(learn("loss"), { axis, best: true, decimals: 3 });
    metric.draw(learn("metric"), { axis, best: true, decimals: 4 });
    rate.draw(follow("learning_rate"), { axis, decimals: 3 });
    speed.draw(follow("images_per_second"), { axis, decimals: 3 });
  }

  const grid = h("div", { class: "multiples wider" }, ...panels.map((panel) => panel.element));
  return [grid, draw, () => panels.forEach((panel) => panel.close())];
}
