// Decisions: what the evidence gate was asked, what it weighed, and what it chose.

import { h, table } from "./dom.js";
import { clean, count, figure, metricName, signed } from "./words.js";

/** A question with its answer, and the options that were weighed. */
export function showQuestion(question) {
  const { name, asks, answer, notes, options } = question;
  const head = [
    "option",
    metricName(question.metric),
    "gain",
    "at least",
    "p",
    "fixed / broken",
    "cost",
  ];
  const rows = (options ?? []).map((option) => listOption(option, question));
  const lines = (Array.isArray(notes) ? notes : [notes]).filter(Boolean);
  return h(
    "article",
    { class: "question-asked" },
    h("h3", {}, clean(asks || name, 200)),
    h("p", { class: "answer" }, clean(answer, 400)),
    rows.length ? table(`Options of ${clean(name)}`, head, rows, "options") : null,
    ...lines.map((line) => h("p", { class: "hint" }, clean(line, 400))),
  );
}

function listOption(option, { chosen, unit }) {
  const { gain } = option;
  const words = clean(option.name, 60);
  const flips = option.fixed == null ? "–" : `${count(option.fixed)} / ${count(option.broken)}`;
  const isChosen = option.name === chosen;
  return [
    isChosen ? h("b", { class: "chosen" }, `✓ ${words}`) : words,
    figure(option.score),
    signed(gain?.difference),
    signed(gain?.low),
    gain?.p == null ? "–" : figure(gain.p, 3),
    flips,
    describeCost(option.cost, unit),
  ];
}

function describeCost(cost, unit) {
  if (cost == null) return "–";
  return typeof cost === "number"
    ? `${figure(cost, 1)} ${clean(unit, 20)}`.trim()
    : clean(cost, 40);
}
