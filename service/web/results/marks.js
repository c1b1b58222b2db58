// Marks in the text of a passage: the evidence that the service found, and identifiers of the question.

import { element } from "../element.js";

/** Build the nodes of a text.
 *
 * @param evidence start and end of the part that answers best, in Unicode characters; null if none stands out
 * @param {string[]} identifiers words of the question that the passage holds, such as AA-1720
 */
export function markedNodes(text, evidence, identifiers) {
  if (!evidence) return withIdentifiers(text, identifiers);
  const [start, end] = [evidence.start, evidence.end].map((characters) => unitsOf(text, characters));
  return [
    element("span", { className: "before-mark" }, ...withIdentifiers(text.slice(0, start), identifiers)),
    element("mark", {}, ...withIdentifiers(text.slice(start, end), identifiers)),
    ...withIdentifiers(text.slice(end), identifiers),
  ];
}

/** Return where a Unicode character begins in a string of UTF-16. */
function unitsOf(text, characters) {
  let units = 0;
  for (let index = 0; index < characters && units < text.length; index++) {
    units += text.codePointAt(units) > 0xffff ? 2 : 1;
  }
  return units;
}

function withIdentifiers(text, identifiers) {
  if (!identifiers.length) return [text];
  const words = identifiers.map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|");
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(${words})(?![\\p{L}\\p{N}])`, "giu");
  return text.split(pattern).map((part, index) => (index % 2 ? element("b", { className: "matched" }, part) : part));
}

/** Begin each folded passage with its mark if the fold would hide it. All reads come before all writes: one layout. */
export function unfoldToMarks(passages) {
  const marks = Array.from(passages, (passage) => passage.querySelector("mark"));
  const areHidden = marks.map((mark) => {
    const passage = mark?.closest(".hit-text");
    return mark && mark.offsetTop + mark.offsetHeight > passage.offsetTop + passage.clientHeight + 1;
  });
  for (const [index, mark] of marks.entries()) {
    if (areHidden[index]) mark.closest(".hit-text").classList.add("begins-late");
  }
}
