// The time of a search by stage.

import { element } from "./element.js";
import { TEXT, writeMilliseconds } from "./text.js";

const STAGES = ["tokenize", "queue", "encode", "search", "passages", "filter"]; // style.css colors them

export function totalMilliseconds({ total, ...stages }) {
  return total ?? Object.values(stages).reduce((sum, milliseconds) => sum + milliseconds, 0);
}

/** Build a stacked bar of the stages and its legend; stages unknown to this page come last. */
export function timingParts(tookMs) {
  const known = STAGES.filter((name) => name in tookMs);
  const others = Object.keys(tookMs).filter((name) => !STAGES.includes(name) && name !== "total");
  const bar = element("div", { className: "timing-bar", ariaHidden: "true" });
  const legend = element("dl", { className: "timing-legend" });
  for (const name of [...known, ...others]) {
    const part = element("span", { className: `stage-${STAGES.indexOf(name)}` });
    part.style.flexGrow = tookMs[name];
    bar.append(part);
    legend.append(timingEntry(TEXT.stages[name] ?? name, tookMs[name], part.className));
  }
  return [bar, legend];
}

function timingEntry(label, milliseconds, className) {
  return element("div", { className }, element("dt", {}, label), element("dd", {}, writeMilliseconds(milliseconds)));
}
