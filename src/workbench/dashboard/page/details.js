// Details: what a run's events tell besides its curves.

import { now } from "./api.js";
import { h, copyable, keep, measure, redo, section, show, table } from "./dom.js";
import { showQuestion } from "./decisions.js";
import { bytes, clean, cleanLines, count, share, several, showValue, timeOfDay } from "./words.js";

const LARGEST = 8; // files that are listed at once
const PICTURE = /^(\/image\/[0-9a-f]{64}\.jpg|data:image\/jpeg;base64,[A-Za-z0-9+/]+=*)$/;

/** The sections below the charts; each is there if there is something to show. */
export function makeDetails() {
  const log = h("ol", { class: "log", tabindex: "0", "aria-label": "The last lines of the log" });
  const parts = [
    [
      (run) => run.traceback,
      "What it died of",
      "",
      (text) => h("pre", { tabindex: "0" }, cleanLines(text)),
    ],
    [(run) => run.warnings, "Warnings", "Each is worth a look.", listWarnings],
    [
      (run) => run.plan,
      "Plan",
      "How the time that is left is spent.",
      (plan) => h("p", {}, clean(plan, 600)),
    ],
    [(run) => run.mistakes, "Mistakes", "", showMistakes],
    [
      (run) => run.images,
      "Worst images",
      "The answers that were wrong with the most confidence: truth → answer.",
      showImages,
    ],
    [
      (run) => run.questions,
      "Decisions",
      "What the run asked of its own evidence, and what it chose.",
      (all) => all.map(showQuestion),
    ],
    [(run) => run.changed, "Settings", "Those that are not the default.", showSettings],
    [
      (run) => run.card.source !== "keras" && run.reproduce,
      "To run it again",
      "",
      (words) => copyable(cleanLines(words)),
    ],
    [(run) => [run.files, run.submission], "Files", "", showFiles],
    [
      (run) => run.sessions,
      "Sessions",
      "A run that goes on after a break does so in a new one.",
      showSessions,
    ],
  ].map(([pick, title, hint, build]) => {
    const body = h("div", { class: "body" });
    return { pick, build, body, node: show(section(title, hint, body), false) };
  });
  const logged = show(section("Log", "Its last lines.", log), false);
  const nodes = parts.map(({ node }) => node);
  nodes.splice(-3, 0, logged);

  function update(run) {
    for (const { pick, build, body, node } of parts) {
      const value = pick(run);
      show(node, hasContent(value));
      if (hasContent(value)) redo(body, value, (known) => attempt(build, known));
    }
    show(logged, hasContent(run.log));
    showLog(log, run.log ?? []);
  }

  return [h("div", { class: "stack" }, ...nodes), update];
}

/** A part, or words in its place: events may hold anything, and one must not cost the others. */
function attempt(build, value) {
  try {
    return build(value);
  } catch (error) {
    return h("p", { class: "empty" }, `What came cannot be shown: ${clean(error.message, 120)}`);
  }
}

/** Is there anything in a value: text, items, or items of items? */
function hasContent(value) {
  if (Array.isArray(value)) return value.some(hasContent);
  if (value && typeof value === "object") return Object.keys(value).length > 0;
  return Boolean(value);
}

function listWarnings(warnings) {
  const text = (one) => clean(typeof one === "string" ? one : one.text, 600);
  return h("ul", { class: "warnings" }, ...warnings.map((one) => h("li", {}, text(one))));
}

function showMistakes({ wrong, of, pairs, weakest }) {
  const most = Math.max(1, ...(pairs ?? []).map(([, , number]) => number));
  const told = (pairs ?? []).map(([truth, guess, number]) => [
    clean(truth, 40),
    clean(guess, 40),
    bar(number / most, count(number)),
  ]);
  const recall = (weakest ?? []).map(([name, images, right]) => [
    clean(name, 40),
    bar(images ? right / images : 0, images ? share(right / images) : "–"),
    `${count(right)} of ${count(images)}`,
  ]);
  return [
    h(
      "p",
      { class: "lead" },
      h("b", {}, `${count(wrong)} of ${count(of)}`),
      ` answers are wrong (${of ? share(wrong / of) : "–"}).`,
    ),
    h(
      "div",
      { class: "pair" },
      h(
        "div",
        {},
        h("h3", {}, "Most confused"),
        table("Most confused", ["truth", "answer", "images"], told, "bars"),
      ),
      h(
        "div",
        {},
        h("h3", {}, "Weakest recall"),
        table("Weakest recall", ["class", "recall", "right"], recall, "bars"),
      ),
    ),
  ];
}

function bar(part, words) {
  const node = h("span", { class: "bar" }, words);
  measure(node, "--share", part.toFixed(3));
  return node;
}

function showImages(images) {
  return h("div", { class: "images" }, ...images.map(showImage));
}

function showImage({ id, truth, guess, prob, url }) {
  const alt = `image ${clean(id, 60)}`;
  const picture = PICTURE.test(url)
    ? h("img", { src: url, alt, loading: "lazy" })
    : h("span", { class: "lost" }, "no picture");
  return h(
    "figure",
    {},
    picture,
    h(
      "figcaption",
      {},
      h("b", {}, clean(truth, 40)),
      ` → ${clean(guess, 40)} `,
      h("span", {}, share(prob)),
      h("small", {}, clean(id, 60)),
    ),
  );
}

function showSettings(changed) {
  const rows = Object.entries(changed).map(([name, [usual, value]]) => [
    h("code", {}, clean(name)),
    showValue(value),
    showValue(usual),
  ]);
  return table("Settings", ["setting", "here", "default"], rows, "words");
}

function showFiles([files, submission]) {
  const columns = ["file", "size"];
  const rows = (files ?? []).map((file) => [clean(file.name, 120), bytes(file.bytes)]);
  return [
    rows.length ? table("Files", columns, rows.slice(0, LARGEST)) : null,
    rows.length > LARGEST ? foldAway(table("Other files", columns, rows.slice(LARGEST))) : null,
    submission ? h("h3", {}, "sha256 of the submission") : null,
    submission ? copyable(clean(submission)) : null,
  ];
}

/** The smaller files, for those who look for one. */
function foldAway(node) {
  return h("details", {}, h("summary", {}, "The others"), node);
}

function showSessions(sessions) {
  const rows = sessions.map((one) => [
    clean(one.session, 16),
    timeOfDay(one.started, now()),
    `${count(one.first)}–${count(one.last)}`,
    (one.missing ?? [])
      .map(([from, to]) => (from === to ? count(from) : `${count(from)}–${count(to)}`))
      .join(", ") || "none",
  ]);
  return table("Sessions", ["session", "started", "events", "missing"], rows);
}

/** Lines are only added, so that a selection stays; the end is followed if it is in sight. */
function showLog(log, lines) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  const seen = new Map();
  const keyed = lines.map((line) => {
    const name = `${line.time} ${line.text}`;
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return { ...line, key: `${seen.get(name)} ${name}` };
  });
  const make = ({ time, text }) =>
    h("li", {}, h("time", {}, timeOfDay(time, now())), h("span", {}, clean(text, 2000)));
  keep(log, keyed, ({ key }) => key, make);
  if (atEnd) log.scrollTop = log.scrollHeight;
}
