// What few readers need of a hit, folded: ids with a button that copies them, probability, similarity.

import { button, element } from "../element.js";
import { TEXT, writePercent, writeScore } from "../languages/text.js";
import { valueEntries } from "./values.js";

const COPIED_MS = 2_000;

export function hitDetails(hit, values, choice) {
  const entries = [
    idEntry(TEXT.passageId, hit.passage_id),
    ...(hit.document_id ? [idEntry(TEXT.documentId, hit.document_id)] : []),
    ...(typeof hit.relevance === "number" ? [entry(TEXT.probability, "relevance-value", writePercent(hit.relevance))] : []),
    entry(TEXT.similarity, "score-value", writeScore(hit.score)),
    ...valueEntries(values, choice),
  ];
  return element("details", { className: "hit-details" }, element("summary", {}, TEXT.details),
    element("dl", {}, ...entries));
}

function entry(label, className, ...parts) {
  return element("div", {}, element("dt", {}, label), element("dd", { className }, ...parts));
}

function idEntry(label, id) {
  const copy = button("text-button", async () => {
    await navigator.clipboard.writeText(id);
    copy.textContent = TEXT.copied;
    setTimeout(() => { copy.textContent = TEXT.copy; }, COPIED_MS);
  }, TEXT.copy);
  const parts = [element("code", { dir: "ltr" }, id)];
  if (navigator.clipboard) parts.push(" ", copy); // browsers have it at https and localhost only
  return entry(label, "hit-id", ...parts);
}
