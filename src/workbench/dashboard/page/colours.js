// Colours: those of the style sheet, for what is drawn on a canvas.

const LIGHT = matchMedia("(prefers-color-scheme: light)");
let painted = new Map();

/** A colour by its name in the style sheet, in the scheme that the reader has now. */
export function paint(name) {
  if (!painted.has(name)) {
    painted.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  }
  return painted.get(name);
}

/** Calls a function whenever the reader changes between dark and light. */
export function onRepaint(repaint) {
  LIGHT.addEventListener("change", () => {
    painted = new Map();
    repaint();
  });
}
