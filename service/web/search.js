// The search page: reads the form and the address bar, searches, shows the state of the search.

import { requestJson, requestSearch, SearchFailure } from "./client.js";
import { TEXT, fill, languageLabel, plural, writeCount, writeMilliseconds, writeSeconds } from "./text.js";
import { element, exampleItem, hitItem, noticeParts, timingParts, totalMilliseconds } from "./view.js";

const NUM_PLACEHOLDERS = 3;
const NUM_EXAMPLES_FOLDED = matchMedia("(max-width: 30rem)").matches ? 6 : 12;

const byId = (id) => document.getElementById(id);
const queryBox = byId("query");
const topKChoice = byId("top-k");
let newestSearch = null; // AbortController of the only search that may write to the page
let shownAddress = null; // location.search of what the page shows

// ---- States of the page

const setStatus = (text) => { byId("status").textContent = text; };

function setBusy(isBusy) {
  byId("results").setAttribute("aria-busy", String(isBusy));
  document.body.classList.toggle("is-busy", isBusy);
}

function clearResults() {
  for (const id of ["error", "no-hits", "timing"]) byId(id).hidden = true;
  byId("hits").replaceChildren();
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

function showAnswer(answer) {
  const { hits, language } = answer.results[0];
  const scores = hits.map((hit) => hit.score);
  const lowest = Math.min(...scores);
  const range = Math.max(...scores) - lowest;
  const items = hits.map((hit) => hitItem(hit, range ? (hit.score - lowest) / range : 1));

  clearResults();
  setStatus(summary(hits.length, language, answer.took_ms));
  if (answer.took_ms) showParts("timing", timingParts(answer.took_ms));
  if (!hits.length) showParts("no-hits", noticeParts(TEXT.noHitsTitle, TEXT.noHitsDetail));
  byId("hits").replaceChildren(...items);
}

function summary(numHits, language, tookMs) {
  const hits = plural(TEXT.hits, numHits);
  const found = tookMs ? fill(TEXT.hitsInTime, { hits, time: writeMilliseconds(totalMilliseconds(tookMs)) }) : hits;
  return language ? `${found}, ${languageLabel(language)}` : found;
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
async function search(query, topK) {
  newestSearch?.abort();
  const controller = new AbortController();
  newestSearch = controller;
  const isNewest = () => newestSearch === controller;
  showLoading();
  try {
    const onStatus = (text) => { if (isNewest()) setStatus(text); };
    const answer = await requestSearch({ query, top_k: topK }, controller, onStatus);
    if (isNewest()) showAnswer(answer);
  } catch (failure) {
    if (isNewest()) showFailure(failure);
  }
  if (isNewest()) setBusy(false);
}

function readAddress() {
  const parameters = new URLSearchParams(location.search);
  const topK = Number(parameters.get("k"));
  return {
    query: (parameters.get("q") ?? "").trim(),
    topK: Number.isInteger(topK) && topK >= 1 && topK <= 1000 ? topK : 10,
  };
}

function chooseTopK(topK) {
  const isOffered = [...topKChoice.options].some((option) => Number(option.value) === topK);
  if (!isOffered) topKChoice.add(new Option(topK, topK));
  topKChoice.value = topK;
}

function searchFromAddress() {
  const { query, topK } = readAddress();
  shownAddress = location.search;
  queryBox.value = query;
  chooseTopK(topK);
  document.title = query ? `${query} · ${TEXT.brand}` : TEXT.brand;
  if (query) search(query, topK);
  else showEmpty();
}

function searchFromForm() {
  const query = queryBox.value.trim();
  const parameters = query ? `?${new URLSearchParams({ q: query, k: topKChoice.value })}` : "";
  if (parameters !== location.search) history.pushState(null, "", parameters || location.pathname);
  searchFromAddress();
}

// ---- What people do

function onSubmit(event) {
  event.preventDefault();
  if (matchMedia("(pointer: coarse)").matches) queryBox.blur(); // folds a phone's keyboard away
  searchFromForm();
}

function onChooseExample(text) {
  queryBox.value = text;
  window.scrollTo(0, 0);
  if (matchMedia("(pointer: fine)").matches) queryBox.focus({ preventScroll: true });
  searchFromForm();
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
  topKChoice.addEventListener("change", () => { if (queryBox.value.trim()) searchFromForm(); });
  document.addEventListener("keydown", onKeyDown);
  window.addEventListener("popstate", onPopState);
  const isOptional = () => {}; // the page works without examples and facts
  showExamples().catch(isOptional);
  showFacts().catch(isOptional);
  searchFromAddress();
}

start();
