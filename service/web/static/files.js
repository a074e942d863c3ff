// Ways a file comes in: a button that opens the chooser, dropping it anywhere on a view, pasting it.

/**
 * Call `onFile` with each file given to a view.
 *
 * view: the element that files may be dropped on. input: its hidden file input. buttons: open the chooser.
 * paste: take pictures from the clipboard while the view is shown. several: all files of a drop, and not the first alone.
 */
export function acceptFiles({ view, input, buttons, onFile, paste = false, several = false }) {
  const take = (files) => [...files].slice(0, several ? files.length : 1).forEach((file) => onFile(file));
  input.multiple = several;
  for (const pressed of buttons) pressed.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take(input.files);
    // The same file may be chosen again.
    input.value = "";
  });
  let depth = 0;
  const over = (by) => {
    depth = Math.max(0, depth + by);
    view.classList.toggle("over", depth > 0);
  };
  view.addEventListener("dragenter", () => over(1));
  view.addEventListener("dragleave", () => over(-1));
  view.addEventListener("drop", (event) => {
    depth = 0;
    over(0);
    take(event.dataTransfer.files);
  });
  if (!paste) return;
  document.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files;
    if (view.hidden || !files?.length) return;
    event.preventDefault();
    take(files);
  });
}

/** Keep the browser from leaving the page when a file is dropped beside its place. */
export function refuseStrayDrops() {
  for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
}
