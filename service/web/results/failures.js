// A failed search in words of the page. The service's own words, which name fields, are for the operator.

import { SearchFailure } from "../client.js";
import { element, noticeParts, showParts } from "../element.js";
import { TEXT, fill, writeSeconds } from "../languages/text.js";

const KINDS = { 401: "unauthorized", 403: "forbidden", 413: "question", 429: "busy", 503: "notReady", 504: "late" };

/** Show a failure; if the same request may succeed later, `onRetry` sends it again.
 *
 * @param filters lists of chosen texts by field, of which one may be refused
 */
export function showFailure(failure, filters, onRetry) {
  const { title, detail } = TEXT.failures[kindOf(failure)];
  const { detail: operatorDetail, retryAfterSeconds: seconds } = failure;
  const lines = [...refusedFilters(failure, filters), detail, ...(seconds ? [fill(TEXT.retryAfter, { time: writeSeconds(seconds) })] : [])];
  showParts("error", [
    ...noticeParts(title, ...lines),
    ...(failure.mayPass === false ? [] : [retryButton(seconds, onRetry)]),
    ...(operatorDetail ? [operatorNote(`${failure.status}: ${operatorDetail}`)] : []),
  ]);
}

/** Name the filter that was refused, as it stands above the results. */
function refusedFilters({ field = "" }, filters) {
  const name = Object.keys(filters).find((each) => field === `filter.${each}`);
  return name ? [fill(TEXT.chosen, { field: name, value: filters[name].join(", ") })] : [];
}

function kindOf(failure) {
  if (!(failure instanceof SearchFailure)) {
    console.error(failure);
    return "unexpected";
  }
  const { field, reason, status } = failure;
  if (reason) return reason;
  if (KINDS[status]) return KINDS[status];
  if (status >= 500) return "broken";
  if (field.startsWith("quer")) return "question"; // query, queries[0]
  return field.startsWith("filter") ? "filters" : "refused";
}

/** Build a folded line in the service's own words. */
export function operatorNote(detail) {
  return element("details", { className: "operator-note" }, element("summary", {}, TEXT.operatorDetail),
    element("p", { lang: "en", dir: "ltr" }, detail));
}

function retryButton(waitSeconds, onRetry) {
  const isWaiting = waitSeconds > 0;
  const button = element("button", { id: "retry", type: "button", className: "quiet-button", disabled: isWaiting }, TEXT.retryButton);
  if (isWaiting) setTimeout(() => { button.disabled = false; }, waitSeconds * 1000);
  button.addEventListener("click", onRetry);
  return button;
}
