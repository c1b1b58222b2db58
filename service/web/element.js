// Elements of the page: found, made, filled.

export const byId = (id) => document.getElementById(id);

/** Make an element; children that are strings become text nodes, never HTML. */
export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export function showParts(id, parts) {
  byId(id).replaceChildren(...parts);
  byId(id).hidden = false;
}
