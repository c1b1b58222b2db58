// Marks the sentence of each passage that is nearest to the question, by the encoder of the service.

import { requestEmbeddings } from "./client.js";

const MAX_TEXTS = 256; // of one request

/** Mark passages when they come into view; a passage that cannot be marked stays unchanged.
 *
 * @param {string} query the question
 * @param {Iterable<HTMLElement>} passages elements that contain only the text of a passage
 * @param {AbortSignal} signal stops the marking
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

/** Split a passage into sentences; a single sentence needs no mark. */
function sentencesOf(passage) {
  const segmenter = new Intl.Segmenter("en", { granularity: "sentence" });
  const sentences = Array.from(segmenter.segment(passage.textContent), ({ segment }) => segment);
  const spoken = sentences.filter((sentence) => sentence.trim());
  return spoken.length > 1 && spoken.length === sentences.length && spoken.length <= MAX_TEXTS ? sentences : [];
}

function product(one, other) {
  return one.reduce((sum, value, index) => sum + value * other[index], 0);
}

/** Start the folded passage with the sentence if the fold would hide it. */
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
