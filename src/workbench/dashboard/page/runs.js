// Runs: a card for each, those that run first.

import { feed, report } from "./api.js";
import { describeFacts, describeMissing, gather, isGoing, makeProgress } from "./card.js";
import { makeScore, makeSeen, makeSpark, makeState, makeText, makeTime } from "./card.js";
import { sortCards, stateOf, titleOf } from "./card.js";
import { addressOf } from "./choices.js";
import { MOST_RUNS } from "./curves.js";
import { h, keep, mark, say, show } from "./dom.js";
import { makeStop } from "./stop.js";
import { clean, several } from "./words.js";

const MINUTE = 60_000; // ms
const chosen = new Set(); // runs to compare, by their ids

/** The view of all runs. */
export function openRuns() {
  const list = h("div", { class: "cards" });
  const tally = h("p", { class: "hint" });
  const empty = makeEmpty();
  const [bar, updateBar] = makeChoice(choose);
  const head = h("div", { class: "head" }, h("h1", {}, "Runs"), tally);
  const element = h("div", { class: "runs" }, head, empty, list, bar);
  const updates = new WeakMap();
  let written = -Infinity; // when the cards of runs that are over were last written, ms

  function make() {
    const [node, update] = makeCard(choose);
    updates.set(node, update);
    return node;
  }

  /** Brings up to date the cards that changed, and those on which time goes on. */
  function refresh(changed) {
    const cards = sortCards([...feed.cards.values()]);
    show(empty, feed.read && !cards.length);
    say(tally, describeTally(cards));
    const all = performance.now() - written > MINUTE;
    if (all) written = performance.now();
    const isDue = (card) => all || isGoing(card) || changed.has(card.run);
    const update = (node, card) => isDue(card) && updates.get(node)(card);
    keep(list, cards, ({ run }) => run, make, update);
    updateBar();
  }

  function choose() {
    for (const run of chosen) if (!feed.cards.has(run)) chosen.delete(run);
    refresh(new Set(feed.cards.keys()));
  }

  return { title: "Runs", element, refresh, tick: () => refresh(new Set()), close() {} };
}

/** What can be done with the runs that are chosen. */
function makeChoice(changed) {
  const compare = h("a", { class: "button" });
  const clear = h("button", { type: "button" }, "Clear");
  clear.addEventListener("click", () => {
    chosen.clear();
    changed();
  });
  const bar = h("div", { class: "choice" }, compare, clear);
  const update = () => {
    show(bar, chosen.size > 0);
    compare.setAttribute("href", addressOf([...chosen]));
    say(compare, chosen.size > 1 ? `Compare ${chosen.size} runs` : "Show its curves");
  };
  return [bar, update];
}

function describeTally(cards) {
  const running = cards.filter(isGoing).length;
  if (!cards.length) return "";
  return running
    ? `${running} of ${several(cards.length, "run")} going on`
    : `${several(cards.length, "run")}, none going on`;
}

function makeCard(changed) {
  const [pick, updatePick] = makePick(changed);
  const [[state, seen, name, score, spark, ...rest], updatePieces] = gather(
    makeState(),
    makeSeen(),
    makeText("name", describeName),
    makeScore(),
    makeSpark(),
    makeText("facts", describeFacts),
    makeProgress(),
    makeTime(),
    makeText("note", (card) => clean(card.note, 200)),
    makeText("missing", describeMissing),
    makeStop(changed),
  );
  const link = h("a");
  const top = h("div", { class: "top" }, state, seen, pick);
  const figures = h("div", { class: "figures" }, score, spark);
  const node = h("article", { class: "card" }, top, h("h2", {}, link), name, figures, ...rest);
  const update = (card) => {
    mark(node, stateOf(card));
    updatePieces(card);
    updatePick(card);
    say(link, titleOf(card));
    link.setAttribute("href", `#/run/${encodeURIComponent(card.run)}`);
  };
  return [node, update];
}

/** The box that chooses a run to be compared. */
function makePick(changed) {
  let run = null;
  const box = h("input", { type: "checkbox" });
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(run);
    else chosen.delete(run);
    changed();
  });
  const update = (card) => {
    ({ run } = card);
    box.checked = chosen.has(run);
    box.disabled = !box.checked && chosen.size >= MOST_RUNS;
    box.setAttribute("aria-label", `compare ${titleOf(card)}, ${clean(card.name, 60)}`);
  };
  return [show(h("label", { class: "pick" }, box, h("span", {}, "compare")), !report), update];
}

const SOURCES = { relay: "by relay", import: "imported", keras: "RemoteMonitor" };

function describeName(card) {
  const name = clean(card.name || card.run, 60);
  const words = [name === titleOf(card) ? "" : name, SOURCES[card.source]];
  return words.filter(Boolean).join(" · ");
}

function makeEmpty() {
  const lines = [
    "Start a run with the address that the terminal shows, where the dashboard was started: " +
      "it is a line that begins with PODIUM_WEBHOOK.",
    "A plain Keras program sends its epochs with keras.callbacks.RemoteMonitor, whose line " +
      "stands below that one.",
    "What has run already is brought in: python -m workbench.dashboard import runs/FOLDER",
  ];
  return h(
    "section",
    { class: "start" },
    h("h2", {}, "No run has been heard of yet"),
    h("ol", {}, ...lines.map((line) => h("li", {}, line))),
    h("p", { class: "hint" }, "This page watches; the first card appears here by itself."),
  );
}
