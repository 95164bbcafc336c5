// The scripts of the page. The page is complete without them; they add sorting, filtering, a choice
// of widths, priors and methods, values under the pointer, single values behind the means,
// downloads and the provenance of this copy.
//
// The files of this folder are included one after another in one inline module, so that their
// names are shared by them and hidden from everything else. There is no library: the figures are
// static SVG, and what is added to them takes 10 kB, where uPlot takes 50 kB and would draw them
// anew on a canvas. All files together have about 40 kB.
//
// What they read from the page, see `report::html`:
//   [data-hidden], [data-prior], [data-method]  an element about one value of a facet
//   td[data-facet]                the label of the row's value of this facet
//   td[data-value]                the number by which a column is sorted
//   .chart[data-chart=NAME]       a figure of `report::fragment`; its data are NAME.json
//   script[data-path]             an embedded file: base64 of raw deflate
//   a[data-file]                  a link to download the embedded file of this path
//   [data-explorer]               the place of an explorer: `pairs` or `training`
//   script#provenance             JSON of docs/provenance.md, empty in the cache

/** The facets by which the page selects, with the words that the reader sees. */
const FACETS = [
  { name: "hidden", one: "Width", many: "widths" },
  { name: "prior", one: "Prior", many: "priors" },
  { name: "method", one: "Method", many: "methods" },
];

/** An element with attributes, properties that start with `.`, and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, attributes);
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** An SVG element with attributes and children. */
function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(element, attributes);
  element.append(...children);
  return element;
}

function fill(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith(".")) element[name.slice(1)] = value;
    else if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null) element.setAttribute(name, value);
  }
}

const all = (selector, within = document) => [...within.querySelectorAll(selector)];

/** The identifiers of elements that the scripts make. */
let made = 0;
const newId = (prefix) => `${prefix}-${(made += 1)}`;

/** A number with at most `digits` significant digits, without a needless exponent. */
function short(x, digits = 4) {
  if (!Number.isFinite(x)) return "";
  const rounded = Number(x.toPrecision(digits));
  const size = Math.abs(rounded);
  return size !== 0 && (size < 1e-4 || size >= 1e7)
    ? rounded.toExponential()
    : String(rounded);
}

/** Compares text as people sort it: `h = 50` before `h = 100`. */
const { compare } = new Intl.Collator("en", { numeric: true });

/** The distinct values, in the order of their first occurrence. */
const distinct = (values) => [...new Set(values)];

// Embedded files

/** The bytes of base64 of raw deflate. */
async function inflate(text) {
  const packed = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const packedFiles = new Map(
  all("script[data-path]").map((script) => [script.dataset.path, script]),
);
const readFiles = new Map();

/** The bytes of the embedded file of this path; `null` if the page has none. */
function fileBytes(path) {
  if (!packedFiles.has(path)) return Promise.resolve(null);
  if (!readFiles.has(path)) readFiles.set(path, inflate(packedFiles.get(path).textContent));
  return readFiles.get(path);
}

/** The text of an embedded file; `null` if the page has none. */
async function fileText(path) {
  const bytes = await fileBytes(path);
  return bytes && new TextDecoder().decode(bytes);
}

/** The rows of an embedded table as objects; empty without the table. */
async function table(path) {
  const text = await fileText(path);
  if (!text) return [];
  const [heads, ...rows] = records(text);
  return rows.map((row) => Object.fromEntries(heads.map((head, i) => [head, row[i] ?? ""])));
}

/** The records of CSV, whose fields may be quoted. */
function records(text) {
  const field = /("(?:[^"]|"")*"|[^,"\r\n]*)(,|\r?\n|$)/y;
  const rows = [];
  let row = [];
  while (field.lastIndex < text.length) {
    const match = field.exec(text);
    if (!match) throw new Error("an embedded table is not CSV");
    const [, value, end] = match;
    row.push(value.startsWith('"') ? value.slice(1, -1).replaceAll('""', '"') : value);
    if (end !== ",") {
      rows.push(row);
      row = [];
    }
  }
  return rows;
}

// Downloads

const MEDIA_TYPES = { csv: "text/csv", svg: "image/svg+xml", json: "application/json" };

/** Saves an embedded file; without one, the link leads to the file beside the page. */
async function save(event) {
  const path = event.currentTarget.dataset.file;
  if (!packedFiles.has(path)) return;
  event.preventDefault();
  const type = MEDIA_TYPES[path.split(".").pop()] ?? "application/octet-stream";
  const href = URL.createObjectURL(new Blob([await fileBytes(path)], { type }));
  make("a", { href, download: path.split("/").pop() }).click();
  // The browser may start to read the file after `click` returns.
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

for (const link of all("a[data-file]")) link.addEventListener("click", save);
