// The address bar holds the state of the page, so that a search can be shared as a link.

const FIELD_PREFIX = "f."; // ?f.country=Kenya&f.year=2000..2010

/** Read the state: question, question in another language, number of hits, filter values by field. */
export function readAddress() {
  const parameters = new URLSearchParams(location.search);
  const topK = Number(parameters.get("k"));
  const filters = {};
  for (const [name, value] of parameters) {
    if (name.startsWith(FIELD_PREFIX) && value) (filters[name.slice(FIELD_PREFIX.length)] ??= []).push(value);
  }
  return {
    query: (parameters.get("q") ?? "").trim(),
    otherQuery: (parameters.get("q2") ?? "").trim(),
    topK: Number.isInteger(topK) && topK >= 1 && topK <= 1000 ? topK : 10,
    filters,
  };
}

/** Return the state as a query string; empty without a question. */
export function writeAddress({ query, otherQuery, topK, filters }) {
  if (!query) return "";
  const parameters = new URLSearchParams({ q: query, ...(otherQuery && { q2: otherQuery }), k: topK });
  for (const [field, values] of Object.entries(filters)) {
    for (const value of values) parameters.append(FIELD_PREFIX + field, value);
  }
  return `?${parameters}`;
}
