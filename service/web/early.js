// Stands in the page and runs before the first paint: the language of the page, and whether the address holds a
// question and filters, in the attributes of <html>, where style sheet and modules read it. What the modules will
// need is fetched meanwhile.
{
  const RIGHT_TO_LEFT = ["ar", "fa", "he", "ur"];
  const root = document.documentElement;
  const offered = document.querySelector("meta[name=languages]").content.split(" ");
  let kept = "";
  let key = "";
  try {
    kept = localStorage.getItem("clear-search-language") ?? "";
    key = sessionStorage.getItem("clear-search-key");
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

  const begin = (address, headers) => {
    const response = fetch(address, { headers });
    response.catch(() => {}); // who awaits it deals with it
    return response;
  };
  const files = document.querySelector("meta[name=files]").content;
  self.early = {
    catalog: begin(`${files}languages/${root.lang}.json`, {}), // text.js
    info: begin("info", key ? { Authorization: `Bearer ${key}` } : {}), // client.js
  };
}
