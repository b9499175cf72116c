// App: chooses the view by the address, and keeps it up to date.

import { feed, now, refresh, Refused, report, Unanswered } from "./api.js";
import { nameState, stateOf, titleOf } from "./card.js";
import { openCompare } from "./compare.js";
import { h, mark, say, show } from "./dom.js";
import { openHealth } from "./health.js";
import { openRun } from "./run.js";
import { openRuns } from "./runs.js";
import { clean, duration, timeOfDay } from "./words.js";

const EVERY = 2000; // ms between two questions
const EVERY_UNSEEN = 5000; // the same in a tab that is not looked at
const PATIENCE_UNSEEN = 10 * 60_000; // ms after which such a tab asks no more
const LONGEST_WAIT = 30_000; // ms between two questions to a dashboard that does not answer

const [main, banner, pulse, said] = ["view", "banner", "pulse", "said"].map((id) =>
  document.getElementById(id),
);
const trouble = { words: h("b"), since: h("span", { "aria-live": "off" }) };
banner.append(trouble.words, trouble.since);
show(banner, false);

let view = null;
let address = null;
let stale = true; // has the view to be brought up to date whatever changed?
let answered = null; // when the dashboard last did
let failures = 0;
let unseenSince = null;
let timer = null;
let asking = false;
const states = new Map();

function openView() {
  const [path, words] = (location.hash.slice(1) || "/").split("?");
  const parts = path.split("/").map(decode);
  if (parts[1] === "compare") return openCompare(listRuns(words));
  if (parts[1] === "run" && parts[2]) return openRun(parts[2]);
  if (parts[1] === "health" && !report) return openHealth();
  return openRuns();
}

function listRuns(words) {
  const named = /(?:^|&)runs=([^&]*)/.exec(words ?? "")?.[1] ?? "";
  return [...new Set(named.split(",").map(decode).filter(Boolean))];
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // an address that somebody wrote by hand
  }
}

/** Shows the view of the address; it draws once the runs are known. */
function route() {
  if (address === location.hash && view) return;
  const first = address === null;
  address = location.hash;
  view?.close();
  view = openView();
  main.replaceChildren(view.element);
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href").slice(1) === (address.slice(1).split("?")[0] || "/");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (!first) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
  stale = true;
  if (feed.read) view.tick();
  poll();
}

async function poll() {
  clearTimeout(timer);
  if (asking) return;
  asking = true;
  const shown = view;
  try {
    const changed = await refresh();
    const all = stale ? new Set(feed.cards.keys()) : changed;
    stale = false;
    await shown.refresh(all);
    [answered, failures] = [performance.now(), 0];
    announce(changed);
  } catch (error) {
    stale = true;
    failures += 1;
    describeTrouble(error);
  }
  asking = false;
  if (shown !== view) return poll();
  tick();
  if (!report) schedule();
}

function schedule() {
  const unseen = document.hidden;
  unseenSince = unseen ? (unseenSince ?? performance.now()) : null;
  if (unseen && performance.now() - unseenSince > PATIENCE_UNSEEN) return;
  const usual = unseen ? EVERY_UNSEEN : EVERY;
  timer = setTimeout(poll, Math.min(LONGEST_WAIT, usual * 2 ** Math.max(0, failures - 1)));
}

function describeTrouble(error) {
  const refused = error instanceof Refused;
  if (refused && [401, 403].includes(error.status)) {
    say(trouble.words, "This browser may not read: open the link that the terminal shows");
  } else if (refused) {
    say(trouble.words, `The dashboard refuses: ${clean(error.message, 120) || error.status}`);
  } else if (error instanceof Unanswered) {
    say(trouble.words, "The dashboard does not answer");
  } else {
    say(trouble.words, `This page cannot show what came: ${clean(error.message, 120)}`);
    reportError(error);
  }
}

/** What goes with time alone: "12 s ago", and a run that falls silent. */
function tick() {
  if (feed.read) view.tick();
  const title = typeof view.title === "function" ? view.title() : view.title;
  say(document.querySelector("title"), title ? `${title} · Podium` : "Podium");
  const age = answered === null ? null : (performance.now() - answered) / 1000;
  show(banner, failures);
  say(trouble.since, age === null ? "" : `, last data ${duration(age)} ago.`);
  if (!report) mark(pulse, failures ? "failed" : "live");
  if (report) say(pulse, `as of ${timeOfDay(now(), 0)}`);
  else say(pulse, failures ? "lost" : age === null ? "" : "live");
}

/** Tells those who listen what happened to a run. */
function announce(changed) {
  const news = [];
  for (const run of changed) {
    const card = feed.cards.get(run);
    const state = stateOf(card);
    if (states.has(run) && states.get(run) !== state)
      news.push(`${titleOf(card)}: ${nameState(card)}.`);
    states.set(run, state);
  }
  if (news.length) say(said, news.slice(0, 5).join(" "));
}

function wake() {
  if (!document.hidden) poll();
}

if (report) {
  document.querySelector('nav a[href="#/health"]').remove();
  if (report.runs.length === 1 && !location.hash)
    history.replaceState(null, "", `#/run/${encodeURIComponent(report.runs[0].run)}`);
} else {
  document.addEventListener("visibilitychange", wake);
  addEventListener("online", wake);
  setInterval(tick, 1000);
}
addEventListener("hashchange", route);
route();
