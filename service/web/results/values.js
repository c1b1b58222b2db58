// The metadata of a hit: values of declared fields are buttons that filter by them.

import { button, element } from "../element.js";
import { hasRange, writeBounds } from "../form/fields.js";
import { TEXT, fill } from "../languages/text.js";

/** Return the values of a hit that its title does not repeat, and those that it does. */
export function splitValues({ metadata = {}, title = "" }) {
  const all = Object.entries(metadata).filter(([, value]) => value !== null && value !== undefined && valueText(value) !== "");
  const repeats = ([, value]) => typeof value === "string" && title.toLowerCase().includes(value.toLowerCase());
  return [all.filter((each) => !repeats(each)), all.filter(repeats)];
}

/** Build the entries of a description list.
 *
 * @param values pairs of a field and its value
 * @param choice kinds of the declared fields, the chosen filters, and what is called with a choice
 */
export function valueEntries(values, choice) {
  return values.map(([name, value]) => element("div", {},
    element("dt", { dir: "auto" }, name), element("dd", { dir: "auto" }, ...valueParts(name, value, choice))));
}

function valueParts(name, value, choice) {
  if (!choice?.fields[name]) return [valueText(value)];
  const values = Array.isArray(value) ? value : [value];
  return values.map((each) => filterButton(name, each, choice));
}

/** Build the button of a value: it sets the field's filter to the value alone, or takes it back. */
function filterButton(name, value, { fields, filters, onChoose }) {
  const words = valueText(value);
  const wanted = filterValues(value, fields[name]);
  const isChosen = filters[name]?.length === 1 && filters[name][0] === wanted[0];
  const node = button("value-button", () => onChoose(name, isChosen ? [] : wanted), words);
  node.ariaLabel = fill(TEXT.addFilter, { chosen: fill(TEXT.chosen, { field: name, value: words }) });
  node.ariaPressed = String(isChosen);
  return node;
}

function filterValues(value, kind) {
  const text = kind === "date" ? String(value).slice(0, "YYYY-MM-DD".length) : String(value);
  return hasRange(kind) ? writeBounds([text, text]) : [text];
}

export function valueText(value) {
  if (typeof value === "boolean") return value ? TEXT.yes : TEXT.no;
  if (Array.isArray(value)) return value.map(valueText).join(", ");
  return typeof value === "object" && value !== null ? JSON.stringify(value, rawBigInt) : String(value);
}

/** Write a BigInt, which `JSON.stringify` refuses, as its digits. */
function rawBigInt(name, value) {
  return typeof value === "bigint" ? JSON.rawJSON(String(value)) : value;
}
