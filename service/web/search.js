// The search page: form and filters change the address bar, and the page searches for its state.

import { readAddress, writeAddress } from "./address.js";
import { requestSearch } from "./client.js";
import { listenToTabs } from "./comparison.js";
import { byId } from "./element.js";
import { countFiltered, declaredFields, searchRequest } from "./fields.js";
import { showFilters } from "./filters.js";
import { fillForm, fillQuestion, listenToForm, readForm } from "./form.js";
import { askKey, listenToKeyDialog } from "./key.js";
import { listenToKeys } from "./keyboard.js";
import { clearResults, setBusy, setStatus, showAnswer, showFailure, showLoading } from "./results.js";
import { TEXT } from "./text.js";
import { fillWords, showExamples, showFacts } from "./welcome.js";

const UNAUTHORIZED = 401;

let newestSearch = null; // AbortController of the only search that may write to the page
let shownAddress = null; // location.search of what the page shows
let fields = null; // declared fields and their kinds, once they are loaded

/** Search and show the response, unless a newer search has started. */
async function search(wanted) {
  newestSearch?.abort();
  const controller = new AbortController();
  newestSearch = controller;
  const isNewest = () => newestSearch === controller;
  showLoading();
  try {
    const onStatus = (text) => { if (isNewest()) setStatus(text); };
    fields ??= await declaredFields(controller.signal);
    const [answer, facets] = await Promise.all([
      requestSearch(searchRequest(wanted, fields ?? {}), controller, onStatus),
      countFiltered(wanted, fields ?? {}, controller.signal),
    ]);
    if (!isNewest()) return;
    showAnswer(answer, wanted, controller.signal);
    showFilters(fields ?? {}, { ...answer.facets, ...facets }, wanted.filters, chooseValues);
  } catch (failure) {
    if (!isNewest()) return;
    showFailure(failure, searchFromAddress);
    if (failure.status === UNAUTHORIZED) askKey().then((isGiven) => { if (isGiven) searchFromAddress(); });
    showFilters(fields ?? {}, {}, wanted.filters, chooseValues);
  }
  setBusy(false);
}

/** Show the page without a question. */
function showNothing() {
  newestSearch?.abort();
  newestSearch = null;
  setBusy(false);
  setStatus("");
  byId("filters").hidden = true;
  clearResults();
}

function searchFromAddress() {
  const wanted = readAddress();
  shownAddress = location.search;
  fillForm(wanted);
  document.body.classList.toggle("has-question", Boolean(wanted.query));
  document.body.classList.toggle("is-comparing", Boolean(wanted.otherQuery));
  document.title = wanted.query ? `${wanted.query} · ${TEXT.brand}` : TEXT.brand;
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
  byId("clear-filters").addEventListener("click", () => searchFromForm({}));
  window.addEventListener("popstate", onPopState);
  const isOptional = () => {}; // the page works without examples and facts
  showExamples(chooseExample).catch(isOptional);
  showFacts().catch(isOptional);
  searchFromAddress();
}

start();
