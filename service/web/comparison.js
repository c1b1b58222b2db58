// Two questions' hits side by side: which passages did both find, and at which rank?

import { byId, showParts } from "./element.js";
import { hitItems } from "./hits.js";
import { TEXT, fill, languageName, plural } from "./text.js";

/** Show both; returns the number of passages that both found. */
export function showComparison(one, other) {
  const ranks = ({ hits }) => new Map(hits.map((hit) => [hit.passage_id, hit.rank]));
  const [ours, theirs] = [ranks(one), ranks(other)];
  byId("hits").replaceChildren(...hitItems(one.hits, theirs));
  byId("other-hits").replaceChildren(...hitItems(other.hits, ours));
  showParts("column-heading", [columnHeading(one)]);
  byId("other-column-heading").replaceChildren(columnHeading(other));
  byId("other-column").hidden = false;
  return one.hits.filter((hit) => theirs.has(hit.passage_id)).length;
}

export function clearComparison() {
  byId("column-heading").hidden = true;
  byId("other-column").hidden = true;
  byId("other-hits").replaceChildren();
}

function columnHeading({ language, hits }) {
  return fill(TEXT.columnHits, { language: languageName(language), hits: plural(TEXT.hits, hits.length) });
}
