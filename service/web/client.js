// Requests to the service. Knows nothing about the page.

import { storedKey } from "./form/key.js";

const SEARCH_TIMEOUT_MS = 20_000;
const STARTING_SECONDS = 180; // a service that starts is waited for as long as this
const READY_RETRY_SECONDS = 3; // if the service names no time
const NOT_READY = 503;

/** Fetch a path, with the API key of this tab if it has one. */
function fetchWithKey(address, options) {
  const key = storedKey();
  return fetch(address, key ? { ...options, headers: { ...options.headers, Authorization: `Bearer ${key}` } } : options);
}

/** A failed search: the status of the answer, or why there is none ("unreachable", "late"). */
export class SearchFailure extends Error {
  constructor({ reason = "", detail = "", field = "", status = 0, retryAfterSeconds = 0 }) {
    super(detail || reason);
    Object.assign(this, { reason, detail, field, status, retryAfterSeconds });
  }

  /** Return whether the same request may succeed later; false if its content or key was refused. */
  get mayPass() {
    return this.status < 400 || this.status === 429 || this.status >= 500;
  }
}

async function readProblem(response) {
  const problem = await response.json().catch(() => ({}));
  const retryAfter = response.headers.get("Retry-After") ?? "";
  const seconds = /^\d+$/.test(retryAfter) ? Number(retryAfter) : (Date.parse(retryAfter) - Date.now()) / 1000;
  return new SearchFailure({
    detail: problem?.detail || problem?.title || "",
    field: problem?.field || "",
    status: response.status,
    retryAfterSeconds: Math.max(0, Math.ceil(seconds)) || 0,
  });
}

async function ask(request, signal) {
  const timeout = AbortSignal.timeout(SEARCH_TIMEOUT_MS);
  try {
    const response = await fetchWithKey("search", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json, application/problem+json" },
      body: JSON.stringify(request),
      signal: AbortSignal.any([signal, timeout]),
    });
    if (!response.ok) throw await readProblem(response);
    return parseAnswer(await response.text());
  } catch (failure) {
    if (failure instanceof SearchFailure || failure instanceof SyntaxError) throw failure;
    throw new SearchFailure({ reason: timeout.aborted ? "late" : "unreachable" });
  }
}

/** Parse JSON; a whole number that a double cannot hold becomes a BigInt, so that each digit is shown. */
function parseAnswer(text) {
  return JSON.parse(text, (key, value, context) => {
    const isRounded = Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source);
    return isRounded ? BigInt(context.source) : value;
  });
}

function pause(seconds, signal) {
  return until(new Promise((resolve) => { setTimeout(resolve, seconds * 1000); }), signal);
}

/** Search; if the service is still starting, wait as long as it says, and search again.
 *
 * @param {AbortSignal} signal stops the search
 * @param {(seconds: number) => void} onWait is told how long it waits
 * @returns the response of POST /search
 * @throws {SearchFailure} if the service refuses or fails, the network fails, or time runs out
 */
export async function requestSearch(request, signal, onWait) {
  const end = performance.now() + STARTING_SECONDS * 1000;
  for (;;) {
    try {
      return await ask(request, signal);
    } catch (failure) {
      const seconds = failure.retryAfterSeconds || READY_RETRY_SECONDS;
      if (failure.status !== NOT_READY || performance.now() + seconds * 1000 > end) throw failure;
      onWait(seconds);
      await pause(seconds, signal);
    }
  }
}

/** Count the values of a field among the passages that match a filter; null if that fails. */
export async function requestFacet(query, field, filter, signal) {
  const request = { query, top_k: 1, include_text: false, filter, facets: [field] };
  return ask(request, signal).then((answer) => answer.facets?.[field], () => null);
}

async function readJson(response) {
  if (!response.ok) throw await readProblem(response);
  return response.json();
}

export async function requestJson(address) {
  return readJson(await fetchWithKey(address, { headers: { Accept: "application/json" } }));
}

let description = self.early.info.then(readJson); // early.js began it; null if it must be asked for
description.catch(() => {});

/** Ask what the service is and what its index has; once, unless that fails or it is still loading. */
export async function requestInfo() {
  const asked = description ??= requestJson("info");
  let isWhole = false;
  try {
    const described = await asked;
    isWhole = Boolean(described.index);
    return described;
  } finally {
    if (!isWhole && description === asked) description = null;
  }
}

/** Await a promise until a signal aborts. */
export function until(promise, signal) {
  return new Promise((resolve, reject) => {
    promise.then(resolve, reject);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
