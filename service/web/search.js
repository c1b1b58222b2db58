// The search page: form and filters change the address bar, and the page searches for its state.

import { requestSearch } from "./client.js";
import { byId } from "./element.js";
import { readAddress, writeAddress } from "./form/address.js";
import { countFiltered, describeIndex, searchRequest } from "./form/fields.js";
import { listenToFilters, showFilters } from "./form/filters.js";
import { fillForm, fillQuestion, listenToForm, readForm } from "./form/form.js";
import { askKey, listenToKeyDialog } from "./form/key.js";
import { listenToKeys } from "./form/keyboard.js";
import { listenToLanguageMenu } from "./languages/menu.js";
import { TEXT, fill, writeSeconds } from "./languages/text.js";
import { listenToTabs } from "./results/comparison.js";
import { showFailure } from "./results/failures.js";
import { clearResults, setBusy, setStatus, showAnswer, showLoading } from "./results/results.js";
import { fillWords, showExamples, showFacts } from "./welcome.js";

const UNAUTHORIZED = 401;
const BRAND = document.title;

let newestSearch = null; // AbortController of the only search that may write to the page
let shownAddress = null; // location.search of what the page shows
let index = { fields: {}, hasEvidence: false }; // until it is described
let isDescribed = false;
let examples = null; // a promise, settled when they are shown
const isOptional = () => {}; // the page works without examples and facts

/** Search and show the response, unless a newer search has started. */
async function search(wanted) {
  newestSearch?.abort();
  const controller = new AbortController();
  newestSearch = controller;
  const { signal } = controller;
  const isNewest = () => newestSearch === controller;
  showLoading();
  try {
    await describeOnce(signal);
    const onWait = (seconds) => { if (isNewest()) setStatus(fill(TEXT.notReady, { time: writeSeconds(seconds) })); };
    const [answer, facets] = await Promise.all([
      requestSearch(searchRequest(wanted, index), signal, onWait),
      countFiltered(wanted, index.fields, signal),
    ]);
    if (!isNewest()) return;
    const choice = { fields: index.fields, filters: wanted.filters, onChoose: chooseValues };
    showAnswer(answer, wanted, choice, () => searchFromForm({}));
    const hits = answer.results.flatMap((result) => result.hits);
    showFilters(index.fields, { ...answer.facets, ...facets }, hits, wanted.filters, chooseValues);
  } catch (failure) {
    if (!isNewest()) return;
    clearResults();
    setStatus("");
    showFilters(index.fields, {}, [], wanted.filters, chooseValues);
    setBusy(false);
    const isGiven = failure.status === UNAUTHORIZED && await askKey();
    if (!isNewest()) return;
    if (isGiven) return searchWithKey();
    showFailure(failure, wanted.filters, searchFromAddress);
  }
  setBusy(false);
}

/** Search again, and show the facts, which need the key as well. */
function searchWithKey() {
  searchFromAddress();
  showFacts().catch(isOptional);
}

async function describeOnce(signal) {
  if (isDescribed) return;
  const described = await describeIndex(signal);
  isDescribed = described !== null;
  index = described ?? index;
}

/** Show the page without a question. */
function showNothing() {
  newestSearch?.abort();
  newestSearch = null;
  setBusy(false);
  setStatus("");
  byId("filters-toggle").hidden = true;
  byId("chosen-row").hidden = true;
  clearResults();
  examples ??= showExamples(chooseExample).catch(isOptional);
}

function searchFromAddress() {
  const wanted = readAddress();
  shownAddress = location.search;
  fillForm(wanted);
  const { classList } = document.documentElement; // early.js did the same before the first paint
  classList.toggle("has-question", Boolean(wanted.query));
  classList.toggle("is-comparing", Boolean(wanted.otherQuery));
  classList.toggle("has-filters", Object.keys(wanted.filters).length > 0);
  document.title = wanted.query ? `${wanted.query} · ${BRAND}` : BRAND;
  if (wanted.query) search(wanted);
  else showNothing();
}

/** Search for the content of the form with the chosen filters. */
function searchFromForm(filters = readAddress().filters) {
  const address = writeAddress({ ...readForm(), filters });
  if (address !== location.search) history.pushState(null, "", address || location.pathname);
  searchFromAddress();
}

function chooseValues(field, values) {
  const { [field]: former, ...others } = readAddress().filters;
  searchFromForm(values.length ? { ...others, [field]: values } : others);
}

function chooseExample(text) {
  fillQuestion(text);
  window.scrollTo(0, 0);
  searchFromForm({});
}

function onPopState() {
  if (location.search !== shownAddress) searchFromAddress(); // the skip link changes the fragment only
}

function start() {
  fillWords();
  listenToForm(() => searchFromForm());
  listenToKeys();
  listenToKeyDialog();
  listenToTabs();
  listenToFilters(() => searchFromForm({}));
  listenToLanguageMenu();
  window.addEventListener("popstate", onPopState);
  searchFromAddress();
  Promise.resolve(examples).then(showFacts).catch(isOptional); // the foot would be pushed away
}

start();
