// The page before the first search: introduction, examples, and facts about the index.

import { requestInfo, requestJson } from "./client.js";
import { button, byId, element } from "./element.js";
import { TEXT, fill, writeCount } from "./languages/text.js";
import { operatorNote } from "./results/failures.js";

const NUM_EXAMPLES_FOLDED = matchMedia("(max-width: 30rem)").matches ? 6 : 12;

export function fillWords() {
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = TEXT[node.dataset.text];
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", TEXT[node.dataset.label]);
}

/** Show an example in each language, the reader's own first; none if the index answers none of them.
 *
 * @param {(text: string) => void} onChoose receives the chosen question
 */
export async function showExamples(onChoose) {
  const own = [document.documentElement.lang, ...navigator.languages].map((tag) => tag.split("-")[0]);
  const place = ({ language }) => (own.includes(language) ? own.indexOf(language) : own.length);
  const examples = (await requestJson("web/examples.json")).toSorted((one, other) => place(one) - place(other));
  if (!examples.length) return;
  const items = examples.map((example) => exampleItem(example, onChoose));
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

function exampleItem({ language, name, english_name: englishName, text }, onChoose) {
  const node = button("example", () => onChoose(text),
    element("span", { className: "example-name" }, name), element("span", { className: "example-text" }, text));
  Object.assign(node, { lang: language, dir: "auto", title: englishName });
  return element("li", {}, node);
}

export async function showFacts() {
  const { changes, encoder, index, version } = await requestInfo();
  if (index?.passages > 1) {
    byId("introduction").textContent = fill(TEXT.introductionWithIndex, { passages: writeCount(index.passages) });
  }
  const facts = [
    encoder?.name && fill(TEXT.encoderFact, { name: encoder.name }),
    index?.generation && fill(TEXT.indexFact, { generation: String(index.generation).slice(0, 12) }),
    changes?.waiting_documents && fill(TEXT.waitingFact, { count: writeCount(changes.waiting_documents) }),
    version && fill(TEXT.versionFact, { version }),
  ];
  byId("facts").replaceChildren(...facts.filter(Boolean).map((fact) => element("span", {}, fact)));
  if (index?.refused) byId("facts").prepend(element("div", {}, TEXT.refusedFact, operatorNote(index.refused)));
}
