// The hits of one question. Passages are shown as text, never parsed as HTML.

import { element } from "./element.js";
import { TEXT, fill, writeCount, writeScore } from "./text.js";

const PASSAGE_LANGUAGE = "en"; // whatever the page's own

/** Build the hits of one question.
 *
 * @param otherRanks if two questions are compared: the other question's rank by passage
 * @param {(rank: number) => void} goTo scrolls to the other question's hit of a rank
 */
export function hitItems(hits, otherRanks, goTo) {
  const scores = hits.map((hit) => hit.score);
  const lowest = Math.min(...scores);
  const range = Math.max(...scores) - lowest;
  return hits.map((hit) => {
    const item = hitItem(hit, range ? (hit.score - lowest) / range : 1);
    if (otherRanks) item.querySelector(".hit-head").after(otherRankNote(otherRanks.get(hit.passage_id), goTo));
    return item;
  });
}

function otherRankNote(rank, goTo) {
  if (!rank) return element("p", { className: "other-rank is-only-here" }, TEXT.onlyHere);
  const button = element("button", { type: "button", className: "text-button" }, fill(TEXT.otherRank, { rank: writeCount(rank) }));
  button.addEventListener("click", () => goTo(rank));
  return element("p", { className: "other-rank" }, button);
}

/** Build one hit; `relativeScore` is 0 for the lowest and 1 for the highest score of the search. */
function hitItem(hit, relativeScore) {
  const item = element("li", { className: "hit is-folded", tabIndex: -1 });
  const title = element("h2", { className: "hit-title", lang: PASSAGE_LANGUAGE, dir: "auto" }, hit.title || hit.passage_id);
  const passage = element("p", { className: "hit-text", lang: PASSAGE_LANGUAGE, dir: "auto" }, hit.text ?? "");
  item.append(
    element("span", { className: "hit-rank", ariaHidden: "true" }, writeCount(hit.rank)),
    element("div", { className: "hit-head" }, title, scoreMark(hit.score, relativeScore)),
    passage,
    foldToggle(item, title.textContent),
    metadataList({ [TEXT.passageId]: hit.passage_id, ...hit.metadata }),
  );
  for (const part of [title, passage]) foldObserver.observe(part);
  return item;
}

function scoreMark(score, relativeScore) {
  const bar = element("span", { className: "score-bar", ariaHidden: "true" }, element("span"));
  bar.firstChild.style.inlineSize = `${8 + 92 * relativeScore}%`; // the last hit keeps a visible stub
  const number = writeScore(score);
  const value = element("span", { className: "score-value", role: "img", ariaLabel: fill(TEXT.score, { score: number }) }, number);
  return element("span", { className: "score", title: TEXT.scoreHint }, bar, value);
}

// A hit has a toggle only if folding hides part of it. All reads come before all writes: one layout.
const foldObserver = new ResizeObserver((entries) => {
  const hits = new Set(entries.map(({ target }) => target.closest(".hit.is-folded")));
  hits.delete(null);
  const areCut = Array.from(hits, (hit) => [...hit.querySelectorAll(".hit-title, .hit-text")].some(isCut));
  for (const [index, hit] of [...hits].entries()) hit.querySelector(".hit-toggle").hidden = !areCut[index];
});

function isCut(part) {
  return part.scrollHeight > part.clientHeight + 1 || part.classList.contains("begins-late");
}

function foldToggle(item, title) {
  const toggle = element("button", { type: "button", className: "quiet-button hit-toggle", hidden: true });
  const write = (isFolded) => {
    toggle.textContent = isFolded ? TEXT.showPassage : TEXT.foldPassage;
    toggle.ariaLabel = fill(isFolded ? TEXT.showPassageOf : TEXT.foldPassageOf, { title });
    toggle.ariaExpanded = String(!isFolded);
  };
  toggle.addEventListener("click", () => write(item.classList.toggle("is-folded")));
  write(true);
  return toggle;
}

/** Write a BigInt, which `JSON.stringify` refuses, as its digits. */
function rawBigInt(name, value) {
  return typeof value === "bigint" ? JSON.rawJSON(String(value)) : value;
}

function metadataText(value) {
  if (typeof value === "boolean") return value ? TEXT.yes : TEXT.no;
  if (Array.isArray(value)) return value.map(metadataText).join(", ");
  return typeof value === "object" && value !== null ? JSON.stringify(value, rawBigInt) : String(value);
}

function metadataList(metadata) {
  const shown = Object.entries(metadata).filter(([, value]) => value !== null && value !== undefined && metadataText(value) !== "");
  return element("dl", { className: "metadata" }, ...shown.map(([name, value]) => element("div", {},
    element("dt", { dir: "auto" }, name), element("dd", { dir: "auto" }, metadataText(value)))));
}
