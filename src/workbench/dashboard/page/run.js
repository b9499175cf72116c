// Run: everything about one run.

import { Curves, feed, readRun, report } from "./api.js";
import { makeAxes } from "./axes.js";
import { describeFacts, describeMissing, isGoing, makeProgress } from "./card.js";
import { makeScore, makeSeen, makeState, makeTime, titleOf } from "./card.js";
import { Panel } from "./charts.js";
import { MOST_RUNS, trace } from "./curves.js";
import { makeDetails } from "./details.js";
import { h, say, section, show } from "./dom.js";
import { drawFold } from "./lines.js";
import { makeStop } from "./stop.js";
import { clean, metricName } from "./words.js";

let axis = "epoch";

/** The view of one run. */
export function openRun(run) {
  const curves = new Curves([run]);
  const makers = [makeState, makeSeen, makeScore, makeProgress, makeTime, makeStop];
  const pieces = makers.map((make) => make(stopAsked));
  const [state, seen, score, progress, time, stopping] = pieces.map(([node]) => node);
  const [title, name, facts] = [h("h1"), h("p", { class: "name" }), h("p", { class: "facts" })];
  const [note, missing] = [h("p", { class: "note" }), h("p", { class: "missing" })];
  const panels = ["loss", "metric", "learning rate", "images per second"].map(
    (one) => new Panel(one, 200, "run"),
  );
  const [details, setDetails] = makeDetails();
  const charts = section(
    "How it learns",
    "Solid is validation, dashed is training; each fold has a colour and its number.",
    h("div", { class: "controls" }, makeAxes(axis, redraw)),
    h("div", { class: "multiples wider" }, ...panels.map((panel) => panel.element)),
  );
  const head = h(
    "section",
    { class: "card headline" },
    h("div", { class: "top" }, state, seen),
    title,
    name,
    h("div", { class: "figures" }, score, h("div", { class: "going" }, progress, time)),
    facts,
    note,
    missing,
    stopping,
    report ? null : makeExports(run),
  );
  const unknown = h("p", { class: "empty" }, "No run of this name is known.");
  const element = h("div", { class: "run" }, unknown, head, charts, details);

  function stopAsked(id, stop) {
    feed.cards.get(id).stop = stop;
    tick();
  }

  function tick() {
    const card = feed.cards.get(run);
    show(unknown, feed.read && !card);
    for (const part of [head, charts, details]) show(part, card);
    if (!card) return;
    for (const [, update] of pieces) update(card);
    head.dataset.is = state.dataset.is;
    say(title, titleOf(card));
    say(name, clean(card.name || card.run, 120));
    say(
      facts,
      [isGoing(card) && clean(card.step, 40), describeFacts(card)].filter(Boolean).join(" · "),
    );
    show(say(note, clean(card.note, 400)), note.textContent && isGoing(card));
    show(say(missing, describeMissing(card)), missing.textContent);
  }

  async function refresh(changed) {
    tick();
    if (!changed.has(run)) return;
    const [known] = await Promise.all([readRun(run), curves.refresh(axis)]);
    draw();
    setDetails(known);
  }

  async function redraw(chosen) {
    axis = chosen;
    await curves.refresh(axis);
    draw();
  }

  function draw() {
    const card = feed.cards.get(run);
    const folds = curves.of(run);
    say(panels[1].title, metricName(card.metric));
    const [loss, metric, rate, speed] = panels;
    const choices = { axis, smooth: 0, gap: false };
    for (const [panel, kind] of [
      [loss, "loss"],
      [metric, "metric"],
    ]) {
      const lines = folds.flatMap((curve, n) =>
        drawFold(
          { card, curves: folds, tag: nameFold(curve), place: n % MOST_RUNS },
          curve.fold ?? 0,
          kind,
          choices,
        ),
      );
      panel.draw(lines, { axis, best: true, decimals: kind === "loss" ? 3 : 4 });
    }
    for (const [panel, column] of [
      [rate, "learning_rate"],
      [speed, "images_per_second"],
    ]) {
      const lines = folds.map((curve, n) => {
        const line = trace(curve, column, axis, card.started ?? 0);
        return { ...line, colour: `--run${n % MOST_RUNS}`, tag: nameFold(curve), kind: "" };
      });
      panel.draw(lines, { axis, decimals: 3 });
    }
  }

  function close() {
    for (const panel of panels) panel.close();
  }

  return { title: () => title.textContent, element, refresh, tick, close };
}

const nameFold = (curve) => String(curve.fold ?? 0);

function makeExports(run) {
  const name = encodeURIComponent(run);
  const links = [
    ["CSV", "csv"],
    ["TensorBoard", "tensorboard.zip"],
    ["Report to keep", "html"],
  ];
  return h(
    "p",
    { class: "exports" },
    ...links.map(([words, end]) =>
      h("a", { class: "button", href: `/export/${name}.${end}`, download: true }, words),
    ),
    h("a", { class: "button", href: `#/compare?runs=${name}` }, "Compare"),
  );
}
