// Axes: what charts are drawn over, and how their ticks are written.

import { paint } from "./colours.js";
import { h } from "./dom.js";
import { count, duration } from "./words.js";

const HOUR = 3600; // seconds
const WHOLE = [1, 10, 100, 1e3, 1e4, 1e5].flatMap((power) => [power, 2 * power, 5 * power]);
const TIMES = [1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];

/** By the name that the dashboard has for it: in words, as a place is named, and its ticks. */
export const AXES = {
  epoch: { words: "epochs", name: "epoch", steps: WHOLE, write: count },
  updates: { words: "updates", name: "update", steps: WHOLE, write: writeThousands },
  time: { words: "time", name: "after", steps: TIMES, write: writeTime },
};

function writeThousands(value) {
  return value < 1e4 ? count(value) : `${value / 1e3} k`;
}

function writeTime(value) {
  if (value % HOUR) return duration(value);
  return value ? `${value / HOUR} h` : "0";
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

/** The axes of a chart as uPlot takes them. */
export function describeAxes(axis) {
  const { steps, write } = AXES[axis];
  const look = {
    stroke: () => paint("--soft"),
    font: `12px ${getComputedStyle(document.body).fontFamily}`,
    grid: { stroke: () => paint("--line"), width: 1 },
    ticks: { show: false },
  };
  const name = (_, ticks) => ticks.map((one) => (one === null ? "" : write(one)));
  return [
    { ...look, size: 26, gap: 5, space: 56, incrs: steps, values: name },
    { ...look, size: widthOf, gap: 6, space: 28, values: (_, ticks) => nameTicks(ticks) },
  ];
}

/** The room that the y axis takes, in px, by its longest tick. */
function widthOf(_, ticks) {
  return 14 + 7 * Math.max(2, ...(ticks ?? []).map((one) => one.length));
}

/** Ticks with as many decimals as tell them apart. */
function nameTicks(ticks) {
  const values = ticks.filter((one) => one !== null);
  const apart =
    values.length > 1 ? Math.min(...values.slice(1).map((one, n) => one - values[n])) : 1;
  const decimals = Math.max(0, Math.ceil(-Math.log10(apart) - 1e-9));
  const largest = Math.max(...values.map(Math.abs));
  const brief = decimals > 4 || largest >= 1e5;
  const digits = Math.min(9, Math.max(0, Math.ceil(Math.log10(largest / apart) - 1e-9)));
  const name = (one) =>
    brief && one ? one.toExponential(digits) : one.toFixed(brief ? 0 : decimals);
  return ticks.map((one) => (one === null ? "" : name(one).replace("-", "−")));
}
