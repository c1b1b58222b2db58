// The time of a search, in the status line; opened, by stage.

import { byId, element } from "../element.js";
import { TEXT, fill, writeMilliseconds } from "../languages/text.js";

const STAGES = ["tokenize", "queue", "encode", "search", "passages", "filter", "evidence"]; // style.css colors them

function totalMilliseconds({ total, ...stages }) {
  return total ?? Object.values(stages).reduce((sum, milliseconds) => sum + milliseconds, 0);
}

/** Show the whole time, and, folded, a stacked bar of the stages with its legend; unknown stages come last. */
export function showTiming(tookMs) {
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
  const time = writeMilliseconds(totalMilliseconds(tookMs));
  byId("timing-total").textContent = time;
  byId("timing-total").ariaLabel = fill(TEXT.timingHint, { time });
  byId("timing-stages").replaceChildren(bar, legend);
  byId("timing").hidden = false;
}

function timingEntry(label, milliseconds, className) {
  return element("div", { className }, element("dt", {}, label), element("dd", {}, writeMilliseconds(milliseconds)));
}
