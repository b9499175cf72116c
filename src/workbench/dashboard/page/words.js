// Words: figures, times and names as they are shown.

const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}]/gu;
const NONE = "–";
const JOIN = "\u00a0"; // a number stays on the line of its unit

/** Text that others chose on one line: without what is not seen (marks of direction), cut. */
export function clean(text, most = 80) {
  const seen = [
    ...String(text ?? "")
      .slice(0, 4 * most)
      .replace(HIDDEN, "\ufffd"),
  ];
  return seen.length > most ? `${seen.slice(0, most - 1).join("")}…` : seen.join("");
}

/** The same of several lines, whose last characters are kept. */
export function cleanLines(text, most = 20000) {
  const lines = String(text ?? "")
    .slice(-most)
    .split("\n");
  return lines.map((line) => clean(line.replaceAll("\t", "    "), most)).join("\n");
}

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** A number with so many decimals, and with fewer where it is large. */
export function figure(value, decimals = 4) {
  if (!isNumber(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 10 ** -decimals)) return value.toExponential(2);
  const fewer = size >= 10 ? Math.floor(Math.log10(size)) : 0;
  return minus(value.toFixed(Math.max(0, decimals - fewer)));
}

/** A number with its sign. */
export function signed(value, decimals = 4) {
  return isNumber(value) && value > 0 ? `+${figure(value, decimals)}` : figure(value, decimals);
}

const minus = (text) => text.replace("-", "−");

/** A whole number, its thousands apart. */
export function count(value) {
  return isNumber(value)
    ? Math.round(value).toLocaleString("en-GB").replaceAll(",", "\u202f")
    : NONE;
}

/** "1 run", "2 runs". */
export function several(number, what) {
  return `${count(number)} ${what}${number === 1 ? "" : "s"}`;
}

/** A share of one: "62 %". */
export function share(value) {
  return isNumber(value) ? `${Math.round(100 * value)}${JOIN}%` : NONE;
}

/** Bytes in the unit that leaves three digits. */
export function bytes(value) {
  if (!isNumber(value)) return NONE;
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let place = 0;
  for (; value >= 1000 && place < units.length - 1; place += 1) value /= 1000;
  return `${place && value < 100 ? value.toFixed(1) : Math.round(value)}${JOIN}${units[place]}`;
}

/** A length of time: "12 s", "4 min", "3 h 05", "2 days". */
export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  if (seconds < 59.5) return `${Math.max(0, Math.round(seconds))}${JOIN}s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes}${JOIN}min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}${JOIN}h${JOIN}${String(minutes % 60).padStart(2, "0")}`;
  return `${Math.round(hours / 24)}${JOIN}days`;
}

/** How long ago a time was, as seen at another. */
export function ago(time, now) {
  if (!isNumber(time)) return "never";
  return now - time < 1.5 ? "just now" : `${duration(now - time)} ago`;
}

/** The time of day, and the date where it is not that of `now`. */
export function timeOfDay(time, now) {
  if (!isNumber(time)) return NONE;
  const then = new Date(time * 1000);
  const hours = then.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  if (then.toDateString() === new Date(now * 1000).toDateString()) return hours;
  return `${then.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ${hours}`;
}

/** A mean with its standard deviation. */
export function spread(mean, sd) {
  return isNumber(sd) ? `${figure(mean)} ± ${figure(sd)}` : figure(mean);
}

/** The name of a metric: "macro f1". */
export function metricName(name) {
  return clean(name ?? "score", 40).replaceAll("_", " ");
}

/** A setting's value as it is written in the settings. */
export function showValue(value) {
  if (value === null || value === undefined) return NONE;
  return clean(typeof value === "string" ? value : JSON.stringify(value), 200);
}
