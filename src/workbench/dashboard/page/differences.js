// Differences: what runs scored and how they were set, as tables with a column for each.

import { feed } from "./api.js";
import { describeInterval, titleOf } from "./card.js";
import { h, measure, table } from "./dom.js";
import { clean, figure, metricName, showValue, spread } from "./words.js";

export const TAGS = "ABCDEF"; // of runs, in the order of the comparison

/** A run's tag and title in its colour. */
export function nameRun(run, place) {
  const title = titleOf(feed.cards.get(run));
  const node = h("span", { class: "tag" }, h("b", {}, TAGS[place]), h("span", {}, title));
  measure(node, "--c", `var(--run${place})`);
  return node;
}

/** The settings in which the runs differ. */
export function listSettings(rows, runs) {
  if (runs.length < 2) return h("p", {}, "There is one run only.");
  if (!rows.length) return h("p", {}, "None: all are the same.");
  const cells = rows.map((row) => [h("code", {}, clean(row.name)), ...row.values.map(showValue)]);
  return table("Settings that differ", ["setting", ...runs.map(nameRun)], cells, "words");
}

/** The scores of the runs: of each fold, and over all. */
export function listScores(rows, runs) {
  const folds = [...Array(Math.max(0, ...rows.map((row) => row.folds.length))).keys()];
  const cells = [
    ["metric", ...rows.map((row) => metricName(row.metric))],
    ...folds.map((fold) => [`fold ${fold}`, ...rows.map((row) => figure(row.folds[fold]))]),
    ["mean ± sd", ...rows.map((row) => spread(row.mean, row.sd))],
    ["out of fold", ...rows.map((row) => describeResult(row.result))],
  ];
  return table("Scores", ["", ...runs.map(nameRun)], cells);
}

function describeResult(result) {
  if (result?.value == null) return "–";
  return h("span", {}, figure(result.value), h("small", {}, describeInterval(result.interval)));
}
