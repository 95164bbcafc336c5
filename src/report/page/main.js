// Starts everything. A part that fails must not stop the others, and the console shows it.

const tasks = [];

function attempt(task) {
  tasks.push(
    Promise.resolve()
      .then(task)
      .catch((error) => console.error(error)),
  );
}

const root = document.documentElement;
root.classList.add("scripted");
readAddress();
const header = document.querySelector("main > header, main > h1");
if (header) header.after(toolbar());
else document.querySelector("main").prepend(toolbar());
attempt(showProvenance);
for (const element of all("main table")) attempt(() => enhanceTable(element));
attempt(applyChoice);
for (const element of all(".chart[data-chart]")) attempt(() => enhanceChart(element));
for (const place of all("[data-explorer]")) {
  attempt(() => EXPLORERS[place.dataset.explorer]?.(place));
}
attempt(revealTarget);
addEventListener("hashchange", revealTarget);
addEventListener("beforeprint", () => Chart.shown?.hide());
Promise.all(tasks).then(() => {
  root.dataset.scripts = "ready";
});
