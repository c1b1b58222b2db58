// The menu of the page's languages. A choice is kept in this browser; else early.js takes the reader's own.

import { byId } from "../element.js";

const LANGUAGE_ITEM = "clear-search-language"; // as in early.js

export function listenToLanguageMenu() {
  const menu = byId("page-language");
  menu.value = document.documentElement.lang;
  menu.addEventListener("change", () => {
    localStorage.setItem(LANGUAGE_ITEM, menu.value);
    location.reload(); // the address holds the search
  });
}
