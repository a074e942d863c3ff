// Theme and API key. The theme is kept for this browser, the key for this tab alone.

import { apiKey, setApiKey } from "./api.js";
import { byId } from "./dom.js";
import { announce } from "./notices.js";

const THEME_NAME = "stride32.theme";

/** Wire the theme's button and the key's dialog, which opens by itself when the server asks for a key. */
export function startSettings() {
  startTheme();
  const dialog = byId("settings");
  const field = byId("settings-key");
  const open = (why) => {
    if (dialog.open) return;
    byId("settings-why").textContent = why;
    field.value = apiKey();
    dialog.showModal();
    field.focus();
  };
  const plain = byId("settings-why").textContent;
  byId("settings-open").addEventListener("click", () => open(plain));
  document.addEventListener("keyneeded", () => open(apiKey()
    ? "The server refused the key. Give another one; it stays in this tab and is forgotten when you close it."
    : "This server asks for a key. It stays in this tab and is forgotten when you close it."));
  dialog.addEventListener("close", () => {
    if (dialog.returnValue === "save") setApiKey(field.value.trim());
    if (dialog.returnValue === "forget") setApiKey("");
    if (dialog.returnValue === "save") announce("The key is used from now on.");
    // Otherwise the next close by Escape would repeat this one's answer.
    dialog.returnValue = "";
    field.value = "";
  });
}

function startTheme() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => localStorage.getItem(THEME_NAME);
  const apply = () => {
    const dark = kept() ? kept() === "dark" : system.matches;
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    byId("theme").setAttribute("aria-pressed", String(dark));
  };
  byId("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme !== "dark";
    // Back at what the system says, it is followed again.
    if (dark === system.matches) localStorage.removeItem(THEME_NAME);
    else localStorage.setItem(THEME_NAME, dark ? "dark" : "light");
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}
