// Asks for the API key in a password dialog; the key is kept until the tab is closed.

import { byId } from "../element.js";

const KEY_ITEM = "clear-search-key";
const IS_USED = "use"; // what the dialog returns for its submit button

export const storedKey = () => sessionStorage.getItem(KEY_ITEM);

/** Open the dialog; resolves to whether a key was entered, false if the dialog is open already. */
export async function askKey() {
  const dialog = byId("key-dialog");
  if (dialog.open) return false;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  const key = byId("key").value.trim();
  byId("key").value = "";
  if (dialog.returnValue !== IS_USED || !key) return false;
  sessionStorage.setItem(KEY_ITEM, key);
  return true;
}

export function listenToKeyDialog() {
  byId("cancel-key").addEventListener("click", () => byId("key-dialog").close());
}
