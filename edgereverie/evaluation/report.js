"use strict";
(() => {
  const form = document.querySelector(".filters");
  if (!form) return;
  const STEP = 12;
  const exhibits = [...document.querySelectorAll(".exhibit")];
  const said = document.querySelector("#shown");
  const more = document.querySelector(".more");
  let most = STEP;
  const fits = (exhibit) =>
    ["benchmark", "mistake", "wrong"].every((name) => {
      const wanted = form.elements[name]?.value ?? "";
      return wanted === "" || exhibit.dataset[name].split(" ").includes(wanted);
    }) && ["changed", "disputed"].every((name) => !form.elements[name]?.checked || name in exhibit.dataset);
  const show = () => {
    const found = exhibits.filter(fits);
    const shown = new Set(found.slice(0, most));
    for (const exhibit of exhibits) exhibit.hidden = !shown.has(exhibit);
    more.hidden = shown.size === found.length;
    more.textContent = `Show ${Math.min(STEP, found.length - shown.size)} more`;
    said.textContent = found.length
      ? `${shown.size} of ${found.length} shown` + (found.length < exhibits.length ? `, ${exhibits.length} in all` : "")
      : "None is like that. Choose fewer filters.";
  };
  const again = () => {
    most = STEP;
    show();
  };
  more.addEventListener("click", () => {
    const first = exhibits.filter(fits)[most];
    most += STEP;
    show();
    first.tabIndex = -1;
    first.focus();
  });
  form.addEventListener("input", again);
  form.addEventListener("reset", () => setTimeout(again));
  form.addEventListener("submit", (event) => event.preventDefault());
  addEventListener("beforeprint", () => exhibits.forEach((exhibit) => (exhibit.hidden = !fits(exhibit))));
  addEventListener("afterprint", show);
  form.hidden = false;
  show();
})();
