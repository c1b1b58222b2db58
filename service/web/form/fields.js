// Declared fields of the index, and the filters and facets of a search.

import { requestFacet, requestInfo, until } from "../client.js";

const MAX_FACETS = 16; // of one request
const INFO_TIMEOUT_MS = 3_000;
const RANGE = "..";

/** Fetch what the index has: declared fields with their kinds, and evidence; null if the service does not answer. */
export async function describeIndex(signal) {
  try {
    const { index } = await until(requestInfo(), AbortSignal.any([signal, AbortSignal.timeout(INFO_TIMEOUT_MS)]));
    return index ? { fields: index.fields ?? {}, hasEvidence: Boolean(index.evidence?.available) } : null;
  } catch (failure) {
    if (failure.status === 401) throw failure;
    return null;
  }
}

/** Return the body of POST /search for the state in the address bar. */
export function searchRequest({ query, otherQuery, topK, filters }, { fields, hasEvidence }) {
  const counted = countedFields(fields).filter((name) => !filters[name]);
  return {
    ...(otherQuery ? { queries: [query, otherQuery] } : { query }),
    top_k: topK,
    ...(hasEvidence && { evidence: true }),
    filter: filterOf(filters, fields),
    ...(counted.length && { facets: counted }),
  };
}

/** Count the values of a filtered field without its own filter, so that more values can be chosen. */
export async function countFiltered({ query, filters }, fields, signal) {
  const names = countedFields(fields).filter((name) => filters[name]);
  const facets = await Promise.all(names.map((name) => {
    const { [name]: own, ...others } = filters;
    return requestFacet(query, name, filterOf(others, fields), signal);
  }));
  return Object.fromEntries(names.map((name, index) => [name, facets[index]]).filter(([, facet]) => facet));
}

/** Return the fields whose values are counted; numbers and dates are filtered by bounds instead. */
function countedFields(fields) {
  return Object.keys(fields).filter((name) => !hasRange(fields[name])).slice(0, MAX_FACETS);
}

/** Return chosen values as the `filter` of a request; undefined without any.
 *
 * @param filters lists of texts by field, as in the address bar
 * @param fields kinds of the declared fields; the service refuses any other field
 */
function filterOf(filters, fields) {
  const conditions = Object.entries(filters).map(([name, values]) => [name, conditionOf(values, fields[name])]);
  return conditions.length ? Object.fromEntries(conditions) : undefined;
}

function conditionOf(values, kind) {
  if (kind === "boolean") return values.map((value) => value === "true");
  if (!hasRange(kind)) return values;
  const [least, most] = boundsOf(values);
  if (kind === "date") return { ...(least !== "" && { gte: least }), ...(most !== "" && { lte: endOfDay(most) }) };
  return { ...(least !== "" && { gte: Number(least) }), ...(most !== "" && { lte: Number(most) }) };
}

/** Return whether values of a kind are filtered by bounds. */
export function hasRange(kind) {
  return kind === "number" || kind === "date";
}

/** Return the last moment of a day; the service reads a date alone as its midnight. */
function endOfDay(day) {
  return day.includes("T") ? day : `${day}T23:59:59.999999Z`;
}

/** Parse the bounds of a number or date: `2000..2010`, half-open as `..2010`, or one number. */
export function boundsOf([value = ""]) {
  const [least, most] = value.includes(RANGE) ? value.split(RANGE) : [value, value];
  return [least, most];
}

/** Return bounds as one value for the address bar; none if both are open. */
export function writeBounds(bounds) {
  return bounds.some(Boolean) ? [bounds.join(RANGE)] : [];
}
