// Runs before the first paint: the language of the page, and whether the address holds a question and filters.
// What it finds out is in the attributes of <html>, where style sheet and modules read it.
{
  const RIGHT_TO_LEFT = ["ar", "fa", "he", "ur"];
  const root = document.documentElement;
  const offered = document.querySelector("meta[name=languages]").content.split(" ");
  let kept = "";
  try {
    kept = localStorage.getItem("clear-search-language") ?? "";
  } catch {
    // this browser keeps nothing for the page
  }
  const bases = [kept, ...navigator.languages].map((tag) => tag.toLowerCase().split("-")[0]);
  root.lang = bases.find((base) => offered.includes(base)) ?? "en";
  root.dir = RIGHT_TO_LEFT.includes(root.lang) ? "rtl" : "ltr";

  const parameters = new URLSearchParams(location.search);
  root.classList.toggle("has-question", Boolean(parameters.get("q")?.trim()));
  root.classList.toggle("is-comparing", Boolean(parameters.get("q2")?.trim()));
  root.classList.toggle("has-filters", [...parameters.keys()].some((name) => name.startsWith("f.")));

  const catalog = document.createElement("link"); // text.js fetches it once the modules are here
  Object.assign(catalog, { rel: "preload", as: "fetch", crossOrigin: "anonymous", href: `web/languages/${root.lang}.json` });
  document.head.append(catalog);
}
