// The hits of one question. Passages are shown as text, never parsed as HTML.

import { button, element } from "../element.js";
import { TEXT, fill, plural, writeCount } from "../languages/text.js";
import { hitDetails } from "./details.js";
import { markedNodes } from "./marks.js";
import { translationButton } from "./translation.js";
import { splitValues, valueEntries } from "./values.js";

const PASSAGE_LANGUAGE = "en"; // whatever the page's own
const LEAST_RELEVANCE = { high: 0.85, good: 0.5, fair: 0.2, low: 0 };

/** Build the hits of one question.
 *
 * @param view language of the reader, and what `valueEntries` needs to filter by values
 * @param otherRanks if two questions are compared: the other question's rank by passage
 * @param {(rank: number) => void} goTo scrolls to the other question's hit of a rank
 */
export function hitItems(hits, view, otherRanks, goTo) {
  return hits.map((hit) => {
    const item = hitItem(hit, view);
    if (otherRanks) item.querySelector(".hit-head").after(otherRankNote(otherRanks.get(hit.passage_id), goTo));
    return item;
  });
}

function otherRankNote(rank, goTo) {
  if (!rank) return element("p", { className: "other-rank is-only-here" }, TEXT.onlyHere);
  const words = fill(TEXT.otherRank, { rank: writeCount(rank) });
  return element("p", { className: "other-rank" }, button("text-button", () => goTo(rank), words));
}

function hitItem(hit, { language, choice }) {
  const item = element("li", { className: "hit is-folded", tabIndex: -1 });
  const name = hit.title || hit.document_id || hit.passage_id;
  const text = (hit.text ?? "").trimEnd(); // the text of a chunk may end in empty lines
  const title = element("h2", { className: "hit-title", lang: PASSAGE_LANGUAGE, dir: "auto" }, name);
  const passage = element("p", { className: "hit-text", lang: PASSAGE_LANGUAGE, dir: "auto" },
    ...(text ? foldEnd() : []), ...markedNodes(text, isUnlikely(hit) ? null : hit.evidence, hit.matched ?? []));
  const [values, repeated] = splitValues(hit);
  item.append(
    element("span", { className: "hit-rank", ariaHidden: "true" }, writeCount(hit.rank)),
    element("div", { className: "hit-head" }, title, ...relevanceWords(hit.relevance)),
    passage,
    ...(hit.more_chunks ? [element("p", { className: "more-chunks" }, plural(TEXT.moreFromDocument, hit.more_chunks))] : []),
    element("dl", { className: "metadata" }, ...valueEntries(values, choice)),
    element("div", { className: "hit-foot" }, foldToggle(item, name), translationButton(item, text, language),
      hitDetails(hit, repeated, choice)),
  );
  for (const part of [title, passage]) foldObserver.observe(part);
  return item;
}

/** Return whether a hit is unlikely an answer, so that no part of it answers best. */
export function isUnlikely({ relevance }) {
  return typeof relevance === "number" && relevance < LEAST_RELEVANCE.fair;
}

/** Say in words how probable it is that a hit answers; nothing where the service does not know. */
function relevanceWords(relevance) {
  if (typeof relevance !== "number") return [];
  const [grade] = Object.entries(LEAST_RELEVANCE).find(([, least]) => relevance >= least);
  return [element("p", { className: `relevance is-${grade}` }, TEXT.relevance[grade])];
}

// A hit has a toggle only if folding hides part of it. All reads come between the writes: one layout.
const foldObserver = new ResizeObserver((entries) => {
  const hits = new Set(entries.map(({ target }) => target.closest(".hit.is-folded")));
  hits.delete(null);
  const parts = Array.from(hits, (hit) => [...hit.querySelectorAll(".hit-title, .hit-text")]).flat();
  for (const part of parts) part.classList.remove("is-cut"); // its ellipsis would take room
  const areCut = parts.map((part) => part.scrollHeight > part.clientHeight + 1);
  for (const [index, part] of parts.entries()) part.classList.toggle("is-cut", areCut[index]);
  for (const hit of hits) hit.querySelector(".hit-toggle").hidden = !hit.querySelector(".is-cut, .begins-late");
});

/** Build what puts an ellipsis at the end of the last line of a folded passage; it stands before the text. */
function foldEnd() {
  return ["fold-space", "fold-end"].map((className) => element("span", { className, ariaHidden: "true" }));
}

function foldToggle(item, title) {
  const toggle = button("text-button hit-toggle", () => write(item.classList.toggle("is-folded")));
  const write = (isFolded) => {
    toggle.textContent = isFolded ? TEXT.showPassage : TEXT.foldPassage;
    toggle.ariaLabel = `${toggle.textContent}: ${title}`;
    toggle.ariaExpanded = String(!isFolded);
  };
  toggle.hidden = true;
  write(true);
  return toggle;
}
