// Translates a passage by the browser itself, on the reader's device, where the browser can.

import { button, element } from "../element.js";
import { TEXT } from "../languages/text.js";

const PASSAGE_LANGUAGE = "en";
const IS_OFFERED = "Translator" in self; // on-device: https://developer.mozilla.org/docs/Web/API/Translator
const translators = new Map(); // promises, by language

const answers = new Map(); // promises of whether the browser can, by language

/** Return whether passages can be translated into a language. */
function canTranslate(language) {
  if (!IS_OFFERED || language === PASSAGE_LANGUAGE) return Promise.resolve(false);
  if (!answers.has(language)) {
    const pair = { sourceLanguage: PASSAGE_LANGUAGE, targetLanguage: language };
    answers.set(language, Translator.availability(pair).then((answer) => answer !== "unavailable", () => false));
  }
  return answers.get(language);
}

function translatorFor(language) {
  if (!translators.has(language)) {
    translators.set(language, Translator.create({ sourceLanguage: PASSAGE_LANGUAGE, targetLanguage: language }));
  }
  return translators.get(language);
}

/** Build the button that shows a hit's translation below its passage, and hides it again.
 *
 * @param {string} language that of the question, or else of the page
 */
export function translationButton(item, text, language) {
  const node = button("text-button translate", () => toggle(item, node, text, language), TEXT.translate);
  node.hidden = true;
  canTranslate(language).then((can) => { node.hidden = !can; });
  return node;
}

async function toggle(item, node, text, language) {
  const former = item.querySelector(".translation");
  item.classList.toggle("is-translated", !former);
  if (former) {
    former.remove();
    node.textContent = TEXT.translate;
    return;
  }
  const words = element("p", { className: "translation-text", lang: language, dir: "auto" });
  const note = element("p", { className: "translation-note", role: "status" }, TEXT.translating);
  item.querySelector(".hit-text").after(element("div", { className: "translation" }, words, note));
  node.textContent = TEXT.hideTranslation;
  try {
    words.textContent = await (await translatorFor(language)).translate(text);
    note.textContent = TEXT.translated;
  } catch {
    translators.delete(language); // another try may load it
    item.classList.remove("is-translated");
    note.textContent = TEXT.translationFailed;
  }
}
