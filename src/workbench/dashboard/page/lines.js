// Lines: which curves a chart draws of a run, and how.

import { chain, findBest, findStart, gap, mean, metricColumns, smooth, trace } from "./curves.js";

const DASH = [5, 4];

/**
 * The lines of a run over all its folds.
 *
 * A run: {card, curves, tag, place}; kind: "loss" or "metric"; choices: axis, smooth, log, gap.
 */
export function drawFolds(run, kind, choices) {
  const { card, curves } = run;
  if (curves.length < 2) return drawCurves(run, curves, kind, choices, mean);
  // Over time folds follow one another: there is no mean.
  if (choices.axis === "time") return drawCurves(run, curves, kind, choices, chain);
  const ended = curves.slice(0, card.scores?.length || curves.length);
  const thin = choices.smooth ? [] : curves.map((curve) => drawThin(run, curve, kind, choices));
  return [...thin, ...drawCurves(run, ended, kind, choices, mean)];
}

/** The lines of a run in one fold. */
export function drawFold(run, fold, kind, choices) {
  const curves = run.curves.filter((curve) => (curve.fold ?? 0) === fold);
  return drawCurves(run, curves, kind, choices, mean);
}

function drawCurves(run, curves, kind, choices, combine) {
  const look = { colour: `--run${run.place}`, tag: run.tag, shape: run.place };
  const draw = (weight) => {
    const [valid, train] = traceBoth(run, curves, kind, choices, (lines) =>
      combine(lines.map((line) => smooth(line, weight))),
    );
    const lines = [{ ...valid, ...look, kind: "" }];
    if (!choices.gap) lines.push({ ...train, ...look, kind: "train", dash: DASH, width: 1.5 });
    return lines;
  };
  const lines = draw(choices.smooth);
  const raw = choices.smooth ? draw(0).map((line) => ({ ...line, faint: true })) : [];
  lines[0].best = findBest(raw[0] ?? lines[0], kind === "metric" && run.card.higher);
  return [...raw, ...lines];
}

function drawThin(run, curve, kind, choices) {
  const [valid] = traceBoth(run, [curve], kind, choices, mean);
  return { ...valid, colour: `--run${run.place}`, tag: run.tag, faint: true, width: 1 };
}

/** Validation and training; of a gap the first is their difference. */
function traceBoth(run, curves, kind, choices, combine) {
  const columns =
    kind === "loss" ? ["valid/loss", "train/loss"] : metricColumns(run.card, run.curves);
  const since = findStart(run.card, run.curves);
  const [valid, train] = columns.map((column) =>
    combine(curves.map((curve) => trace(curve, column, choices.axis, since))),
  );
  return choices.gap ? [gap(valid, train), train] : [valid, train];
}
