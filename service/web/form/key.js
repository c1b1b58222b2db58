// Asks for the API key in a password dialog; the key is kept until the tab is closed.

import { byId } from "../element.js";
import { TEXT } from "../languages/text.js";

const KEY_ITEM = "clear-search-key";
const IS_USED = "use"; // what the dialog returns for its submit button
const NOT_IN_HEADERS = /[^\x20-\xff]/; // Latin-1, without controls

let asking = null; // a promise while the dialog is open

export const storedKey = () => sessionStorage.getItem(KEY_ITEM);

/** Forget the key that was refused, if there was one, and ask for another; resolves to whether one was entered. */
export function askKey() {
  return asking ??= openDialog().finally(() => { asking = null; });
}

async function openDialog() {
  const dialog = byId("key-dialog");
  const isRefused = storedKey() !== null;
  sessionStorage.removeItem(KEY_ITEM);
  byId("key-refused").textContent = isRefused ? TEXT.keyRefused : "";
  byId("key").ariaInvalid = String(isRefused);
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  const key = byId("key").value.trim();
  byId("key").value = "";
  byId("key").setCustomValidity("");
  if (dialog.returnValue !== IS_USED || !key) return false;
  sessionStorage.setItem(KEY_ITEM, key);
  return true;
}

export function listenToKeyDialog() {
  byId("cancel-key").addEventListener("click", () => byId("key-dialog").close());
  byId("key").addEventListener("input", ({ target }) => {
    target.setCustomValidity(NOT_IN_HEADERS.test(target.value) ? TEXT.keyImpossible : "");
  });
}
