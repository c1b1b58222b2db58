// All texts of the page, from the catalog of its language, and the formats of numbers and names.
// For another language: a catalog beside this file, and the language in index.html (meta and menu).

const { lang: locale } = document.documentElement; // early.js chose it
export const TEXT = await (await self.early.catalog).json();

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
const pluralRules = new Intl.PluralRules(locale);
const languageNames = new Intl.DisplayNames([locale, "en"], { type: "language" });
const choiceFormat = new Intl.ListFormat(locale, { type: "disjunction" });
const countFormat = new Intl.NumberFormat(locale);
const scoreFormat = new Intl.NumberFormat(locale, { minimumFractionDigits: 3, maximumFractionDigits: 3 });
const percentFormat = new Intl.NumberFormat(locale, { style: "percent" });
const millisecondFormat = new Intl.NumberFormat(locale, {
  style: "unit", unit: "millisecond", maximumFractionDigits: 1, maximumSignificantDigits: 2, roundingPriority: "morePrecision",
});
const secondFormat = new Intl.NumberFormat(locale, { style: "unit", unit: "second", unitDisplay: "long" });

export const writeCount = (count) => countFormat.format(count);
export const writeScore = (score) => scoreFormat.format(score);
export const writePercent = (share) => percentFormat.format(share);
export const writeMilliseconds = (milliseconds) => millisecondFormat.format(milliseconds);
export const writeSeconds = (seconds) => secondFormat.format(seconds);

/** Replace the {named} placeholders of a text by values. */
export function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function plural(forms, count) {
  return fill(forms[pluralRules.select(count)] ?? forms.other, { count: writeCount(count) });
}

/** Return the language of a result's question, or "" if the service is not certain of it. */
export function languageOf({ language, language_uncertain: isUncertain }) {
  return isUncertain || language === UNDETERMINED ? "" : language;
}

/** Return a note on a language in which questions find less, and on languages in which they find more. */
export function poorLanguageNote(code) {
  const { language, region } = new Intl.Locale(code).maximize();
  const wider = WIDER_LANGUAGES.find(([, regions]) => regions.includes(region))?.[0];
  const better = [wider, "en"].filter((each) => each && each !== language).map(languageName);
  return fill(TEXT.findsLess, { name: languageName(code), better: choiceFormat.format(better) });
}

export function languageLabel(code) {
  const name = languageName(code);
  return name === code ? code : fill(TEXT.language, { name, code });
}

/** Return the name of a language; catalogs name those that browsers don't know. */
export function languageName(code) {
  try {
    return TEXT.languageNames[code] ?? languageNames.of(code);
  } catch {
    return code; // not a BCP 47 code
  }
}
