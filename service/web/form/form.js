// The form: question, question in another language, number of hits.

import { readAddress } from "./address.js";
import { byId } from "../element.js";

const queryBox = byId("query");
const otherBox = byId("other-query");
const topKChoice = byId("top-k");

export function readForm() {
  return { query: queryBox.value.trim(), otherQuery: otherBox.value.trim(), topK: topKChoice.value };
}

export function fillForm({ query, otherQuery, topK }) {
  queryBox.value = query;
  otherBox.value = otherQuery;
  markLanguages();
  showOtherBox(Boolean(otherQuery));
  const isOffered = [...topKChoice.options].some((option) => Number(option.value) === topK);
  if (!isOffered) topKChoice.add(new Option(topK, topK));
  topKChoice.value = topK;
}

/** Set the question, as if it had been typed. */
export function fillQuestion(text) {
  queryBox.value = text;
  otherBox.value = "";
  if (matchMedia("(pointer: fine)").matches) queryBox.focus({ preventScroll: true });
}

/** Set the languages of the questions, for fonts and screen readers; "" is unknown. */
export function markLanguages(language = "", otherLanguage = "") {
  queryBox.lang = language;
  otherBox.lang = otherLanguage;
}

function showOtherBox(isShown) {
  byId("other-row").hidden = !isShown;
  byId("compare").hidden = isShown;
  byId("compare").ariaExpanded = String(isShown);
}

function onSubmit(event, onAsk) {
  event.preventDefault();
  if (matchMedia("(pointer: coarse)").matches) document.activeElement.blur(); // folds a phone's keyboard away
  onAsk();
}

function onCompare() {
  showOtherBox(true);
  otherBox.focus();
}

function onEndCompare(onAsk) {
  const wasComparing = Boolean(readAddress().otherQuery);
  otherBox.value = "";
  showOtherBox(false);
  byId("compare").focus();
  if (wasComparing) onAsk();
}

/** @param {() => void} onAsk called when the content of the form is to be searched for */
export function listenToForm(onAsk) {
  byId("search-form").addEventListener("submit", (event) => onSubmit(event, onAsk));
  byId("compare").addEventListener("click", onCompare);
  byId("end-compare").addEventListener("click", () => onEndCompare(onAsk));
  for (const box of [queryBox, otherBox]) box.addEventListener("input", () => { box.lang = ""; });
  topKChoice.addEventListener("change", () => { if (queryBox.value.trim()) onAsk(); });
}
