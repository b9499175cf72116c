// API: what the dashboard answers, or what a saved report holds.

import { clean } from "./words.js";

const PATIENCE = 10_000; // ms that an answer is waited for
const planted = document.getElementById("data");

/** The data of a saved report, or null where a dashboard answers. */
export const report = planted ? JSON.parse(planted.textContent) : null;

/** What is known of all runs: cards by run, and the relay's health. */
export const feed = { cards: new Map(), version: null, relay: null, read: false };

const clock = { told: report?.now ?? Date.now() / 1000, at: performance.now() };

/** The dashboard's time, in seconds since 1970; a saved report's stands still. */
export function now() {
  return report ? clock.told : clock.told + (performance.now() - clock.at) / 1000;
}

/** An answer other than 200, in words. */
export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

/** Nobody answered. */
export class Unanswered extends Error {}

/** Asks for JSON; raises Refused or Unanswered. */
export async function ask(path, body) {
  const options = { signal: AbortSignal.timeout(PATIENCE), cache: "no-store" };
  if (body) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    options.headers = { "content-type": "application/json" };
  }
  const answer = await fetch(path, options).catch((error) => {
    throw new Unanswered(error.message);
  });
  if (!answer.ok) throw new Refused(answer.status, clean(await answer.text(), 200));
  return answer.json().catch((error) => {
    throw new Unanswered(error.message); // it broke off
  });
}

/** Brings the cards up to date and returns the runs that changed. */
export async function refresh() {
  const body = report ?? (await ask(query("/api/runs", { after: feed.version })));
  if (feed.version !== null && body.version < feed.version) {
    // Another database answers than before: what is known is of no use.
    Object.assign(feed, { cards: new Map(), version: null });
    return refresh();
  }
  Object.assign(clock, { told: body.now, at: performance.now() });
  for (const card of feed.read && report ? [] : body.runs) feed.cards.set(card.run, card);
  const changed = new Set(feed.read && report ? [] : body.runs.map((card) => card.run));
  Object.assign(feed, { version: body.version ?? 0, relay: body.relay ?? null, read: true });
  return changed;
}

/** Curves of some runs by run and fold; only what changed is asked for again. */
export class Curves {
  constructor(runs) {
    Object.assign(this, { runs, version: null, axis: null, known: new Map() });
  }

  /** Brings them up to date; on another axis they are thinned anew. */
  async refresh(axis) {
    if (axis !== this.axis) this.version = null;
    const asked = { runs: this.runs.join(","), after: this.version, axis };
    const body = report ? report.series : await ask(query("/api/series", asked));
    for (const curve of body.runs) this.known.set(JSON.stringify([curve.run, curve.fold]), curve);
    Object.assign(this, { version: body.version, axis });
  }

  /** The curves of a run, in the order of its folds. */
  of(run) {
    const found = [...this.known.values()].filter((curve) => curve.run === run);
    return found.sort((one, other) => (one.fold ?? 0) - (other.fold ?? 0));
  }
}

/** Everything that is known of one run. */
export async function readRun(run) {
  return report ? report.details[run] : ask(`/api/run/${encodeURIComponent(run)}`);
}

/** The settings in which runs differ, and their scores. */
export async function readComparison(runs) {
  return report ? report.compare : ask(query("/api/compare", { runs: runs.join(",") }));
}

/** How the events arrive. */
export const readHealth = () => ask("/api/health");

/** Asks a run to stop after its epoch. */
export const askStop = (run) => ask("/api/stop", { run });

function query(path, values) {
  const given = Object.entries(values).filter(([, value]) => value !== null);
  const words = new URLSearchParams(given).toString();
  return words ? `${path}?${words}` : path;
}
