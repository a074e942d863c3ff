// The three tabs, after the pattern of the ARIA authoring practices: arrows move, Home and End jump.

import { byId } from "./dom.js";

/** Wire the tabs; `onShow` is given the name of the view shown. The address keeps the view for a reload. */
export function startTabs(onShow) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const nameOf = (tab) => tab.id.replace("tab-", "");
  const show = (chosen, { focus = false } = {}) => {
    for (const tab of tabs) {
      const is = tab === chosen;
      tab.setAttribute("aria-selected", String(is));
      tab.tabIndex = is ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = !is;
    }
    if (focus) chosen.focus();
    history.replaceState(null, "", `#${nameOf(chosen)}`);
    onShow(nameOf(chosen));
  };
  for (const [at, tab] of tabs.entries()) {
    tab.addEventListener("click", () => show(tab));
    tab.addEventListener("keydown", (event) => {
      const target = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      show(tabs[(target + tabs.length) % tabs.length], { focus: true });
    });
  }
  const asked = tabs.find((tab) => `#${nameOf(tab)}` === location.hash);
  if (asked) show(asked);
}
