// Finds, creates and fills elements of the page.

export const byId = (id) => document.getElementById(id);

/** Create an element; string children become text nodes, never HTML. */
export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Create a button that does something when it is pressed. */
export function button(className, onClick, ...children) {
  const node = element("button", { type: "button", className }, ...children);
  node.addEventListener("click", onClick);
  return node;
}

export function showParts(id, parts) {
  byId(id).replaceChildren(...parts);
  byId(id).hidden = false;
}

export function noticeParts(title, ...lines) {
  return [element("h2", {}, title), ...lines.map((line) => element("p", { dir: "auto" }, line))];
}
