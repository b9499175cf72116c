// Health: how the events arrive, run by run.

import { feed, now, readHealth } from "./api.js";
import { describeMissing, titleOf } from "./card.js";
import { h, keep, mark, measure, redo, say, section, show } from "./dom.js";
import { ago, bytes, clean, count, duration, several } from "./words.js";

const LATE = 120; // seconds between an event's time and its receipt that are worth a look

/** The view of deliveries, the relay and the store. */
export function openHealth() {
  const runs = h("div", { class: "cards" });
  const relay = h("div", { class: "body" });
  const store = h("p");
  const relayed = show(
    section("Relay", "Events that come through a topic, where no direct way leads here.", relay),
    false,
  );
  const stored = section("Store", "", store);
  const none = show(h("p", { class: "empty" }, "No run has been heard of yet."), false);
  const element = h("div", { class: "health" }, h("h1", {}, "Health"), relayed, none, runs, stored);

  async function refresh() {
    const health = await readHealth();
    show(relayed, health.relay);
    if (health.relay)
      redo(relay, { ...health.relay, last: ago(health.relay.last, now()) }, showRelay);
    show(none, !health.runs.length);
    keep(runs, health.runs, (run) => run.run, makeRun, updateRun);
    const { events, bytes: size, runs: known } = health.store;
    say(store, `${several(events, "event")} of ${several(known, "run")} in ${bytes(size)}`);
  }

  return { title: "Health", element, refresh, tick() {}, close() {} };
}

function makeRun(run) {
  const link = h("a", { href: `#/run/${encodeURIComponent(run.run)}` });
  return h(
    "article",
    { class: "card" },
    h("h2", {}, link),
    h("p", { class: "missing" }),
    h("dl", { class: "facts" }),
    h("div", { class: "body" }),
  );
}

function updateRun(node, run) {
  const [head, missing, facts, deliveries] = node.children;
  say(head.firstChild, titleOf(feed.cards.get(run.run) ?? run));
  show(say(missing, describeMissing(run)), run.missing);
  const rows = [
    ["last heard", ago(run.seen, now())],
    ["its last event", ago(run.told, now())],
    [
      "on the way",
      run.lag > LATE ? `${duration(run.lag)}: late, or a clock is wrong` : duration(run.lag),
    ],
    ["memory free", bytes(run.memory_free)],
    ["disk free", bytes(run.disk_free)],
  ];
  keep(
    facts,
    rows,
    ([name]) => name,
    ([name]) => h("div", {}, h("dt", {}, name), h("dd")),
    (row, [, value]) => say(row.lastChild, value),
  );
  const told = Object.entries(run.deliveries ?? []).filter(([, one]) => one?.name !== undefined);
  keep(
    deliveries,
    told,
    ([place, one]) => `${place} ${one.name}`,
    ([, one]) => makeDelivery(one),
    (row, [, one]) => updateDelivery(row, one),
  );
}

const makeDelivery = (one) =>
  h(
    "p",
    { class: "delivery" },
    h("b", {}, clean(one.name, 40)),
    h("span", { class: "state" }, h("i", { class: "dot" }), h("span")),
    h("small"),
  );

function updateDelivery(node, one) {
  const [, state, more] = node.children;
  say(
    mark(state, one.parked || one.trouble ? "failed" : one.unsent ? "stale" : "live").lastChild,
    describeDelivery(one),
  );
  const facts = [`acknowledged ${ago(one.acked, now())}`];
  if (one.refused) facts.push(`told to slow down ${several(one.refused, "time")}`);
  if (one.skipped) facts.push(`${several(one.skipped, "event")} left out`);
  if (one.trouble) facts.push(clean(one.trouble, 200));
  say(more, facts.join(" · "));
}

function describeDelivery(one) {
  if (one.parked) return "parked, tries again later";
  if (one.trouble) return `in trouble, ${bytes(one.unsent)} unsent`;
  return one.unsent ? `${bytes(one.unsent)} unsent` : "all is sent";
}

function showRelay(relay) {
  const state = mark(
    h(
      "span",
      { class: "state" },
      h("i", { class: "dot" }),
      h("span", {}, relay.connected ? "listening" : "not connected"),
    ),
    relay.connected ? "live" : "failed",
  );
  const used = h("span", { class: "quota", "aria-hidden": "true" });
  measure(used, "--share", Math.min(1, (relay.sent_today ?? 0) / relay.quota).toFixed(3));
  const sent =
    relay.sent_today == null
      ? "messages of today are not known"
      : `${count(relay.sent_today)} of ${count(relay.quota)} messages of today`;
  return [
    h(
      "p",
      { class: "lead" },
      state,
      ` at ${clean(relay.topic_host, 60)}, last message ${relay.last}`,
    ),
    used,
    h("p", {}, `${sent}; ${count(relay.messages)} read, ${count(relay.rejected)} rejected`),
    relay.words ? h("p", { class: "note" }, clean(relay.words, 400)) : null,
  ];
}
