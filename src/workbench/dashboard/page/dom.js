// DOM: elements whose text is text, and nodes that stay the same while what they show changes.

const SVG = "http://www.w3.org/2000/svg";

/** An element; attributes that are functions listen, and children that are no nodes are text. */
export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((one) => one != null && one !== false));
  return node;
}

/** An element of a drawing. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Sets a text; where it is the same nothing is touched, and a selection stays. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
  return node;
}

/** Shows a node or hides it. */
export function show(node, shown) {
  if (node.hidden === Boolean(shown)) node.hidden = !shown;
  return node;
}

/** Sets a class of a group of them, such as a state's. */
export function mark(node, name) {
  if (node.dataset.is !== name) node.dataset.is = name;
  return node;
}

/** Sets a number that the style sheet draws. */
export function measure(node, name, value) {
  node.style.setProperty(name, value);
}

const kept = new WeakMap(); // of a parent: its children by key

/** Children of a parent for items: one that has its key is used again, and moved if it must. */
export function keep(parent, items, keyOf, make, update) {
  const before = kept.get(parent) ?? new Map();
  const after = new Map();
  const focused = document.activeElement;
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const node = before.get(key) ?? make(item);
    before.delete(key);
    after.set(key, node);
    if (node === next) next = next.nextElementSibling;
    else parent.insertBefore(node, next);
    update?.(node, item);
  }
  for (const node of before.values()) node.remove();
  kept.set(parent, after);
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus();
}

const shownBefore = new WeakMap();

/** Builds a node's children anew, but only where the value that they show has changed. */
export function redo(node, value, build) {
  const text = JSON.stringify(value) ?? "";
  if (shownBefore.get(node) === text) return;
  shownBefore.set(node, text);
  const children = build(value);
  node.replaceChildren(...[children].flat().filter((one) => one != null && one !== false));
}

/** A section with a heading and a line on how to read it. */
export function section(title, hint, ...children) {
  const head = h("h2", {}, title);
  return h("section", {}, head, hint ? h("p", { class: "hint" }, hint) : null, ...children);
}

/** A table that a narrow screen scrolls in its box; cells are texts or nodes. */
export function table(label, head, rows, kind = "") {
  const cells = (row) =>
    row.map((cell, place) => h(place ? "td" : "th", place ? {} : { scope: "row" }, cell));
  return h(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": label },
    h(
      "table",
      { class: kind },
      h("thead", {}, h("tr", {}, ...head.map((cell) => h("th", { scope: "col" }, cell)))),
      h("tbody", {}, ...rows.map((row) => h("tr", {}, ...cells(row)))),
    ),
  );
}

/** A text to take along, with a button that copies it. */
export function copyable(text) {
  const button = h("button", { type: "button", class: "small" }, "Copy");
  // A line breaks between words, and never after a hyphen of --setting.
  const words = text.split(" ").flatMap((word) => [h("span", {}, word), " "]);
  const code = h("code", {}, ...words.slice(0, -1));
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // A page that is not on localhost or https has no clipboard: the text is selected instead.
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => say(button, "Copy"), 2000);
  });
  return h("div", { class: "copyable" }, code, button);
}
