/*
 * Making and changing elements. What the gateway tells (names, topics, payloads) is other people's
 * text: it goes into the page here only as text nodes and as values of attributes that hold text.
 */
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

export function byId(id) {
  return document.getElementById(id);
}

/* Writes only what differs: a screen reader and the layout are left alone otherwise. */
export function setText(node, text) {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) {
    node.setAttribute(name, value);
  }
}

export function button(text, action, attributes = {}) {
  const node = el("button", { type: "button", ...attributes }, text);
  node.addEventListener("click", action);
  return node;
}

/* Shows items as children of list: an item's element stays the same as long as its key does, so that
 * focus and open details survive. make(item) gives the element, update(element, item) fills it. */
export function keyed(list, items, keyOf, make, update) {
  const known = list.keyedElements || (list.keyedElements = new Map());
  const wanted = new Set(items.map(keyOf));
  for (const [key, node] of known) {
    if (!wanted.has(key)) {
      node.remove();
      known.delete(key);
    }
  }
  const focused = document.activeElement;
  items.forEach((item, index) => {
    const key = keyOf(item);
    if (!known.has(key)) {
      known.set(key, make(item));
    }
    const node = known.get(key);
    update(node, item);
    if (list.children[index] !== node) {
      list.insertBefore(node, list.children[index] || null);
    }
  });
  if (focused !== document.activeElement && list.contains(focused)) {
    focused.focus({ preventScroll: true });
  }
}

/* A light is a shape as well as a colour: circle with check, triangle, octagon with cross, ring. */
const SHAPES = {
  ok: ["M12 1a11 11 0 1 0 0 22a11 11 0 1 0 0-22z", "M6.8 12.4l3.6 3.6l7-7.4"],
  warning: ["M12 1.6L23.2 21.6H.8z", "M12 8.6v6.2M12 18v.6"],
  error: ["M7.6 1h8.8L23 7.6v8.8L16.4 23H7.6L1 16.4V7.6z", "M7.8 7.8l8.4 8.4M16.2 7.8l-8.4 8.4"],
  busy: ["M12 1a11 11 0 1 0 0 22a11 11 0 1 0 0-22z", "M9.5 7.5l7 4.5l-7 4.5z"],
  cooling: ["M12 1a11 11 0 1 0 0 22a11 11 0 1 0 0-22z", "M12 6v6.4l4.2 2.6"],
  free: ["M12 2.4a9.6 9.6 0 1 0 0 19.2a9.6 9.6 0 1 0 0-19.2z", ""],
  unknown: ["M12 2.4a9.6 9.6 0 1 0 0 19.2a9.6 9.6 0 1 0 0-19.2z", "M8 12h8"],
};

export function light(level, attributes = {}) {
  const [outline, mark] = SHAPES[level] || SHAPES.unknown;
  return svg("svg", { viewBox: "0 0 24 24", class: `light ${level}`, "aria-hidden": "true",
    focusable: "false", ...attributes },
  svg("path", { class: "shape", d: outline }), svg("path", { class: "mark", d: mark }));
}

export function setLight(holder, level) {
  if (holder.dataset.level !== level) {
    holder.dataset.level = level;
    holder.replaceChildren(light(level));
  }
}
