// Claims about tables and the choice of widths, priors and methods.

import assert from "node:assert/strict";
import { chartData, unfold } from "./report.mjs";

/** The tables whose rows are methods and whose columns are widths. */
const METHOD_TABLE = "main table:has([data-facet=method]):has(th[data-hidden])";

/** The texts and values of a column of a table, of the rows that are shown. */
const column = (table, i) =>
  table.evaluate(
    (table, i) =>
      [...table.tBodies[0].rows]
        .filter((row) => row.checkVisibility())
        .map((row) => ({ text: row.cells[i].innerText, value: row.cells[i].dataset.value })),
    i,
  );

export async function headings_sort_rows_by_number_up_down_and_back(report) {
  const page = await report.open();
  const table = page.locator(METHOD_TABLE).first();
  const before = await column(table, 1);
  const numbers = before.map(({ value }) => Number(value));
  assert(numbers.length > 2 && numbers.every(Number.isFinite), JSON.stringify(before));
  const head = table.locator("thead th").nth(1);
  const up = [...numbers].sort((a, b) => a - b);
  for (const [order, expected] of [
    ["ascending", up],
    ["descending", up.toReversed()],
    [null, numbers],
  ]) {
    await head.getByRole("button").click();
    assert.equal(await head.getAttribute("aria-sort"), order);
    assert.deepEqual((await column(table, 1)).map(({ value }) => Number(value)), expected);
  }
}

export async function headings_sort_from_the_keyboard_and_keep_the_order_of_equal_rows(report) {
  const page = await report.open();
  const table = page.locator("#curves");
  await unfold(page);
  const rows = () =>
    table.evaluate((element) => {
      const table = element.querySelector("table") ?? element;
      return [...table.tBodies[0].rows].map((row) => [...row.cells].map((c) => c.innerText));
    });
  const before = await rows();
  // The first column has few values, so that most rows are equal.
  const button = table.locator("thead th").first().getByRole("button");
  await button.focus();
  await page.keyboard.press("Enter");
  const { compare } = new Intl.Collator("en", { numeric: true });
  assert.deepEqual(await rows(), before.toSorted((a, b) => compare(a[0], b[0])));
  await page.keyboard.press("Space");
  assert.deepEqual(await rows(), before.toSorted((a, b) => compare(b[0], a[0])));
}

export async function the_filter_hides_rows_without_its_words(report) {
  const page = await report.open();
  await unfold(page);
  const block = page.locator("#curves");
  const rows = await block.locator("tbody tr").evaluateAll((rows) => rows.map((r) => r.innerText));
  const field = page.locator("#curves input[type=search], p:has(+ * #curves) input").first();
  await field.fill("ARC none");
  const expected = rows.filter((text) => /arc/i.test(text) && /none/.test(text));
  assert(expected.length > 0 && expected.length < rows.length);
  const shown = block.locator("tbody tr:visible");
  assert.deepEqual(await shown.evaluateAll((rows) => rows.map((r) => r.innerText)), expected);
  const count = block.getByText(`${expected.length} of ${rows.length} rows`);
  assert.equal(await count.count(), 1, "the number of rows is shown");
  await field.fill("");
  assert.equal(await shown.count(), rows.length);
}

/** Chooses values in a menu of the toolbar. */
async function choose(page, facet, ...values) {
  const menu = page.locator(`[data-menu=${facet}]`);
  await menu.locator("summary").click();
  for (const value of values) await menu.locator(`input[value="${value}"]`).check();
  await page.keyboard.press("Escape");
  assert.equal(await menu.getAttribute("open"), null, "Escape closes the menu");
}

/** The values of a facet of all elements of the page, shown and hidden. */
const facets = (page, facet) =>
  page.locator(`main [data-${facet}]`).evaluateAll(
    (elements, facet) =>
      elements.map((e) => [e.dataset[facet], !e.classList.contains("unchosen")]),
    facet,
  );

export async function the_menus_offer_every_value_of_the_tables(report) {
  const page = await report.open();
  const summary = report.csv("summary");
  for (const facet of ["hidden", "prior", "method"]) {
    const offered = await page
      .locator(`[data-menu=${facet}] input`)
      .evaluateAll((boxes) => boxes.map((box) => box.value));
    const values = [...new Set(summary.map((row) => row[facet]))];
    assert.deepEqual(offered.toSorted(), values.toSorted(), facet);
  }
}

export async function a_choice_hides_rows_and_columns_until_it_is_reset(report) {
  const page = await report.open();
  await unfold(page);
  await choose(page, "hidden", "10");
  await choose(page, "prior", "none");
  await choose(page, "method", "linear", "arc+wa");
  const allowed = { hidden: ["10"], prior: ["none"], method: ["linear", "arc+wa"] };
  for (const [facet, values] of Object.entries(allowed)) {
    const found = await facets(page, facet);
    for (const [value, shown] of found) {
      assert(!shown || values.includes(value), `${facet} ${value} is shown`);
    }
    assert(found.some(([, shown]) => shown) && found.some(([, shown]) => !shown), facet);
  }
  // The cell that remains has the number of the table.
  const { mean } = report.mean({
    hidden: "10", prior: "none", method: "linear", metric: "max_error",
  });
  const cells = await page
    .locator(`${METHOD_TABLE} tr[data-method=linear] td[data-hidden="10"]:visible`)
    .evaluateAll((cells) => cells.map((cell) => Number(cell.dataset.value)));
  assert(cells.includes(Number(mean)), `${mean} in ${cells}`);
  const curves = page.locator("#curves tbody tr:visible");
  assert.equal(await curves.count(), 2, "one row of `All curves` for each chosen method");
  await page.getByRole("button", { name: "Show all" }).click();
  for (const facet of ["hidden", "prior", "method"]) {
    assert((await facets(page, facet)).every(([, shown]) => shown), facet);
  }
}

export async function a_choice_hides_series_and_panels(report) {
  const page = await report.open();
  await choose(page, "prior", "none");
  await choose(page, "method", "linear");
  const names = await page
    .locator(".chart[data-chart]")
    .evaluateAll((charts) => charts.map((chart) => chart.dataset.chart));
  const all = {};
  for (const name of names) all[name] = await chartData(page, name);
  const checked = await page.evaluate((all) => {
    const count = { series: 0, hidden: 0 };
    const wrong = [];
    for (const chart of document.querySelectorAll(".chart[data-chart]")) {
      const data = all[chart.dataset.chart];
      for (const svg of chart.querySelectorAll("svg.panel")) {
        for (const one of data.panels[svg.dataset.panel].series) {
          const { prior = "none", method = "linear" } = one.facets;
          const chosen = prior === "none" && method === "linear";
          const same = data.panels[svg.dataset.panel].series.filter((o) => o.key === one.key);
          if (same.length > 1) continue;
          for (const group of svg.querySelectorAll(`g[data-series="${one.key}"]`)) {
            // Chromium says of SVG groups without a box that they are visible.
            const displays = [group, svg].map((element) => getComputedStyle(element).display);
            const shown = !displays.includes("none");
            count.series += 1;
            if (!chosen) count.hidden += 1;
            if (shown !== chosen) {
              wrong.push(`${chart.dataset.chart} ${svg.dataset.panel} ${one.label}`);
            }
          }
        }
      }
    }
    return { count, wrong };
  }, all);
  assert.deepEqual(checked.wrong, []);
  assert(checked.count.hidden > 10 && checked.count.series > checked.count.hidden);
}

export async function a_choice_is_in_the_address_and_read_from_it(report) {
  const page = await report.open();
  await choose(page, "method", "arc+wa");
  await choose(page, "hidden", "10", "20");
  const { search } = new URL(page.url());
  assert.deepEqual(
    [...new URLSearchParams(search)].toSorted(),
    [["hidden", "10"], ["hidden", "20"], ["method", "arc+wa"]],
  );
  const other = await report.open({ query: `${search}#tables` });
  assert((await facets(other, "method")).every(([value, shown]) => shown === (value === "arc+wa")));
  const summary = other.locator("[data-menu=hidden] summary");
  assert.equal(await summary.innerText(), "Width: 10, 20");
  assert.equal(new URL(other.url()).hash, "#tables");
}

export async function a_choice_without_anything_says_so(report) {
  const page = await report.open({ query: "?prior=none" });
  // The tables of the other prior say that they are outside of the choice.
  const outside = page.locator("main [data-prior]:not([data-prior=none])").first();
  assert.equal(await outside.isVisible(), false);
  const block = page.locator("main figure[data-prior]:not([data-prior=none])").first();
  if ((await block.count()) > 0) {
    // A link to one of them shows everything again.
    const id = await block.getAttribute("id");
    await page.evaluate((id) => { location.hash = id; }, id);
    await block.waitFor({ state: "visible" });
    assert.equal(await page.locator(".unchosen").count(), 0);
  }
  const unknown = await report.open({ query: "?prior=unknown&hidden=-1" });
  assert.equal(await unknown.locator(".unchosen").count(), 0, "unknown values choose nothing");
}
