// The results and their states: idle, loading, shown, empty.

import { button, byId, element, noticeParts, showParts } from "../element.js";
import { markLanguages } from "../form/form.js";
import { TEXT, languageLabel, languageOf, plural, poorLanguageNote } from "../languages/text.js";
import { clearComparison, showComparison } from "./comparison.js";
import { hitItems, isUnlikely } from "./hits.js";
import { unfoldToMarks } from "./marks.js";
import { showTiming } from "./timing.js";

export const setStatus = (text) => { byId("status").textContent = text; };

export function setBusy(isBusy) {
  byId("results").setAttribute("aria-busy", String(isBusy));
  document.body.classList.toggle("is-busy", isBusy);
}

export function clearResults() {
  for (const id of ["error", "no-hits", "not-answered", "timing", "search-notes", "placeholders"]) byId(id).hidden = true;
  byId("hits").replaceChildren();
  clearComparison();
}

/** Show the loading state: dim the earlier hits, or show placeholders if there are none. */
export function showLoading() {
  setBusy(true);
  byId("error").hidden = true;
  byId("no-hits").hidden = true;
  setStatus(TEXT.searching);
  byId("placeholders").hidden = byId("hits").children.length > 0;
}

/** Show a response of POST /search.
 *
 * @param wanted the state in the address bar
 * @param choice kinds of the declared fields, the chosen filters, and what is called with a choice
 * @param {() => void} onWithoutFilters searches without filters
 */
export function showAnswer(answer, wanted, choice, onWithoutFilters) {
  const [one, other] = answer.results;
  const questions = other ? [wanted.query, wanted.otherQuery] : [wanted.query];
  const languages = answer.results.map(languageOf);
  const views = languages.map((language) => ({ language: language || document.documentElement.lang, choice }));
  clearResults();
  markLanguages(...languages);
  showNotes(answer.results, languages);
  if (!one.hits.length && !other?.hits.length) showNoHits(wanted, onWithoutFilters);
  if (other) {
    const numCommon = showComparison([one, other], questions, languages, views);
    setStatus(`${plural(TEXT.hits, one.hits.length)} · ${plural(TEXT.common, numCommon)}`);
  } else {
    const hits = plural(TEXT.hits, one.hits.length);
    setStatus(languages[0] ? `${hits} · ${languageLabel(languages[0])}` : hits);
    if (one.answered === false && one.hits.length) {
      showParts("not-answered", [isUnlikely(one.hits[0]) ? TEXT.notAnswered : TEXT.perhapsAnswered]);
    }
    byId("hits").replaceChildren(...hitItems(one.hits, views[0]));
  }
  if (answer.took_ms) showTiming(answer.took_ms);
  unfoldToMarks(document.querySelectorAll(".hits .hit-text:has(mark)"));
}

/** Tell of languages in which questions find less, and of questions that were cut. */
function showNotes(results, languages) {
  const poor = languages.filter((language, side) => language && results[side].language_quality === "poor");
  const notes = poor.map(poorLanguageNote);
  if (results.some((result) => result.truncated)) notes.push(TEXT.questionCut);
  if (notes.length) showParts("search-notes", notes.map((note) => element("p", {}, note)));
}

function showNoHits({ filters }, onWithoutFilters) {
  if (!Object.keys(filters).length) return showParts("no-hits", noticeParts(TEXT.noHitsTitle, TEXT.noHitsDetail));
  const without = button("quiet-button", onWithoutFilters, TEXT.withoutFilters);
  return showParts("no-hits", [...noticeParts(TEXT.noHitsTitle, TEXT.noHitsFiltered), without]);
}
