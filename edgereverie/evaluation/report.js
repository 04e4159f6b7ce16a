"use strict";
(() => {
  const form = document.querySelector(".filters");
  if (!form) return;
  const exhibits = [...document.querySelectorAll(".exhibit")];
  const said = document.querySelector("#shown");
  const fits = (exhibit) =>
    ["benchmark", "mistake", "wrong"].every((name) => {
      const wanted = form.elements[name].value;
      return wanted === "" || exhibit.dataset[name].split(" ").includes(wanted);
    }) && ["changed", "disputed"].every((name) => !form.elements[name].checked || name in exhibit.dataset);
  const show = () => {
    let number = 0;
    for (const exhibit of exhibits) {
      exhibit.hidden = !fits(exhibit);
      number += exhibit.hidden ? 0 : 1;
    }
    said.textContent = number ? `${number} of ${exhibits.length} shown` : "None is like that: choose less.";
  };
  form.addEventListener("input", show);
  form.addEventListener("reset", () => setTimeout(show));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  show();
})();
