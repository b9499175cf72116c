// Choices: which runs are compared, and how their curves are drawn.

import { feed, report } from "./api.js";
import { makeAxes } from "./axes.js";
import { sortCards, titleOf } from "./card.js";
import { MOST_RUNS } from "./curves.js";
import { h, keep, say, show } from "./dom.js";
import { clean } from "./words.js";

/** How curves are drawn; it stays while the page is open. */
export const choices = { axis: "epoch", smooth: 0, log: false, best: true, gap: false };

const TOGGLES = { log: "log loss", best: "best marked", gap: "gap: validation − training" };
const SMOOTHING = { type: "range", min: 0, max: 0.95, step: 0.05, "aria-label": "smoothing" };

/** The controls of the choices; `changed` is called after each change. */
export function makeControls(changed) {
  const set = (name, value) => {
    choices[name] = value;
    changed();
  };
  const told = h("output", {}, describeWeight());
  const slider = h("input", { ...SMOOTHING, value: choices.smooth });
  slider.addEventListener("input", () => {
    set("smooth", Number(slider.value));
    say(told, describeWeight());
  });
  const toggles = Object.entries(TOGGLES).map(([name, words]) => {
    const input = h("input", { type: "checkbox", checked: choices[name] });
    input.addEventListener("change", () => set(name, input.checked));
    return h("label", { class: "toggle" }, input, words);
  });
  const axes = makeAxes(choices.axis, (axis) => set("axis", axis));
  const smoothing = h("label", { class: "slider" }, "smoothing", slider, told);
  return h("div", { class: "controls" }, axes, smoothing, ...toggles);
}

const describeWeight = () => (choices.smooth ? choices.smooth.toFixed(2) : "none");

/** All runs to choose from, and a button that compares those that are chosen. */
export function makeChooser(runs) {
  const boxes = h("div", { class: "boxes" });
  const go = h("button", { type: "button" }, "Compare these");
  const picked = () => [...boxes.querySelectorAll(":checked")].map((box) => box.value);
  const limit = () => {
    const full = picked().length >= MOST_RUNS;
    for (const box of boxes.querySelectorAll("input")) box.disabled = full && !box.checked;
    go.disabled = !picked().length;
  };
  const make = ({ run }) => {
    const box = h("input", { type: "checkbox", value: run, checked: runs.includes(run) });
    return h("label", { class: "toggle" }, box, h("span"));
  };
  const name = (label, card) =>
    say(label.lastChild, `${titleOf(card)} · ${clean(card.name || card.run, 40)}`);
  const update = () => {
    keep(boxes, sortCards([...feed.cards.values()]), ({ run }) => run, make, name);
    limit();
  };
  boxes.addEventListener("change", limit);
  go.addEventListener("click", () => {
    location.hash = addressOf(picked());
  });
  const words = h("summary", {}, runs.length ? "Choose other runs" : "Choose runs to compare");
  const node = h("details", { class: "chooser", open: !runs.length }, words, boxes, go);
  return [show(node, !report), update];
}

/** The address of a comparison. */
export function addressOf(runs) {
  return `#/compare?runs=${runs.map(encodeURIComponent).join(",")}`;
}
