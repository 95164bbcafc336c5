// The provenance of this copy of the report: who computed it, when, and from which commit. The
// cached page has none.

/** Seconds since 1970, or a date, as `2026-11-28 14:03` UTC. */
const date = (time) => new Date(time).toISOString().slice(0, 16).replace("T", " ");

/** `1 h 12 min` */
function duration(seconds) {
  const minutes = Math.round(seconds / 60);
  if (minutes === 0) return `${short(seconds, 2)} s`;
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const state = (clean) => ({ true: "clean", false: "with changes" })[clean] ?? "state unknown";

/** The line of the first screen. */
function provenanceLine({ summary, environments }) {
  const { hosts = [], commits = [], last, clean } = summary;
  const words = ["Computed"];
  if (last) words.push(date(last).slice(0, 10));
  if (hosts.length > 0) {
    const cores = distinct(environments.map((e) => e.cores).filter((n) => n !== null));
    const size = hosts.length === 1 && cores.length === 1 ? ` (${cores[0]} cores)` : "";
    words.push(`on ${hosts.join(", ")}${size}`);
  }
  const commit = commits.map((id) => id.slice(0, 10)).join(", ");
  return commit ? `${words.join(" ")}, commit ${commit}, ${state(clean)}.` : `${words.join(" ")}.`;
}

/** A table with a caption, headings and rows of text. */
function plainTable(caption, heads, rows) {
  const element = make(
    "table",
    {},
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make(
      "tbody",
      {},
      ...rows.map((row) => make("tr", {}, ...row.map((text) => make("td", {}, text)))),
    ),
  );
  const scroll = make("div", { class: "scroll", tabindex: 0, role: "region" }, element);
  scroll.setAttribute("aria-label", caption);
  enhanceTable(element);
  return scroll;
}

/** The table of all nodes, which is made when the reader unfolds it. */
function nodesTable(provenance) {
  const { columns, environments, kinds } = provenance;
  const details = make("details", {}, make("summary", {}, "When and where each node ran"));
  const open = async () => {
    const bytes = await inflate(provenance.nodes);
    const rows = JSON.parse(new TextDecoder().decode(bytes)).map((values) => {
      const row = Object.fromEntries(columns.map((column, i) => [column, values[i]]));
      const environment = environments[row.environment];
      return [
        row.name,
        kinds[row.kind] ?? "",
        row.finished === null ? "" : date(1000 * row.finished),
        row.seconds === null ? "" : short(row.seconds, 3),
        environment?.host ?? "",
        environment?.commit?.slice(0, 10) ?? "",
        row.key,
        row.outputs ?? "",
      ];
    });
    const heads = ["node", "kind", "finished (UTC)", "seconds", "host", "commit", "key", "outputs"];
    details.append(plainTable(`${rows.length} nodes`, heads, rows));
  };
  details.addEventListener("toggle", open, { once: true });
  return details;
}

function showProvenance() {
  const text = document.querySelector("script#provenance")?.textContent.trim();
  if (!text) return;
  const provenance = JSON.parse(text);
  const { summary, environments } = provenance;
  const line = make("p", { class: "computed" }, provenanceLine(provenance));
  document.querySelector("main h1")?.after(line);
  const place = document.querySelector("main [data-provenance]");
  if (!place) return;
  const unknown = (value) => (value === null || value === undefined ? "unknown" : String(value));
  const facts = [
    ["profile", unknown(provenance.profile)],
    ["nodes", String(summary.nodes)],
    ["first node finished", summary.first ? `${date(summary.first)} UTC` : "unknown"],
    ["last node finished", summary.last ? `${date(summary.last)} UTC` : "unknown"],
    ["total time of the nodes", duration(summary.seconds ?? 0)],
    ["hosts", summary.hosts.join(", ") || "unknown"],
    ["commits", summary.commits.join(", ") || "unknown"],
    ["working tree", state(summary.clean)],
  ];
  const names = ["host", "system", "processor", "cores", "commit", "clean", "program"];
  const where = environments.map((environment) =>
    names.map((name) => (name === "clean" ? state(environment[name]) : unknown(environment[name]))),
  );
  place.append(
    plainTable("This copy of the report", ["what", "value"], facts),
    plainTable("Where it was computed", names, where),
    nodesTable(provenance),
  );
}
