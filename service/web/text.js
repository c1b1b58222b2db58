// All texts of the page, and the formats of numbers and names.
// For another language, translate TEXT and set <html lang>.

export const TEXT = {
  brand: "CLEAR Search",
  skipLink: "Skip to the results",
  apiDocs: "API",
  headline: "Ask in any language. Find it in English.",
  introduction: "Your question is matched by meaning with English passages. Nothing is translated.",
  introductionWithIndex: "Your question is matched by meaning with {passages} English passages. Nothing is translated.",
  queryLabel: "Your question",
  searchButton: "Search",
  compareButton: "Compare languages",
  otherQueryLabel: "The same question in another language",
  endCompareButton: "End the comparison",
  filters: "Filters",
  filtersChosen: { one: "Filters ({count} chosen)", other: "Filters ({count} chosen)" },
  chosenLabel: "Chosen filters",
  chosen: "{field}: {value}",
  removeFilter: "Remove the filter {chosen}",
  clearFilters: "Clear all filters",
  moreValues: { one: "{count} more", other: "{count} more" },
  mostFrequent: "The {shown} most frequent of {all} values",
  otherValue: "Another value",
  least: "from",
  most: "to",
  dateForm: "YYYY-MM-DD",
  topKLabel: "Hits",
  resultsLabel: "Results",
  timingLabel: "Time by stage",
  examplesHeading: "Try a question",
  showAllExamples: "Show all {count} languages",
  showFewerExamples: "Show fewer",
  searching: "Searching…",
  notReady: "The service is starting. Trying again in {time}.",
  hits: { one: "{count} hit", other: "{count} hits" },
  hitsInTime: "{hits} in {time}",
  language: "asked in {name} ({code})",
  findsLess: "Questions in {name} find less; {better} find more.",
  findsLessHere: "Questions in {name} find less; {better} finds more.",
  noHitsTitle: "No passage found",
  notAnswered: "Probably not answered here. Nearest passages:",
  noHitsDetail: "Try other words, or a more general question.",
  noHitsFiltered: "No passage passes the filters. Take some of them back.",
  comparedLabel: "Hits of which question",
  common: { one: "{count} in both", other: "{count} in both" },
  otherRank: "Rank {rank} for the other question",
  onlyHere: "Only here",
  score: "Score {score}",
  scoreHint: "Similarity of question and passage. The bar compares the hits of this search with each other.",
  showPassage: "Show all",
  showPassageOf: "Show all of {title}",
  foldPassage: "Show less",
  foldPassageOf: "Show less of {title}",
  passageId: "id",
  yes: "yes",
  no: "no",
  stages: { tokenize: "Tokenize", filter: "Filter", queue: "Queue", encode: "Encode", search: "Search", passages: "Passages" },
  keyHeading: "This service asks for a key",
  keyLabel: "API key",
  keyHint: "Kept in this tab until you close it.",
  useKeyButton: "Use this key",
  cancelButton: "Cancel",
  problem: "Search failed",
  problemStatus: "The service answered with status {status}.",
  field: "Field: {field}",
  retryAfter: "Try again in {time}.",
  retryButton: "Try again",
  unreachableTitle: "The service can’t be reached",
  unreachableDetail: "Check the connection, then try again.",
  timeoutTitle: "No answer in time",
  timeoutDetail: "The service did not answer within {time}.",
  unexpectedTitle: "Unexpected answer",
  unexpectedDetail: "The service answered in a form that this page does not know.",
  encoderFact: "Encoder {name}",
  dimensionFact: "{count} dimensions",
  indexFact: "Index {generation}",
  versionFact: "Version {version}",
};

const UNDETERMINED = "und"; // BCP 47
// Languages that many people write beside their own, and where (ISO 3166); the encoder knows them well.
const WIDER_LANGUAGES = [
  ["es", "BO CO EC GT MX PE PY"],
  ["fr", "BF BJ CD CF CG CI CM GA GN ML NE SN TG"],
  ["pt", "AO BR CV GW MZ"],
  ["ar", "DZ EG IQ MA SD TD"],
  ["id", "ID"],
  ["zh", "CN"],
  ["hi", "IN"],
];
const locale = document.documentElement.lang;
const pluralRules = new Intl.PluralRules(locale);
const languageNames = new Intl.DisplayNames([locale], { type: "language" });
const choiceFormat = new Intl.ListFormat(locale, { type: "disjunction" });
const countFormat = new Intl.NumberFormat(locale);
const scoreFormat = new Intl.NumberFormat(locale, { minimumFractionDigits: 3, maximumFractionDigits: 3 });
const millisecondFormat = new Intl.NumberFormat(locale, {
  style: "unit", unit: "millisecond", maximumFractionDigits: 1, maximumSignificantDigits: 2, roundingPriority: "morePrecision",
});
const secondFormat = new Intl.NumberFormat(locale, { style: "unit", unit: "second", unitDisplay: "long" });

export const writeCount = (count) => countFormat.format(count);
export const writeScore = (score) => scoreFormat.format(score);
export const writeMilliseconds = (milliseconds) => millisecondFormat.format(milliseconds);
export const writeSeconds = (seconds) => secondFormat.format(seconds);

/** Replace the {named} placeholders of a text by values. */
export function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function plural(forms, count) {
  return fill(forms[pluralRules.select(count)] ?? forms.other, { count: writeCount(count) });
}

/** Return the detected language of a question, or "" if the question is too short to be sure. */
export function languageOf(question, detected) {
  const isLong = question.split(/\s+/).length > 2 || /[^\P{L}\p{Script=Latin}]/u.test(question);
  return isLong && detected !== UNDETERMINED ? detected : "";
}

/** Return a note on a language in which questions find less, and on languages in which they find more. */
export function poorLanguageNote(code) {
  const { language, region } = new Intl.Locale(code).maximize();
  const wider = WIDER_LANGUAGES.find(([, regions]) => regions.includes(region))?.[0];
  const better = [wider, "en"].filter((each) => each && each !== language).map(languageName);
  const text = better.length > 1 ? TEXT.findsLess : TEXT.findsLessHere;
  return fill(text, { name: languageName(code), better: choiceFormat.format(better) });
}

export function languageLabel(code) {
  const name = languageName(code);
  return name === code ? code : fill(TEXT.language, { name, code });
}

export function languageName(code) {
  try {
    return languageNames.of(code);
  } catch {
    return code; // not a BCP 47 code
  }
}
