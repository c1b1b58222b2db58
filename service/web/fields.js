// The fields that the index declares, and what a search asks of them.

import { requestFacet, requestJson } from "./client.js";

const MAX_FACETS = 16; // of one request
const INFO_TIMEOUT_MS = 3_000;
const RANGE = "..";

/** Ask which fields there are and of what kinds; null where the service does not tell now. */
export async function declaredFields(signal) {
  try {
    const { index } = await requestJson("info", AbortSignal.any([signal, AbortSignal.timeout(INFO_TIMEOUT_MS)]));
    return index?.fields ?? null;
  } catch (failure) {
    if (failure.status === 401) throw failure;
    return null;
  }
}

/** Write the body of POST /search for what the address holds. */
export function searchRequest({ query, otherQuery, topK, filters }, fields) {
  const counted = countedFields(fields).filter((name) => !filters[name]);
  return {
    ...(otherQuery ? { queries: [query, otherQuery] } : { query }),
    top_k: topK,
    filter: filterOf(filters, fields),
    ...(counted.length && { facets: counted }),
  };
}

/** Count a field that is filtered by as if it were not, so that more of its values can be chosen. */
export async function countFiltered({ query, filters }, fields, signal) {
  const names = countedFields(fields).filter((name) => filters[name]);
  const facets = await Promise.all(names.map((name) => {
    const { [name]: own, ...others } = filters;
    return requestFacet(query, name, filterOf(others, fields), signal);
  }));
  return Object.fromEntries(names.map((name, index) => [name, facets[index]]).filter(([, facet]) => facet));
}

/** Name the fields whose values are worth counting: numbers are filtered by their bounds. */
function countedFields(fields) {
  return Object.keys(fields).filter((name) => fields[name] !== "number").slice(0, MAX_FACETS);
}

/** Write chosen values as the `filter` of a request; undefined without any.
 *
 * @param filters lists of texts by field, as the address has them
 * @param fields the kinds of the declared fields; any other is left for the service to refuse
 */
function filterOf(filters, fields) {
  const conditions = Object.entries(filters).map(([name, values]) => [name, conditionOf(values, fields[name])]);
  return conditions.length ? Object.fromEntries(conditions) : undefined;
}

function conditionOf(values, kind) {
  if (kind === "boolean") return values.map((value) => value === "true");
  if (kind !== "number") return values;
  const [least, most] = boundsOf(values);
  return { ...(least !== "" && { gte: Number(least) }), ...(most !== "" && { lte: Number(most) }) };
}

/** Read the bounds of a number: `2000..2010`, open at an end as `..2010`, or one number. */
export function boundsOf([value = ""]) {
  const [least, most] = value.includes(RANGE) ? value.split(RANGE) : [value, value];
  return [least, most];
}

/** Write bounds as the one value that the address has; none where both are open. */
export function writeBounds(bounds) {
  return bounds.some(Boolean) ? [bounds.join(RANGE)] : [];
}
