// Filter controls for the declared fields: check boxes and text boxes.

import { button, byId, element } from "../element.js";
import { boundsOf, hasRange, writeBounds } from "./fields.js";
import { TEXT, fill, writeCount } from "../languages/text.js";

const NUM_VALUES_SHOWN = 8;

/** Rebuild the filter controls; the control in use keeps the focus.
 *
 * @param fields kinds of the declared fields
 * @param facets their values with counts, if they were counted
 * @param hits what was found: their values come first
 * @param filters lists of chosen texts by field
 * @param {(field: string, values: string[]) => void} onChange receives a field's new values
 */
export function showFilters(fields, facets, hits, filters, onChange) {
  const key = document.activeElement?.dataset.key;
  const numChosen = Object.values(filters).flat().length;
  byId("filters-toggle").hidden = !Object.keys(fields).length;
  byId("filters-toggle").textContent = numChosen ? fill(TEXT.filtersChosen, { count: writeCount(numChosen) }) : TEXT.filters;
  byId("clear-filters").hidden = numChosen < 2; // one is taken back by its own button
  byId("chosen-row").hidden = !numChosen;
  byId("chosen").replaceChildren(...chosenItems(fields, filters, onChange));
  byId("filter-groups").replaceChildren(...filterGroups(fields, facets, hits, filters, onChange));
  if (key) byId("filter-groups").querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

export function listenToFilters(onClear) {
  const toggle = byId("filters-toggle");
  byId("clear-filters").addEventListener("click", onClear);
  toggle.addEventListener("click", () => {
    toggle.ariaExpanded = String(toggle.ariaExpanded !== "true");
    byId("filter-groups").hidden = toggle.ariaExpanded !== "true";
  });
}

/** Build a group of controls for each field. */
function filterGroups(fields, facets, hits, filters, onChange) {
  return Object.entries(fields)
    .filter(([name, kind]) => hasRange(kind) || facets[name]?.values.length || filters[name])
    .map(([name, kind]) => {
      const change = (values) => onChange(name, values);
      const chosen = filters[name] ?? [];
      const controls = hasRange(kind) ? rangeBoxes(name, kind, chosen, change)
        : valueBoxes(name, kind, withValuesOf(hits, name, facets[name]), chosen, change);
      return element("fieldset", { className: "filter-group" }, element("legend", { dir: "auto" }, name), ...controls);
    });
}

/** Return the counted values of a field, those that the hits have first; null counts are not known. */
function withValuesOf(hits, name, facet = { values: [], num_values: 0 }) {
  const found = new Set(hits.flatMap(({ metadata }) => metadata?.[name] ?? []).map(String));
  const counts = new Map(facet.values.map(({ value, count }) => [String(value), count]));
  const first = [...found].filter((value) => counts.has(value) || counts.size < facet.num_values);
  const values = [...new Set([...first, ...counts.keys()])];
  return { values: values.map((value) => ({ value, count: counts.get(value) ?? null })), num_values: facet.num_values };
}

/** Build a button for each chosen value; it removes the value. */
function chosenItems(fields, filters, onChange) {
  return Object.entries(filters).flatMap(([field, values]) => values.map((value) => {
    const words = fill(TEXT.chosen, { field, value: shown(value, fields[field]) });
    const others = values.filter((other) => other !== value);
    const node = button("chosen", () => onChange(field, others), element("bdi", {}, words),
      element("span", { ariaHidden: "true" }, " ×"));
    node.ariaLabel = fill(TEXT.removeFilter, { chosen: words });
    return element("li", {}, node);
  }));
}

function valueBoxes(name, kind, facet, chosen, change) {
  const counts = new Map(facet.values.map(({ value, count }) => [value, count]));
  const numCounted = facet.values.filter(({ count }) => count !== null).length;
  const isComplete = facet.num_values <= numCounted;
  for (const value of chosen) if (!counts.has(value)) counts.set(value, isComplete ? 0 : null); // null: not known
  const items = [...counts].map(([value, count]) => valueBox(name, kind, value, count, chosen, change));
  const others = items.slice(NUM_VALUES_SHOWN).filter((item) => !item.querySelector("input").checked);
  const hidden = others.length > 1 ? others : []; // the button takes the place of one
  const list = element("ul", { className: "filter-values" }, ...items);
  const parts = [list];
  if (hidden.length) {
    for (const item of hidden) item.hidden = true;
    const more = button("quiet-button filter-more", () => {
      for (const item of hidden) item.hidden = false;
      more.remove();
      hidden[0].querySelector("input").focus();
    }, fill(TEXT.moreValues, { count: writeCount(hidden.length) }));
    parts.push(more);
  }
  if (!isComplete) {
    const counted = { shown: writeCount(numCounted), all: writeCount(facet.num_values) };
    parts.push(element("p", { className: "filter-note" }, fill(TEXT.mostFrequent, counted)), otherValueBox(name, chosen, change));
  }
  return parts;
}

/** Build a text box for values that are too rare to be listed. */
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
    element("span", { className: "filter-count" }, count === null ? "" : writeCount(count))));
}

function shown(value, kind) {
  return kind === "boolean" ? { true: TEXT.yes, false: TEXT.no }[value] ?? value : value;
}

function rangeBoxes(name, kind, chosen, change) {
  // A date is text: a date input reports each digit of the year as a change.
  const inputs = { number: { type: "number", step: "any" }, date: { type: "text", placeholder: TEXT.dateForm } };
  const bounds = boundsOf(chosen);
  const boxes = [TEXT.least, TEXT.most].map((label, side) => {
    const box = element("input", { ...inputs[kind], value: bounds[side] });
    box.dataset.key = `${name}.${side}`;
    box.addEventListener("change", () => {
      bounds[side] = box.value;
      change(writeBounds(bounds));
    });
    return element("label", {}, element("span", {}, label), box);
  });
  return [element("div", { className: "filter-range" }, ...boxes)];
}
