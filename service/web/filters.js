// Filters by the fields that the index declares: from values to a request, and to boxes that can be ticked.

import { TEXT, fill, plural, writeCount } from "./text.js";
import { element } from "./view.js";

const MAX_FACETS = 16; // of one request
const NUM_VALUES_SHOWN = 8;
const RANGE = "..";

/** Write chosen values as the `filter` of a request; undefined without any.
 *
 * @param filters lists of texts by field, as the address has them
 * @param fields the kinds of the declared fields; any other is left for the service to refuse
 */
export function filterOf(filters, fields) {
  const conditions = Object.entries(filters).map(([name, values]) => [name, conditionOf(values, fields[name])]);
  return conditions.length ? Object.fromEntries(conditions) : undefined;
}

function conditionOf(values, kind) {
  if (kind === "boolean") return values.map((value) => value === "true");
  if (kind !== "number") return values;
  const [least, most] = rangeOf(values);
  return { ...(least !== "" && { gte: Number(least) }), ...(most !== "" && { lte: Number(most) }) };
}

function rangeOf([value = ""]) {
  const [least, most] = value.includes(RANGE) ? value.split(RANGE) : [value, value];
  return [least, most];
}

/** Name the fields whose values are worth counting: numbers are filtered by their bounds. */
export function countedFields(fields) {
  return Object.keys(fields).filter((name) => fields[name] !== "number").slice(0, MAX_FACETS);
}

/** Build a group of controls a field.
 *
 * @param {(field: string, values: string[]) => void} onChange told a field's new values
 */
export function filterGroups(fields, facets, filters, onChange) {
  return Object.entries(fields)
    .filter(([name, kind]) => kind === "number" || facets[name]?.values.length || filters[name])
    .map(([name, kind]) => {
      const change = (values) => onChange(name, values);
      const chosen = filters[name] ?? [];
      const controls = kind === "number" ? rangeBoxes(name, chosen, change)
        : valueBoxes(name, kind, facets[name] ?? { values: [], num_values: 0 }, chosen, change);
      return element("fieldset", { className: "filter-group" }, element("legend", { dir: "auto" }, name), ...controls);
    });
}

/** Build a button for each value that is chosen; it takes the value back. */
export function chosenItems(fields, filters, onChange) {
  return Object.entries(filters).flatMap(([field, values]) => values.map((value) => {
    const words = fill(TEXT.chosen, { field, value: shown(value, fields[field]) });
    const button = element("button", { type: "button", className: "chosen", ariaLabel: fill(TEXT.removeFilter, { chosen: words }) },
      element("bdi", {}, words), element("span", { ariaHidden: "true" }, " ×"));
    button.addEventListener("click", () => onChange(field, values.filter((other) => other !== value)));
    return element("li", {}, button);
  }));
}

function valueBoxes(name, kind, facet, chosen, change) {
  const counts = new Map(facet.values.map(({ value, count }) => [String(value), count]));
  for (const value of chosen) if (!counts.has(value)) counts.set(value, 0);
  const items = [...counts].map(([value, count]) => valueBox(name, kind, value, count, chosen, change));
  const others = items.slice(NUM_VALUES_SHOWN).filter((item) => !item.querySelector("input").checked);
  const hidden = others.length > 1 ? others : []; // the button takes the place of one
  const list = element("ul", { className: "filter-values" }, ...items);
  const parts = [list];
  if (hidden.length) {
    for (const item of hidden) item.hidden = true;
    const more = element("button", { type: "button", className: "quiet-button filter-more" }, plural(TEXT.moreValues, hidden.length));
    more.addEventListener("click", () => {
      for (const item of hidden) item.hidden = false;
      more.remove();
      hidden[0].querySelector("input").focus();
    });
    parts.push(more);
  }
  if (facet.num_values > facet.values.length) {
    const counted = { shown: writeCount(facet.values.length), all: writeCount(facet.num_values) };
    parts.push(element("p", { className: "filter-note" }, fill(TEXT.mostFrequent, counted)), otherValueBox(name, chosen, change));
  }
  return parts;
}

/** A box for a value that is too rare to be listed. */
function otherValueBox(name, chosen, change) {
  const box = element("input", { type: "text", dir: "auto", autocomplete: "off", spellcheck: false });
  box.dataset.key = `${name}+`;
  box.addEventListener("change", () => {
    const value = box.value.trim();
    if (value && !chosen.includes(value)) change([...chosen, value]);
  });
  return element("label", { className: "filter-other" }, TEXT.otherValue, box);
}

function valueBox(name, kind, value, count, chosen, change) {
  const box = element("input", { type: "checkbox", checked: chosen.includes(value) });
  box.dataset.key = `${name}=${value}`;
  box.addEventListener("change", () => {
    change(box.checked ? [...chosen, value] : chosen.filter((other) => other !== value));
  });
  return element("li", {}, element("label", {}, box, element("bdi", {}, shown(value, kind)), " ",
    element("span", { className: "filter-count" }, writeCount(count))));
}

function shown(value, kind) {
  return kind === "boolean" ? { true: TEXT.yes, false: TEXT.no }[value] ?? value : value;
}

function rangeBoxes(name, chosen, change) {
  const bounds = rangeOf(chosen);
  const boxes = [TEXT.least, TEXT.most].map((label, side) => {
    const box = element("input", { type: "number", step: "any", value: bounds[side] });
    box.dataset.key = `${name}.${side}`;
    box.addEventListener("change", () => {
      bounds[side] = box.value;
      change(bounds.some(Boolean) ? [bounds.join(RANGE)] : []);
    });
    return element("label", {}, element("span", {}, label), box);
  });
  return [element("div", { className: "filter-range" }, ...boxes)];
}
