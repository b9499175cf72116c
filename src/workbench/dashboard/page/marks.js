// Marks: what is drawn into a chart besides its lines, so that no line is told by colour alone.

import { paint } from "./colours.js";

/** A shape for each run, in the order of the colours: paths about the origin, of size 1. */
const SHAPES = [
  (ctx) => ctx.arc(0, 0, 1, 0, 2 * Math.PI),
  (ctx) => ctx.rect(-0.9, -0.9, 1.8, 1.8),
  (ctx) =>
    polygon(ctx, [
      [0, -1.2],
      [1.1, 0.8],
      [-1.1, 0.8],
    ]),
  (ctx) =>
    polygon(ctx, [
      [0, -1.3],
      [1.3, 0],
      [0, 1.3],
      [-1.3, 0],
    ]),
  (ctx) =>
    polygon(ctx, [
      [0, 1.2],
      [1.1, -0.8],
      [-1.1, -0.8],
    ]),
  (ctx) =>
    polygon(ctx, [
      [0.6, -1.1],
      [1.2, 0],
      [0.6, 1.1],
      [-0.6, 1.1],
      [-1.2, 0],
      [-0.6, -1.1],
    ]),
];
const APART = 13; // px between two tags

function polygon(ctx, corners) {
  for (const [x, y] of corners) ctx.lineTo(x, y);
  ctx.closePath();
}

/** Marks a point, such as the best, with a shape in the line's colour. */
export function markPoint(chart, [x, y], colour, shape = 0) {
  if (!isInside(chart, x, y)) return;
  const { ctx } = chart;
  ctx.save();
  ctx.translate(chart.valToPos(x, "x", true), chart.valToPos(y, "y", true));
  ctx.scale(4.5 * devicePixelRatio, 4.5 * devicePixelRatio);
  ctx.setLineDash([]);
  ctx.beginPath();
  SHAPES[shape % SHAPES.length](ctx);
  Object.assign(ctx, { fillStyle: paint("--card"), strokeStyle: paint(colour), lineWidth: 0.5 });
  ctx.fill();
  ctx.stroke();
  ctx.restore();
}

/** Writes the tags of lines beside their last points, none over another. */
export function markEnds(chart, lines) {
  const { ctx, bbox } = chart;
  const room = APART * devicePixelRatio;
  const ends = lines.flatMap((line) => {
    let last = line.y.length - 1;
    while (last >= 0 && line.y[last] === null) last -= 1;
    if (last < 0 || !isInside(chart, line.x[last], line.y[last])) return [];
    const at = {
      x: chart.valToPos(line.x[last], "x", true),
      y: chart.valToPos(line.y[last], "y", true),
    };
    return [{ ...at, text: line.tag, colour: line.colour }];
  });
  ends.sort((one, other) => one.y - other.y);
  // Downwards each keeps its distance from the one above, and all move up if the last is too low.
  ends.forEach((end, n) => (end.y = n ? Math.max(end.y, ends[n - 1].y + room) : end.y));
  let floor = bbox.top + bbox.height;
  for (const end of [...ends].reverse()) {
    end.y = Math.min(end.y, floor);
    floor = end.y - room;
  }
  ctx.save();
  Object.assign(ctx, {
    font: `700 ${12 * devicePixelRatio}px sans-serif`,
    textAlign: "left",
    textBaseline: "middle",
  });
  for (const end of ends) {
    ctx.fillStyle = paint(end.colour);
    ctx.fillText(end.text, end.x + 8 * devicePixelRatio, end.y);
  }
  ctx.restore();
}

function isInside(chart, x, y) {
  const { min, max } = chart.scales.x;
  const { y: scale } = chart.scales;
  return x >= min && x <= max && y >= scale.min && y <= scale.max;
}

/** The line at 0 of a scale that has both signs. */
export function drawZero(chart) {
  const { ctx, bbox } = chart;
  const y = Math.round(chart.valToPos(0, "y", true));
  if (y < bbox.top || y > bbox.top + bbox.height) return;
  ctx.save();
  ctx.strokeStyle = paint("--soft");
  ctx.setLineDash([]);
  ctx.beginPath();
  ctx.moveTo(bbox.left, y);
  ctx.lineTo(bbox.left + bbox.width, y);
  ctx.stroke();
  ctx.restore();
}
