// The search page: reads the form and the address bar, searches, shows the state of the search.

import { readAddress, writeAddress } from "./address.js";
import { requestFacet, requestJson, requestSearch, SearchFailure } from "./client.js";
import { chosenItems, countedFields, filterGroups, filterOf } from "./filters.js";
import { markBestSentences } from "./highlight.js";
import { TEXT, fill, languageLabel, languageName, plural, writeCount, writeMilliseconds, writeSeconds } from "./text.js";
import { element, exampleItem, hitItems, noticeParts, timingParts, totalMilliseconds } from "./view.js";

const NUM_PLACEHOLDERS = 3;
const INFO_TIMEOUT_MS = 3_000;
const NUM_EXAMPLES_FOLDED = matchMedia("(max-width: 30rem)").matches ? 6 : 12;

const byId = (id) => document.getElementById(id);
const queryBox = byId("query");
const otherBox = byId("other-query");
const topKChoice = byId("top-k");
let newestSearch = null; // AbortController of the only search that may write to the page
let shownAddress = null; // location.search of what the page shows
let fields = null; // declared fields and their kinds, once the service has told them

// ---- States of the page

const setStatus = (text) => { byId("status").textContent = text; };

function setBusy(isBusy) {
  byId("results").setAttribute("aria-busy", String(isBusy));
  document.body.classList.toggle("is-busy", isBusy);
}

function clearResults() {
  for (const id of ["error", "no-hits", "timing", "column-heading", "other-column"]) byId(id).hidden = true;
  byId("hits").replaceChildren();
  byId("other-hits").replaceChildren();
}

function showParts(id, parts) {
  byId(id).replaceChildren(...parts);
  byId(id).hidden = false;
}

function showEmpty() {
  newestSearch?.abort();
  newestSearch = null;
  setBusy(false);
  setStatus("");
  byId("filters").hidden = true;
  clearResults();
}

/** Earlier hits stay, dimmed, until the next ones are there; without any there are placeholders. */
function showLoading() {
  setBusy(true);
  byId("error").hidden = true;
  byId("no-hits").hidden = true;
  if (byId("hits").children.length) return;
  const placeholder = () => element("li", { className: "placeholder", ariaHidden: "true" });
  byId("hits").replaceChildren(...Array.from({ length: NUM_PLACEHOLDERS }, placeholder));
}

function showAnswer(answer, wanted, signal) {
  const [{ hits, language }, other] = answer.results;
  clearResults();
  if (answer.took_ms) showParts("timing", timingParts(answer.took_ms));
  if (!hits.length && !other?.hits.length) showNoHits(wanted);
  if (other) {
    showComparison({ hits, language }, other, answer.took_ms);
  } else {
    setStatus(summary(hits.length, language, answer.took_ms));
    byId("hits").replaceChildren(...hitItems(hits));
  }
  markBestSentences(wanted.query, byId("hits").querySelectorAll(".hit-text"), signal);
  if (other) markBestSentences(wanted.otherQuery, byId("other-hits").querySelectorAll(".hit-text"), signal);
}

function showNoHits({ filters }) {
  const isFiltered = Object.keys(filters).length > 0;
  showParts("no-hits", noticeParts(TEXT.noHitsTitle, isFiltered ? TEXT.noHitsFiltered : TEXT.noHitsDetail));
}

function showComparison(one, other, tookMs) {
  const ranks = ({ hits }) => new Map(hits.map((hit) => [hit.passage_id, hit.rank]));
  const [ours, theirs] = [ranks(one), ranks(other)];
  const numCommon = one.hits.filter((hit) => theirs.has(hit.passage_id)).length;
  byId("hits").replaceChildren(...hitItems(one.hits, theirs));
  byId("other-hits").replaceChildren(...hitItems(other.hits, ours));
  showParts("column-heading", [columnHeading(one)]);
  byId("other-column-heading").replaceChildren(columnHeading(other));
  byId("other-column").hidden = false;
  setStatus(`${summary(one.hits.length, "", tookMs)}, ${plural(TEXT.common, numCommon)}`);
}

function columnHeading({ language, hits }) {
  return fill(TEXT.columnHits, { language: languageName(language), hits: plural(TEXT.hits, hits.length) });
}

function summary(numHits, language, tookMs) {
  const hits = plural(TEXT.hits, numHits);
  const found = tookMs ? fill(TEXT.hitsInTime, { hits, time: writeMilliseconds(totalMilliseconds(tookMs)) }) : hits;
  return language ? `${found}, ${languageLabel(language)}` : found;
}

/** Show the filters again; the control that was used keeps the focus. */
function showFilters(facets, { filters }) {
  const key = document.activeElement?.dataset.key;
  const numChosen = Object.values(filters).flat().length;
  byId("filters").hidden = !Object.keys(fields ?? {}).length && !numChosen;
  byId("filters-summary").textContent = numChosen ? plural(TEXT.filtersChosen, numChosen) : TEXT.filters;
  byId("clear-filters").hidden = !numChosen;
  byId("chosen").replaceChildren(...chosenItems(fields ?? {}, filters, chooseValues));
  byId("filter-groups").replaceChildren(...filterGroups(fields ?? {}, facets, filters, chooseValues));
  if (key) byId("filter-groups").querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

function showFailure(failure) {
  const known = failure instanceof SearchFailure ? failure
    : new SearchFailure({ title: TEXT.unexpectedTitle, detail: TEXT.unexpectedDetail });
  const lines = [known.detail];
  if (known.field) lines.push(fill(TEXT.field, { field: known.field }));
  if (known.retryAfterSeconds) lines.push(fill(TEXT.retryAfter, { time: writeSeconds(known.retryAfterSeconds) }));
  clearResults();
  setStatus("");
  showParts("error", noticeParts(known.title, ...lines));
  if (known.mayPass) byId("error").append(retryButton(known.retryAfterSeconds));
}

function retryButton(waitSeconds) {
  const isWaiting = waitSeconds > 0;
  const button = element("button", { id: "retry", type: "button", className: "quiet-button", disabled: isWaiting }, TEXT.retryButton);
  if (isWaiting) setTimeout(() => { button.disabled = false; }, waitSeconds * 1000);
  button.addEventListener("click", searchFromAddress);
  return button;
}

// ---- Searching

/** Search and show what comes back, unless a newer search has begun meanwhile. */
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
      requestSearch(requestOf(wanted), controller, onStatus),
      chosenFacets(wanted, controller.signal),
    ]);
    if (!isNewest()) return;
    showAnswer(answer, wanted, controller.signal);
    showFilters({ ...answer.facets, ...facets }, wanted);
  } catch (failure) {
    if (!isNewest()) return;
    showFailure(failure);
    showFilters({}, wanted);
  }
  setBusy(false);
}

function requestOf({ query, otherQuery, topK, filters }) {
  const counted = countedFields(fields ?? {}).filter((name) => !filters[name]);
  return {
    ...(otherQuery ? { queries: [query, otherQuery] } : { query }),
    top_k: topK,
    filter: filterOf(filters, fields ?? {}),
    ...(counted.length && { facets: counted }),
  };
}

/** Count a field that is filtered by as if it were not, so that more of its values can be chosen. */
async function chosenFacets({ query, filters }, signal) {
  const names = countedFields(fields ?? {}).filter((name) => filters[name]);
  const facets = await Promise.all(names.map((name) => {
    const { [name]: own, ...others } = filters;
    return requestFacet(query, name, filterOf(others, fields ?? {}), signal);
  }));
  return Object.fromEntries(names.map((name, index) => [name, facets[index]]).filter(([, facet]) => facet));
}

/** Ask which fields there are; where the service does not tell now, the next search asks again. */
async function declaredFields(signal) {
  try {
    const { index } = await requestJson("info", AbortSignal.any([signal, AbortSignal.timeout(INFO_TIMEOUT_MS)]), true);
    return index?.fields ?? null;
  } catch (failure) {
    if (failure.status === 401) throw failure;
    return null;
  }
}

function chooseTopK(topK) {
  const isOffered = [...topKChoice.options].some((option) => Number(option.value) === topK);
  if (!isOffered) topKChoice.add(new Option(topK, topK));
  topKChoice.value = topK;
}

function setComparing(isComparing) {
  byId("other-row").hidden = !isComparing;
  byId("compare").hidden = isComparing;
  byId("compare").ariaExpanded = String(isComparing);
}

function searchFromAddress() {
  const wanted = readAddress();
  shownAddress = location.search;
  queryBox.value = wanted.query;
  otherBox.value = wanted.otherQuery;
  setComparing(Boolean(wanted.otherQuery));
  document.body.classList.toggle("has-question", Boolean(wanted.query));
  document.body.classList.toggle("is-comparing", Boolean(wanted.otherQuery));
  chooseTopK(wanted.topK);
  document.title = wanted.query ? `${wanted.query} · ${TEXT.brand}` : TEXT.brand;
  if (wanted.query) search(wanted);
  else showEmpty();
}

/** Search for what the form holds, with the filters that are chosen. */
function searchFromForm(filters = readAddress().filters) {
  const address = writeAddress({
    query: queryBox.value.trim(), otherQuery: otherBox.value.trim(), topK: topKChoice.value, filters,
  });
  if (address !== location.search) history.pushState(null, "", address || location.pathname);
  searchFromAddress();
}

function chooseValues(field, values) {
  const { [field]: former, ...others } = readAddress().filters;
  searchFromForm(values.length ? { ...others, [field]: values } : others);
}

// ---- What people do

function onSubmit(event) {
  event.preventDefault();
  if (matchMedia("(pointer: coarse)").matches) document.activeElement.blur(); // folds a phone's keyboard away
  searchFromForm();
}

function onChooseExample(text) {
  queryBox.value = text;
  otherBox.value = "";
  window.scrollTo(0, 0);
  if (matchMedia("(pointer: fine)").matches) queryBox.focus({ preventScroll: true });
  searchFromForm({});
}

function onCompare() {
  setComparing(true);
  otherBox.focus();
}

function onEndCompare() {
  const wasComparing = Boolean(readAddress().otherQuery);
  otherBox.value = "";
  setComparing(false);
  byId("compare").focus();
  if (wasComparing) searchFromForm();
}

function onPopState() {
  if (location.search !== shownAddress) searchFromAddress(); // the skip link changes the fragment only
}

/** "/" goes to the box; arrows walk from the box through the hits and back. */
function onKeyDown(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const place = document.activeElement;
  if (event.key === "/" && !place.matches("input, select, textarea")) {
    event.preventDefault();
    queryBox.select();
    return;
  }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const stops = [queryBox, ...document.querySelectorAll(".hit")];
  const next = step && stops.includes(place) && stops[stops.indexOf(place) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

// ---- The page itself

function fillWords() {
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = TEXT[node.dataset.text];
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", TEXT[node.dataset.label]);
}

async function showExamples() {
  const examples = await requestJson("web/examples.json");
  const items = examples.map((example) => exampleItem(example, onChooseExample));
  const toggle = byId("all-examples");
  const setFolded = (isFolded) => {
    for (const item of items.slice(NUM_EXAMPLES_FOLDED)) item.hidden = isFolded;
    toggle.ariaExpanded = String(!isFolded);
    toggle.textContent = isFolded ? fill(TEXT.showAllExamples, { count: writeCount(items.length) }) : TEXT.showFewerExamples;
  };
  toggle.addEventListener("click", () => setFolded(toggle.ariaExpanded === "true"));
  setFolded(true);
  byId("example-list").replaceChildren(...items);
  byId("examples").hidden = false;
}

async function showFacts() {
  const { encoder, index, version } = await requestJson("info");
  if (Number.isFinite(index?.passages)) {
    byId("introduction").textContent = fill(TEXT.introductionWithIndex, { passages: writeCount(index.passages) });
  }
  const facts = [
    encoder?.name && fill(TEXT.encoderFact, { name: encoder.name }),
    encoder?.dimension && fill(TEXT.dimensionFact, { count: writeCount(encoder.dimension) }),
    index?.generation && fill(TEXT.indexFact, { generation: String(index.generation).slice(0, 12) }),
    version && fill(TEXT.versionFact, { version }),
  ];
  byId("facts").replaceChildren(...facts.filter(Boolean).map((fact) => element("span", {}, fact)));
}

function start() {
  fillWords();
  byId("search-form").addEventListener("submit", onSubmit);
  byId("compare").addEventListener("click", onCompare);
  byId("end-compare").addEventListener("click", onEndCompare);
  byId("clear-filters").addEventListener("click", () => searchFromForm({}));
  topKChoice.addEventListener("change", () => { if (queryBox.value.trim()) searchFromForm(); });
  document.addEventListener("keydown", onKeyDown);
  window.addEventListener("popstate", onPopState);
  const isOptional = () => {}; // the page works without examples and facts
  showExamples().catch(isOptional);
  showFacts().catch(isOptional);
  searchFromAddress();
}

start();
