// Curves: from the figures of epochs to the lines of a chart.

export const MOST_RUNS = 6; // as many colours, tags and shapes as can be told apart

/** The columns of a run's metric: of validation, and of training where it is the same metric. */
export function metricColumns(card, curves) {
  const valid = ["valid/metric", "valid/accuracy"].find((column) => has(curves, column));
  const plain = valid === "valid/accuracy" || card.metric === "accuracy";
  return [valid, plain && has(curves, "train/accuracy") ? "train/accuracy" : undefined];
}

const has = (curves, column) =>
  curves.some((curve) => curve.figures[column]?.some((value) => value !== null));

/** When a run began: no later than the first of its curves does, seconds since 1970. */
export function findStart(card, curves) {
  const firsts = curves.flatMap((curve) => curve.time.slice(0, 1));
  return Math.min(card.started ?? Infinity, ...firsts);
}

/** A column over an axis, in its order; the later of two values at one place holds. */
export function trace(curve, column, axis, since) {
  const values = curve.figures[column] ?? [];
  const places = new Map();
  curve[axis].forEach((x, n) => {
    if (x !== null && n < values.length) places.set(axis === "time" ? x - since : x, values[n]);
  });
  const x = [...places.keys()].sort((one, other) => one - other);
  return { x, y: x.map((place) => places.get(place)) };
}

/** What validation has more than training: the gap by which a model over-fits. */
export function gap(valid, train) {
  const below = new Map(train.x.map((x, n) => [x, train.y[n]]));
  const difference = (x, y) => (y === null || below.get(x) == null ? null : y - below.get(x));
  return { x: valid.x, y: valid.y.map((y, n) => difference(valid.x[n], y)) };
}

/** The mean of lines, epoch by epoch, as far as all have come. */
export function mean(lines) {
  if (lines.length < 2) return lines[0] ?? { x: [], y: [] };
  const length = Math.min(...lines.map((line) => line.x.length));
  const over = (pick, n) => {
    const values = lines.map((line) => pick(line)[n]);
    return values.includes(null) ? null : values.reduce((sum, one) => sum + one, 0) / values.length;
  };
  const places = [...Array(length).keys()];
  return {
    x: places.map((n) => over((line) => line.x, n)),
    y: places.map((n) => over((line) => line.y, n)),
  };
}

/** Lines one behind the other, with a gap between. */
export function chain(lines) {
  const parts = lines.filter((line) => line.x.length);
  const between = (n) => (parts[n - 1].x.at(-1) + parts[n].x[0]) / 2;
  const x = parts.flatMap((line, n) => (n ? [between(n), ...line.x] : line.x));
  return { x, y: parts.flatMap((line, n) => (n ? [null, ...line.y] : line.y)) };
}

/** An exponential moving average that begins at the first value, as TensorBoard's does. */
export function smooth(line, weight) {
  if (!weight) return line;
  let sum = 0;
  let seen = 0;
  const y = line.y.map((value) => {
    if (value === null) return null;
    sum = sum * weight + (1 - weight) * value;
    seen += 1;
    return sum / (1 - weight ** seen);
  });
  return { x: line.x, y };
}

/** The best point of a line, [x, y], or null. */
export function findBest(line, higher) {
  let best = null;
  line.y.forEach((value, n) => {
    if (value === null) return;
    if (!best || (higher ? value > best[1] : value < best[1])) best = [line.x[n], value];
  });
  return best;
}

/** The value of a line at a place or before, null beyond its end; Infinity is its end. */
export function valueAt(line, place) {
  if (place > line.x.at(-1)) return place === Infinity ? line.y.at(-1) : null;
  let low = 0;
  let high = line.x.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (line.x[middle] <= place) low = middle + 1;
    else high = middle;
  }
  return low ? line.y[low - 1] : null;
}

/** The lowest and highest value of lines, a little wider; null where there is none. */
export function spanOf(lines, log) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of lines.flatMap((line) => line.y)) {
    if (value === null || (log && value <= 0)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return null;
  if (log) return [low / 1.15, high * 1.15];
  const room = high > low ? (high - low) * 0.06 : Math.abs(high) / 2 || 1;
  return [low - room, high + room];
}

/** The first and last place of lines on their axis; undefined where they have one place or none. */
export function spanOfAxis(lines) {
  const ends = lines.flatMap(({ x }) => (x.length ? [x[0], x.at(-1)] : []));
  const [first, last] = [Math.min(...ends), Math.max(...ends)];
  return first < last ? [first, last] : undefined;
}
