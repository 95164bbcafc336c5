// The choice of widths, priors and methods for the whole page. Elements about other values are
// hidden with the class `unchosen`. The choice is part of the address: `?prior=none&hidden=50`.

/** The chosen values of each facet; an empty set chooses all. */
const choice = Object.fromEntries(FACETS.map(({ name }) => [name, new Set()]));

/** Functions to call after a change of the choice. */
const followers = [];

/** Whether the choice includes something with these facets. */
function isChosen(facets) {
  return FACETS.every(({ name }) => {
    const value = facets[name];
    return value === undefined || choice[name].size === 0 || choice[name].has(value);
  });
}

/** The values of each facet on the page, with labels, in the order of the tables. */
const facetValues = Object.fromEntries(
  FACETS.map(({ name }) => {
    const labels = new Map();
    for (const element of all(`main [data-${name}]`)) {
      const value = element.dataset[name];
      if (!labels.has(value)) labels.set(value, null);
      const label = element.querySelector(`:scope > [data-facet="${name}"]`);
      if (label && labels.get(value) === null) labels.set(value, label.textContent.trim());
    }
    const ordered = [...labels].map(([value, label]) => [value, label ?? value]);
    if (name === "hidden") ordered.sort(([a], [b]) => compare(a, b));
    return [name, new Map(ordered)];
  }),
);

// Nets may differ in more than their width.
if ([...facetValues.hidden.keys()].some((value) => !/^\d+$/.test(value))) {
  Object.assign(FACETS[0], { one: "Hidden layers", many: "hidden layers" });
}

/** The label of a value of a facet. */
const labelOf = (name, value) => facetValues[name].get(value) ?? value;

/** Hides and shows all elements with facets, and says where all of a block is hidden. */
function applyChoice() {
  for (const element of all("main [data-hidden], main [data-prior], main [data-method]")) {
    element.classList.toggle("unchosen", !isChosen(element.dataset));
  }
  for (const body of all("main tbody")) {
    const rows = [...body.rows];
    const selected = rows.some((row) => FACETS.some(({ name }) => name in row.dataset));
    const block = body.closest("table");
    const heads = all("thead th", block);
    const chosen = (elements) => elements.some((e) => !e.classList.contains("unchosen"));
    const by = heads.filter((head) => FACETS.some(({ name }) => name in head.dataset));
    const empty = (selected && !chosen(rows)) || (by.length > 0 && !chosen(by));
    noteUnchosen(block, empty);
  }
  for (const follow of followers) follow();
  writeAddress();
}

/** Puts a note before an element of which the choice hides everything, or removes it. */
function noteUnchosen(element, empty) {
  element.classList.toggle("unchosen", empty);
  const before = element.previousElementSibling;
  const noted = before?.classList.contains("outside");
  if (noted && !empty) before.remove();
  if (!noted && empty) {
    element.before(make("p", { class: "outside" }, "Nothing of this is in the choice."));
  }
}

/** A link to something outside of the choice shows everything. */
function revealTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target?.closest(".unchosen")) return;
  for (const { name } of FACETS) choice[name].clear();
  applyChoice();
  target.scrollIntoView();
}

/** The choice in the address of the page. */
function readAddress() {
  const query = new URLSearchParams(location.search);
  for (const { name } of FACETS) {
    choice[name] = new Set(query.getAll(name).filter((value) => facetValues[name].has(value)));
  }
}

function writeAddress() {
  const query = new URLSearchParams();
  for (const { name } of FACETS) choice[name].forEach((value) => query.append(name, value));
  const search = query.size > 0 ? `?${query}` : "";
  if (search === location.search) return;
  try {
    history.replaceState(null, "", `${location.pathname}${search}${location.hash}`);
  } catch {
    // Some browsers forbid this for files; the choice works without.
  }
}

/** The facets that distinguish anything, as menus of check boxes. */
function choiceMenus() {
  const usable = FACETS.filter(({ name }) => facetValues[name].size > 1);
  return usable.map((facet) => {
    const { name, one, many } = facet;
    const boxes = [...facetValues[name]].map(([value, label]) => {
      const box = make("input", { type: "checkbox", name, value });
      box.addEventListener("change", () => {
        if (box.checked) choice[name].add(value);
        else choice[name].delete(value);
        applyChoice();
      });
      return make("label", {}, box, " ", label);
    });
    const summary = make("summary");
    const list = make("fieldset", {}, make("legend", {}, `Show only these ${many}`), ...boxes);
    const menu = make("details", { class: "menu", "data-menu": name }, summary, list);
    followers.push(() => {
      const chosen = [...choice[name]].map((value) => labelOf(name, value));
      summary.textContent = `${one}: ${chosen.length > 0 ? chosen.join(", ") : "all"}`;
      for (const box of all("input", list)) box.checked = choice[name].has(box.value);
    });
    return menu;
  });
}

/** The toolbar of the page, with the theme. */
function toolbar() {
  const menus = choiceMenus();
  const bar = make("div", { class: "toolbar", role: "region", "aria-label": "View" });
  const reset = make("button", { type: "button", class: "reset" }, "Show all");
  reset.addEventListener("click", () => {
    for (const { name } of FACETS) choice[name].clear();
    applyChoice();
  });
  // The menus are not printed, but what they hide is missing on paper.
  const printed = make("p", { class: "printed" });
  followers.push(() => {
    const restricted = FACETS.filter(({ name }) => choice[name].size > 0);
    reset.hidden = restricted.length === 0;
    printed.hidden = reset.hidden;
    const chosen = ({ name }) => [...choice[name]].map((value) => labelOf(name, value)).join(", ");
    const parts = restricted.map((facet) => `${facet.many} ${chosen(facet)}`);
    printed.textContent = `Figures and tables show only ${parts.join("; ")}.`;
  });
  bar.append(...menus, reset, themeMenu(), printed);
  // A menu closes when the focus leaves it, or on Escape.
  for (const menu of menus) {
    menu.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !menu.open) return;
      menu.open = false;
      menu.querySelector("summary").focus();
    });
    document.addEventListener("pointerdown", ({ target }) => {
      if (!menu.contains(target)) menu.open = false;
    });
    menu.addEventListener("focusout", ({ relatedTarget }) => {
      if (relatedTarget && !menu.contains(relatedTarget)) menu.open = false;
    });
  }
  return bar;
}

// The theme

const THEMES = { auto: "light dark", light: "light", dark: "dark" };

/** A control for the theme, which is remembered where the browser permits it. */
function themeMenu() {
  const options = Object.keys(THEMES).map((theme) => make("option", { value: theme }, theme));
  const select = make("select", {}, ...options);
  const stored = () => {
    try {
      return localStorage.getItem("repro-theme");
    } catch {
      return null;
    }
  };
  const set = (theme) => {
    document.documentElement.dataset.theme = theme;
    document.documentElement.style.colorScheme = THEMES[theme];
  };
  select.value = stored() in THEMES ? stored() : "auto";
  set(select.value);
  select.addEventListener("change", () => {
    set(select.value);
    try {
      localStorage.setItem("repro-theme", select.value);
    } catch {
      // The theme lasts until the page is closed.
    }
  });
  return make("label", { class: "theme" }, "Theme ", select);
}
