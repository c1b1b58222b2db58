// Compares the hits of two questions: passages that both found, and their ranks. Columns are side by side;
// on narrow screens tabs switch between them and keep the rank in view.

import { byId, element } from "../element.js";
import { hitItems } from "./hits.js";
import { TEXT, languageName, plural } from "../languages/text.js";

const roomForTwo = matchMedia("(min-width: 60rem)"); // as in style.css
const tabs = [byId("column-tab"), byId("other-column-tab")];
const columns = [byId("column"), byId("other-column")];
const headings = [byId("column-heading"), byId("other-column-heading")];
const lists = [byId("hits"), byId("other-hits")];
let isComparing = false;
let front = 0; // the column that is seen where there is room for one
let compared = ""; // the questions; others begin with the first column

/** Show both results and return the number of passages that both found.
 *
 * @param languages languages of the questions, "" if unknown; if they differ, they name the columns
 * @param views what `hitItems` needs, of each question
 */
export function showComparison(results, questions, languages, views) {
  const ranks = results.map(({ hits }) => new Map(hits.map((hit) => [hit.passage_id, hit.rank])));
  const areTold = languages.every(Boolean) && languages[0] !== languages[1];
  const names = areTold ? languages.map(languageName) : questions;
  for (const [side, { hits }] of results.entries()) {
    const goTo = (rank) => goToHit(1 - side, rank);
    lists[side].replaceChildren(...hitItems(hits, views[side], ranks[1 - side], goTo));
    for (const node of [headings[side], tabs[side]]) node.replaceChildren(...columnLabel(names[side], hits.length));
  }
  if (compared !== questions.join("\n")) front = 0;
  compared = questions.join("\n");
  isComparing = true;
  arrange();
  return results[0].hits.filter((hit) => ranks[1].has(hit.passage_id)).length;
}

export function clearComparison() {
  lists[1].replaceChildren();
  isComparing = false;
  arrange();
}

export function listenToTabs() {
  for (const [side, tab] of tabs.entries()) {
    tab.addEventListener("click", () => bringToFront(side));
    tab.addEventListener("keydown", onTabKey);
  }
  roomForTwo.addEventListener("change", arrange);
}

function columnLabel(name, numHits) {
  return [element("bdi", { className: "column-name" }, name), " ",
    element("span", { className: "column-count" }, plural(TEXT.hits, numHits))];
}

function arrange() {
  const hasTabs = isComparing && !roomForTwo.matches;
  byId("column-tabs").hidden = !hasTabs;
  for (const [side, column] of columns.entries()) {
    const isFront = side === front;
    headings[side].hidden = !isComparing || hasTabs;
    column.hidden = isComparing ? hasTabs && !isFront : side !== 0;
    column.role = hasTabs ? "tabpanel" : null;
    if (isComparing) column.setAttribute("aria-labelledby", (hasTabs ? tabs : headings)[side].id);
    else column.removeAttribute("aria-labelledby");
    tabs[side].ariaSelected = String(isFront);
    tabs[side].tabIndex = isFront ? 0 : -1;
  }
}

/** Scroll the other column's hit of the same rank to the place of the hit in view. */
function bringToFront(side) {
  if (side === front) return;
  const { bottom } = byId("column-tabs").getBoundingClientRect();
  const top = (hit) => hit.getBoundingClientRect().top;
  const index = [...lists[front].children].findLastIndex((hit) => top(hit) < bottom + (innerHeight - bottom) / 4);
  const place = index > 0 ? Math.max(top(lists[front].children[index]), bottom) : 0;
  front = side;
  arrange();
  const twin = place && (lists[side].children[index] ?? lists[side].lastElementChild);
  if (twin) window.scrollBy(0, top(twin) - place);
}

function goToHit(side, rank) {
  if (!roomForTwo.matches) bringToFront(side);
  const hit = lists[side].children[rank - 1];
  hit.scrollIntoView({ block: "center" });
  hit.focus({ preventScroll: true });
  hit.classList.add("is-sought");
  hit.addEventListener("animationend", () => hit.classList.remove("is-sought"), { once: true });
}

function onTabKey(event) {
  const isRightToLeft = getComputedStyle(event.currentTarget).direction === "rtl";
  const [next, previous] = isRightToLeft ? ["ArrowLeft", "ArrowRight"] : ["ArrowRight", "ArrowLeft"];
  const side = { [next]: 1 - front, [previous]: 1 - front, Home: 0, End: 1 }[event.key];
  if (side === undefined) return;
  event.preventDefault();
  bringToFront(side);
  tabs[side].focus({ preventScroll: true });
}
