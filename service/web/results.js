// The results and their states: idle, loading, shown, empty, failed.

import { SearchFailure } from "./client.js";
import { clearComparison, showComparison } from "./comparison.js";
import { byId, element, showParts } from "./element.js";
import { markLanguages } from "./form.js";
import { markBestSentences } from "./highlight.js";
import { hitItems } from "./hits.js";
import { TEXT, fill, languageLabel, languageOf, plural, poorLanguageNote, writeMilliseconds, writeSeconds } from "./text.js";
import { timingParts, totalMilliseconds } from "./timing.js";

const NUM_PLACEHOLDERS = 3;

export const setStatus = (text) => { byId("status").textContent = text; };

export function setBusy(isBusy) {
  byId("results").setAttribute("aria-busy", String(isBusy));
  document.body.classList.toggle("is-busy", isBusy);
}

export function clearResults() {
  for (const id of ["error", "no-hits", "not-answered", "timing", "language-note"]) byId(id).hidden = true;
  byId("hits").replaceChildren();
  clearComparison();
}

/** Show the loading state: dim the earlier hits, or show placeholders if there are none. */
export function showLoading() {
  setBusy(true);
  byId("error").hidden = true;
  byId("no-hits").hidden = true;
  if (byId("hits").children.length) return;
  const placeholder = () => element("li", { className: "placeholder", ariaHidden: "true" });
  byId("hits").replaceChildren(...Array.from({ length: NUM_PLACEHOLDERS }, placeholder));
}

/** Show a response of POST /search; `signal` stops the marking of sentences. */
export function showAnswer(answer, wanted, signal) {
  const [one, other] = answer.results;
  const questions = other ? [wanted.query, wanted.otherQuery] : [wanted.query];
  const languages = questions.map((question, side) => languageOf(question, answer.results[side].language));
  clearResults();
  markLanguages(...languages);
  if (answer.took_ms) showParts("timing", timingParts(answer.took_ms));
  const poor = languages.filter((language, side) => language && answer.results[side].language_quality === "poor");
  if (poor.length) showParts("language-note", poor.map((language) => element("p", {}, poorLanguageNote(language))));
  if (!one.hits.length && !other?.hits.length) showNoHits(wanted);
  if (other) {
    const numCommon = showComparison([one, other], questions, languages);
    setStatus(`${summary(one.hits.length, "", answer.took_ms)}, ${plural(TEXT.common, numCommon)}`);
  } else {
    setStatus(summary(one.hits.length, languages[0], answer.took_ms));
    byId("not-answered").hidden = one.answered !== false || !one.hits.length;
    byId("hits").replaceChildren(...hitItems(one.hits));
  }
  markBestSentences(wanted.query, byId("hits").querySelectorAll(".hit-text"), signal);
  if (other) markBestSentences(wanted.otherQuery, byId("other-hits").querySelectorAll(".hit-text"), signal);
}

function showNoHits({ filters }) {
  const isFiltered = Object.keys(filters).length > 0;
  showParts("no-hits", noticeParts(TEXT.noHitsTitle, isFiltered ? TEXT.noHitsFiltered : TEXT.noHitsDetail));
}

function summary(numHits, language, tookMs) {
  const hits = plural(TEXT.hits, numHits);
  const found = tookMs ? fill(TEXT.hitsInTime, { hits, time: writeMilliseconds(totalMilliseconds(tookMs)) }) : hits;
  return language ? `${found}, ${languageLabel(language)}` : found;
}

/** Show an error; if the same request may succeed later, `onRetry` sends it again. */
export function showFailure(failure, onRetry) {
  const known = failure instanceof SearchFailure ? failure
    : new SearchFailure({ title: TEXT.unexpectedTitle, detail: TEXT.unexpectedDetail });
  const lines = [known.detail];
  if (known.field) lines.push(fill(TEXT.field, { field: known.field }));
  if (known.retryAfterSeconds) lines.push(fill(TEXT.retryAfter, { time: writeSeconds(known.retryAfterSeconds) }));
  clearResults();
  setStatus("");
  showParts("error", noticeParts(known.title, ...lines));
  if (known.mayPass) byId("error").append(retryButton(known.retryAfterSeconds, onRetry));
}

function noticeParts(title, ...lines) {
  return [element("h2", {}, title), ...lines.map((line) => element("p", { dir: "auto" }, line))];
}

function retryButton(waitSeconds, onRetry) {
  const isWaiting = waitSeconds > 0;
  const button = element("button", { id: "retry", type: "button", className: "quiet-button", disabled: isWaiting }, TEXT.retryButton);
  if (isWaiting) setTimeout(() => { button.disabled = false; }, waitSeconds * 1000);
  button.addEventListener("click", onRetry);
  return button;
}
