// Marks in each passage the sentence that is nearest to the question, by the encoder that searches.

import { requestEmbeddings } from "./client.js";

const MAX_TEXTS = 256; // of one request

/** Mark passages as they come into view; what cannot be marked stays as it is.
 *
 * @param {string} query the question
 * @param {Iterable<HTMLElement>} passages elements that hold nothing but a passage's text
 * @param {AbortSignal} signal ends the work
 */
export function markBestSentences(query, passages, signal) {
  let question = null;
  const mark = async (shown) => {
    const cut = shown.map(sentencesOf);
    const texts = cut.flat().map((sentence) => sentence.trim());
    if (!texts.length) return;
    question ??= requestEmbeddings([query], "query", signal);
    const [asked] = await question;
    const embeddings = [];
    for (let start = 0; start < texts.length; start += MAX_TEXTS) {
      embeddings.push(...await requestEmbeddings(texts.slice(start, start + MAX_TEXTS), "passage", signal));
    }
    for (const [index, sentences] of cut.entries()) {
      const scores = embeddings.splice(0, sentences.length).map((embedding) => product(asked, embedding));
      if (scores.length) markSentence(shown[index], sentences, scores.indexOf(Math.max(...scores)));
    }
  };
  const observer = new IntersectionObserver((entries) => {
    const shown = entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target);
    for (const passage of shown) observer.unobserve(passage);
    mark(shown).catch(() => observer.disconnect()); // busy or not allowed: the hits are there all the same
  });
  for (const passage of passages) observer.observe(passage);
  signal.addEventListener("abort", () => observer.disconnect(), { once: true });
}

/** Cut a passage into sentences; one alone needs no mark. */
function sentencesOf(passage) {
  const segmenter = new Intl.Segmenter("en", { granularity: "sentence" });
  const sentences = Array.from(segmenter.segment(passage.textContent), ({ segment }) => segment);
  const spoken = sentences.filter((sentence) => sentence.trim());
  return spoken.length > 1 && spoken.length === sentences.length && spoken.length <= MAX_TEXTS ? sentences : [];
}

function product(one, other) {
  return one.reduce((sum, value, index) => sum + value * other[index], 0);
}

/** Where the fold would hide the sentence, the folded passage begins with it. */
function markSentence(passage, sentences, best) {
  const sentence = sentences[best].trimEnd();
  const before = document.createElement("span");
  before.className = "before-mark";
  before.append(sentences.slice(0, best).join(""));
  const mark = document.createElement("mark");
  mark.append(sentence);
  const after = sentences[best].slice(sentence.length) + sentences.slice(best + 1).join("");
  passage.replaceChildren(before, mark, after);
  const isHidden = mark.offsetTop + mark.offsetHeight > passage.offsetTop + passage.clientHeight + 1;
  passage.classList.toggle("begins-late", isHidden);
}
