// Requests to the service. Knows nothing about the page.

import { storedKey } from "./key.js";
import { TEXT, fill, writeSeconds } from "./text.js";

const SEARCH_TIMEOUT_MS = 20_000;
const READY_RETRY_MS = 3_000;
/** Fetch a path, with the API key of this tab if it has one. */
function fetchWithKey(address, options) {
  const key = storedKey();
  return fetch(address, key ? { ...options, headers: { ...options.headers, Authorization: `Bearer ${key}` } } : options);
}

/** A failed search, with the message that the page shows. */
export class SearchFailure extends Error {
  constructor({ title, detail = "", field = "", status = 0, retryAfterSeconds = 0 }) {
    super(title);
    Object.assign(this, { title, detail, field, status, retryAfterSeconds });
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
    title: problem?.title || TEXT.problem,
    detail: problem?.detail || fill(TEXT.problemStatus, { status: response.status }),
    field: problem?.field || "",
    status: response.status,
    retryAfterSeconds: Math.max(0, Math.ceil(seconds)) || 0,
  });
}

async function ask(request, signal, route = "search") {
  let response;
  try {
    response = await fetchWithKey(route, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json, application/problem+json" },
      body: JSON.stringify(request),
      signal,
    });
  } catch {
    throw new SearchFailure({ title: TEXT.unreachableTitle, detail: TEXT.unreachableDetail });
  }
  if (!response.ok) throw await readProblem(response);
  return parseAnswer(await response.text());
}

/** Parse JSON; a whole number that a double cannot hold becomes a BigInt, so that each digit is shown. */
function parseAnswer(text) {
  return JSON.parse(text, (key, value, context) => {
    const isRounded = Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source);
    return isRounded ? BigInt(context.source) : value;
  });
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

async function askOnceMoreIfStarting(request, signal, onStatus) {
  onStatus(TEXT.searching);
  try {
    return await ask(request, signal);
  } catch (failure) {
    if (failure.status !== 503) throw failure;
    onStatus(fill(TEXT.notReady, { time: writeSeconds(READY_RETRY_MS / 1000) }));
    await pause(READY_RETRY_MS, signal);
    onStatus(TEXT.searching);
    return ask(request, signal);
  }
}

/** Search; try once more if the service is still starting.
 *
 * @param {AbortController} controller aborts the search; this function aborts it at the timeout
 * @param {(text: string) => void} onStatus receives progress messages
 * @returns the response of POST /search
 * @throws {SearchFailure} if the service refuses or fails, the network fails, or time runs out
 */
export async function requestSearch(request, controller, onStatus) {
  const timer = setTimeout(() => controller.abort(), SEARCH_TIMEOUT_MS);
  try {
    return await askOnceMoreIfStarting(request, controller.signal, onStatus);
  } catch (failure) {
    throw controller.signal.aborted ? timeoutFailure() : failure;
  } finally {
    clearTimeout(timer);
  }
}

/** Count the values of a field among the passages that match a filter; null if that fails. */
export async function requestFacet(query, field, filter, signal) {
  const request = { query, top_k: 1, include_text: false, filter, facets: [field] };
  return ask(request, signal).then((answer) => answer.facets[field], () => null);
}

/** Embed texts; returns one Float32Array per text. */
export async function requestEmbeddings(texts, role, signal) {
  const { embeddings } = await ask({ texts, role, encoding_format: "base64" }, signal, "encode");
  return embeddings.map((written) => new Float32Array(Uint8Array.from(atob(written), (byte) => byte.charCodeAt(0)).buffer));
}

export async function requestJson(address, signal) {
  const response = await fetchWithKey(address, { headers: { Accept: "application/json" }, signal });
  if (!response.ok) throw await readProblem(response);
  return response.json();
}

function timeoutFailure() {
  const time = writeSeconds(SEARCH_TIMEOUT_MS / 1000);
  return new SearchFailure({ title: TEXT.timeoutTitle, detail: fill(TEXT.timeoutDetail, { time }) });
}
