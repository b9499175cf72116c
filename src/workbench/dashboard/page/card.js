// Card: the pieces that show one run at a glance.

import { now } from "./api.js";
import { h, mark, measure, say, show, svg } from "./dom.js";
import { clean, count, duration, figure, metricName, several, timeOfDay, ago } from "./words.js";

const SILENCE = 180; // seconds without news after which a run is stale
const QUIET_SILENCE = 900; // the same where events are sent rarely
const MOST_PARTS = 10; // folds that a progress bar shows apart
const OVER = { finished: "done", failed: "failed", stopped: "stopped" };

/** A run's state as the page names it: live, stale, done, failed or stopped. */
export function stateOf(card) {
  if (OVER[card.state]) return OVER[card.state];
  const silence = card.quiet ? QUIET_SILENCE : SILENCE;
  return now() - card.seen > silence ? "stale" : "live";
}

/** The state in words. */
export function nameState(card) {
  const state = stateOf(card);
  if (state === "live") return card.state === "warned" ? "running, warned" : "running";
  return state === "done" ? "finished" : state;
}

/** Does it still train, as far as is known? */
export const isGoing = (card) => !OVER[card.state];

/** Those that run first, then the latest. */
export function sortCards(cards) {
  return cards.sort((one, other) => isGoing(other) - isGoing(one) || other.started - one.started);
}

/** Where the run is: "fold 2, epoch 7 of 12"; folds are counted from 0. */
export function describePlace(card) {
  if (!card.epoch) return "no epoch begun yet";
  const fold = card.folds > 1 && card.fold != null ? `fold ${card.fold}, ` : "";
  return `${fold}epoch ${card.epoch}${card.epochs ? ` of ${card.epochs}` : ""}`;
}

/** Where the best value was: "best 0.9131 in fold 1, epoch 6". */
export function describeBest(card) {
  if (card.best == null) return "";
  const fold = card.folds > 1 && card.best_fold != null ? `fold ${card.best_fold}, ` : "";
  return `best ${figure(card.best)} in ${fold}epoch ${card.best_epoch}`;
}

/** Events that are known to exist but did not arrive. */
export function describeMissing(card) {
  if (!card.missing) return "";
  const them = card.missing === 1 ? "it" : "them";
  return `${several(card.missing, "event")} missing; make pull fetches ${them}`;
}

/** A run's name for people: its title, and its own name if that says more. */
export const titleOf = (card) => clean(card.title || card.name || card.run, 60);

/** Pieces as one: their nodes, and what brings all of them up to date. */
export function gather(...pieces) {
  return [pieces.map(([node]) => node), (card) => pieces.forEach(([, update]) => update(card))];
}

/** A paragraph that is there while it has words. */
export function makeText(kind, describe) {
  const node = h("p", { class: kind });
  return [node, (card) => show(say(node, describe(card)), node.textContent)];
}

/** A dot and a word for the state. */
export function makeState() {
  const node = h("span", { class: "state" }, h("i", { class: "dot" }), h("span"));
  return [node, (card) => say(mark(node, stateOf(card)).lastChild, nameState(card))];
}

/** When news last came. */
export function makeSeen() {
  const node = h("span", { class: "seen" });
  return [node, (card) => say(node, ago(card.seen, now()))];
}

/** The metric's value, large, and its best. */
export function makeScore() {
  const [name, value, best] = [h("span", { class: "what" }), h("b"), h("span", { class: "best" })];
  const update = (card) => {
    const final = card.result?.value != null;
    say(name, final ? `${metricName(card.result.metric)}, out of fold` : metricName(card.metric));
    say(value, figure(final ? card.result.value : card.value));
    say(best, final ? describeInterval(card.result.interval) : describeBest(card));
  };
  return [h("div", { class: "score" }, name, value, best), update];
}

/** The interval of a score: "95 %: 0.9012 to 0.9311". */
export function describeInterval(interval) {
  return interval?.[0] != null ? `95 %: ${figure(interval[0])} to ${figure(interval[1])}` : "";
}

/** How far the run has come: a bar with a part for each fold. */
export function makeProgress() {
  const bar = h("span", { class: "parts", "aria-hidden": "true" });
  const [words, folds] = [h("span"), h("span")];
  const update = (card) => {
    const parts = card.folds > 1 && card.folds <= MOST_PARTS ? card.folds : 1;
    show(bar, card.epochs);
    while (bar.children.length > parts) bar.lastChild.remove();
    while (bar.children.length < parts) bar.append(h("i"));
    [...bar.children].forEach((part, n) => {
      measure(part, "--share", Math.min(1, Math.max(0, (card.done ?? 0) * parts - n)).toFixed(4));
    });
    say(words, describePlace(card));
    say(folds, card.folds > 1 ? `${card.scores?.length ?? 0} of ${card.folds} folds done` : "");
  };
  return [h("div", { class: "progress" }, h("span", { class: "ends" }, words, folds), bar), update];
}

/** The time: spent, needed, and the deadline, as a bar with words. */
export function makeTime() {
  const bar = h("span", { class: "times", "aria-hidden": "true" }, h("i"), h("i"), h("i"));
  const [words, left, more] = [h("span"), h("span"), h("span", { class: "verdict" })];
  const node = h("div", { class: "time" }, h("span", { class: "ends" }, words, left), bar, more);
  const update = (card) => {
    const running = isGoing(card);
    const time = running ? now() : card.told;
    const end = Math.max(card.deadline ?? 0, card.eta ?? 0, time);
    const place = (at) =>
      Math.min(1, Math.max(0, (at - card.started) / Math.max(1, end - card.started))).toFixed(4);
    mark(node, running ? card.verdict : "");
    show(bar, running && (card.deadline || card.eta));
    measure(bar, "--now", place(time));
    measure(bar, "--eta", place(card.eta ?? time));
    measure(bar, "--deadline", place(card.deadline ?? end));
    say(words, running ? describeTime(card, time) : describeSpent(card));
    say(left, running && card.eta > time ? `${duration(card.eta - time)} to go` : "");
    show(say(more, running ? clean(card.verdict_words, 160) : ""), more.textContent);
  };
  return [node, update];
}

function describeTime(card, time) {
  const words = [];
  if (card.eta) words.push(`done ${timeOfDay(card.eta, time)}`);
  if (card.deadline) words.push(`deadline ${timeOfDay(card.deadline, time)}`);
  if (card.eta && card.deadline) return words.join(", ");
  return [`running for ${duration(time - card.started)}`, ...words].join(", ");
}

function describeSpent(card) {
  const took = duration(card.told - card.started);
  const word = card.state === "finished" ? "took" : "ran for";
  return `${word} ${took}, ended ${timeOfDay(card.told, now())}`;
}

/** The last values of the metric as a line. */
export function makeSpark() {
  const line = svg("polyline", { fill: "none" });
  const end = svg("circle", { r: 2.6 });
  const node = svg(
    "svg",
    { class: "spark", viewBox: "0 0 120 44", "aria-hidden": "true" },
    line,
    end,
  );
  const update = (card) => {
    const values = (card.spark ?? []).filter((value) => value !== null);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const points = values.map((value, n) => [
      4 + (110 * n) / Math.max(1, values.length - 1),
      high > low ? 39 - (34 * (value - low)) / (high - low) : 22,
    ]);
    const text = points.map((point) => point.map((one) => one.toFixed(1)).join(",")).join(" ");
    if (line.getAttribute("points") !== text) line.setAttribute("points", text);
    const [x, y] = points.at(-1) ?? [-9, -9];
    end.setAttribute("cx", x);
    end.setAttribute("cy", y);
  };
  return [node, update];
}

/** Facts in small print: machine, speed, losses. */
export function describeFacts(card) {
  const facts = [];
  if (card.loss != null || card.valid_loss != null)
    facts.push(`loss ${figure(card.loss, 3)} → ${figure(card.valid_loss, 3)}`);
  if (card.rate) facts.push(`${count(card.rate)} images/s`);
  if (card.machine) facts.push(clean(card.machine, 30).replaceAll(" ", "\u00a0"));
  return facts.join(" · ");
}
