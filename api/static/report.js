// A button at each piece of code; without this script it is selected by hand.
"use strict";
(() => {
  const copy = async (text) => {
    if (navigator.clipboard) return navigator.clipboard.writeText(text);
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done ? undefined : Promise.reject(new Error("refused"));
  };
  window.graddxCopyButtons = (root) => {
    for (const code of root.querySelectorAll("pre.code")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = "Copy";
      button.setAttribute("aria-live", "polite");
      button.addEventListener("click", async () => {
        try {
          await copy(code.innerText);
          button.textContent = "Copied";
        } catch {
          button.textContent = "Not allowed: select it";
        }
        setTimeout(() => (button.textContent = "Copy"), 2000);
      });
      code.before(button);
    }
  };
  window.graddxCopyButtons(document);
})();
