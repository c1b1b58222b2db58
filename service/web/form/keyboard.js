// Keyboard control: "/" focuses the question; arrow keys move between the question and the hits; Enter opens a hit.

import { byId } from "../element.js";

function onKeyDown(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const place = document.activeElement;
  if (event.key === "/" && !place.matches("input, select, textarea")) {
    event.preventDefault();
    byId("query").select();
    return;
  }
  if (event.key === "Enter" && place.matches(".hit")) {
    (place.querySelector(".hit-toggle:not([hidden])") ?? place.querySelector(".hit-details summary")).click();
    return;
  }
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const stops = [byId("query"), ...document.querySelectorAll("section:not([hidden]) > .hits > .hit")];
  const next = step && stops.includes(place) && stops[stops.indexOf(place) + step];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

export function listenToKeys() {
  document.addEventListener("keydown", onKeyDown);
}
