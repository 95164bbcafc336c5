// Starts everything. A part that fails must not stop the others, and the reader must know.

function attempt(task) {
  Promise.resolve()
    .then(task)
    .catch((error) => console.error(error));
}

document.documentElement.classList.add("scripted");
readAddress();
const header = document.querySelector("main > header, body > header") ?? null;
const main = document.querySelector("main");
if (header) header.after(toolbar());
else main.prepend(toolbar());
attempt(showProvenance);
for (const element of all("main table")) attempt(() => enhanceTable(element));
attempt(applyChoice);
for (const element of all(".chart[data-chart]")) attempt(() => enhanceChart(element));
for (const place of all("[data-explorer]")) {
  attempt(() => EXPLORERS[place.dataset.explorer]?.(place));
}
addEventListener("beforeprint", () => Chart.shown?.hide());
