// Asks for the API key in a dialog that hides it; the tab keeps it as long as it lives.

import { byId } from "./element.js";

const KEY_ITEM = "clear-search-key";
const IS_USED = "use"; // what the dialog returns for its submit button

export const storedKey = () => sessionStorage.getItem(KEY_ITEM);

/** Have the dialog asked; resolves to whether it gave a key, false where it is open already. */
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
