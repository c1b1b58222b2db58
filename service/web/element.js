// Finds, creates and fills elements of the page.

export const byId = (id) => document.getElementById(id);

/** Create an element; string children become text nodes, never HTML. */
export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

export function showParts(id, parts) {
  byId(id).replaceChildren(...parts);
  byId(id).hidden = false;
}
