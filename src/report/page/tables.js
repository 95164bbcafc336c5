// Tables: each heading sorts its column, and long tables have a field to filter rows.

/** The number of rows from which a table has a filter. */
const FILTERED = 8;

function enhanceTable(element) {
  const body = element.tBodies[0];
  const heads = [...(element.tHead?.rows[0]?.cells ?? [])];
  if (!body || body.rows.length < 2 || heads.length === 0) return;
  const original = [...body.rows];
  heads.forEach((head, column) => {
    // A column of drawings has no order.
    if (original.every((row) => !row.cells[column]?.textContent.trim())) return;
    const button = make("button", { type: "button", class: "sort" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const next = { none: "ascending", ascending: "descending", descending: "none" };
      const order = next[head.getAttribute("aria-sort") ?? "none"];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order !== "none") head.setAttribute("aria-sort", order);
      body.append(...sorted(original, column, order));
    });
  });
  if (original.length >= FILTERED) addFilter(element, original);
}

/** The rows in this order of a column; rows with equal cells keep theirs, empty cells are last. */
function sorted(rows, column, order) {
  if (order === "none") return rows;
  const sign = order === "ascending" ? 1 : -1;
  const entries = rows.map((row) => {
    const cell = row.cells[column];
    const text = cell?.textContent.trim() ?? "";
    const number = cell?.dataset.value === undefined ? NaN : Number(cell.dataset.value);
    return { row, text, number };
  });
  const numeric = entries.every(({ text, number }) => text === "" || !Number.isNaN(number));
  entries.sort((a, b) => {
    if (a.text === "" || b.text === "") return (a.text === "") - (b.text === "");
    return sign * (numeric ? a.number - b.number : compare(a.text, b.text));
  });
  return entries.map(({ row }) => row);
}

/** A field above the table that hides rows without all of its words. */
function addFilter(element, rows) {
  const field = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const count = make("output", { role: "status" });
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter((word) => word !== "");
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const found = words.every((word) => text.includes(word));
      row.classList.toggle("filtered", !found);
      if (found) shown += 1;
    }
    count.textContent = words.length > 0 ? `${shown} of ${rows.length} rows` : "";
  });
  const label = make("label", {}, "Filter rows ", field);
  const place = element.closest(".scroll") ?? element;
  place.before(make("p", { class: "filter" }, label, " ", count));
}
