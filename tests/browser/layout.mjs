// Claims about sizes, themes, print and the page without scripts.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { unfold } from "./report.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = [380, 800, 1600];

/** The violations that axe-core finds, one line for each element. */
async function violations(page) {
  await page.evaluate(AXE);
  return page.evaluate(async () => {
    const { violations } = await window.axe.run();
    return violations.flatMap(({ id, nodes }) =>
      nodes.map(({ target, failureSummary }) => `${id}: ${target.join(" ")}: ${failureSummary}`),
    );
  });
}

async function accessible(report, colorScheme) {
  const found = [];
  for (const width of WIDTHS) {
    const page = await report.open({ width, colorScheme });
    await unfold(page);
    for (const line of await violations(page)) found.push(`${width} px: ${line}`);
  }
  assert.equal(found.length, 0, `${found.length} violations\n${found.slice(0, 20).join("\n")}`);
}

export const axe_finds_no_violation_in_light = (report) => accessible(report, "light");
export const axe_finds_no_violation_in_dark = (report) => accessible(report, "dark");

export async function axe_finds_no_violation_in_open_menus_and_values(report) {
  const page = await report.open();
  await page.locator(".menu summary").first().click();
  const panel = page.locator("svg.panel").first();
  await panel.focus();
  await page.keyboard.press("ArrowRight");
  const found = await violations(page);
  assert.equal(found.length, 0, found.join("\n"));
}

export async function no_width_scrolls_the_page_sideways(report) {
  for (const width of [320, ...WIDTHS]) {
    const page = await report.open({ width });
    await unfold(page);
    const wide = await page.evaluate(() => {
      const room = document.documentElement.clientWidth;
      if (document.documentElement.scrollWidth <= room) return [];
      const scrolls = (e) => getComputedStyle(e).overflowX !== "visible";
      return [...document.querySelectorAll("body *")]
        .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > room + 1)
        .filter((e) => {
          for (let up = e.parentElement; up; up = up.parentElement) if (scrolls(up)) return false;
          return true;
        })
        .map((e) => `${e.tagName} ${e.id || e.className}: ${e.textContent.slice(0, 40)}`);
    });
    assert.deepEqual(wide.slice(0, 10), [], `at ${width} px`);
  }
}

export async function the_theme_can_be_chosen_and_is_remembered(report) {
  const page = await report.open({ colorScheme: "light" });
  const paper = (of) => of.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const ink = (of) =>
    of.locator("svg.panel text").first().evaluate((text) => getComputedStyle(text).fill);
  const light = [await paper(page), await ink(page)];
  await page.getByLabel("Theme").selectOption("dark");
  const dark = [await paper(page), await ink(page)];
  assert(dark[0] !== light[0] && dark[1] !== light[1], "figures follow the theme");
  const other = await page.context().newPage();
  await other.goto(report.url);
  assert.equal(await other.getByLabel("Theme").inputValue(), "dark");
  assert.deepEqual([await paper(other), await ink(other)], dark);
  const system = await report.open({ colorScheme: "dark" });
  assert.deepEqual([await paper(system), await ink(system)], dark, "`auto` is the system's theme");
}

export async function a_page_without_storage_works(report) {
  const context = await report.browser.newContext();
  await context.addInitScript(() => {
    const forbidden = { get: () => { throw new DOMException("no storage", "SecurityError"); } };
    Object.defineProperty(window, "localStorage", forbidden);
    history.replaceState = () => { throw new DOMException("no history", "SecurityError"); };
  });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => errors.push(message.text()));
  await page.goto(report.url);
  await page.getByLabel("Theme").selectOption("dark");
  await page.locator(".menu summary").first().click();
  await page.locator(".menu input").first().check();
  assert((await page.locator(".unchosen").count()) > 0);
  await context.close();
  assert.deepEqual(errors, []);
}

// A4 with the margins of page.css, at 96 px per inch.
const SHEET = { width: 688, height: 1001 };

export async function the_page_prints_with_figures_beside_their_captions(report) {
  const page = await report.open({ ...SHEET });
  await page.emulateMedia({ media: "print", colorScheme: "light" });
  const figures = await page.locator("main figure:not(.table)").evaluateAll((figures) =>
    figures.map((figure) => {
      const { height } = figure.getBoundingClientRect();
      const caption = figure.querySelector("figcaption");
      const inside = getComputedStyle(figure).breakInside;
      return { id: figure.id, height, inside, captioned: caption !== null };
    }),
  );
  assert(figures.length > 3);
  for (const { id, height, inside, captioned } of figures) {
    // A block that must not be broken and fits on a sheet is on one sheet.
    assert(captioned && inside === "avoid", `${id}: ${captioned} ${inside}`);
    assert(height <= SHEET.height, `${id} has ${height} px, a sheet has ${SHEET.height}`);
  }
  const pdf = await page.pdf({ format: "A4", preferCSSPageSize: true });
  const sheets = pdf.toString("latin1").match(/\/Type\s*\/Page\b/g)?.length ?? 0;
  assert(sheets > 2 && sheets < 80, `${sheets} sheets`);
  const controls = page.locator(".menu, .theme, .filter, .controls, .values");
  for (const control of await controls.all()) assert.equal(await control.isVisible(), false);
}

export async function a_choice_is_printed_as_it_is_shown(report) {
  const page = await report.open({ query: "?prior=none&method=linear" });
  const hidden = await page.locator("main [data-method]").evaluateAll(
    (all) => all.map((e) => e.checkVisibility()),
  );
  await page.emulateMedia({ media: "print" });
  const printed = await page.locator("main [data-method]").evaluateAll(
    (all) => all.map((e) => e.checkVisibility()),
  );
  assert.deepEqual(printed, hidden);
  const note = page.getByText("Figures and tables show only priors none; methods Linear.");
  assert(await note.isVisible(), "the paper says what is chosen");
}

export async function the_page_is_complete_without_scripts(report) {
  const scripted = await report.open();
  const plain = await report.open({ scripts: false });
  const counts = async (page) => {
    const visible = (selector) => page.locator(selector).evaluateAll((e) => e.length);
    return {
      figures: await visible("main figure svg.panel[data-panel]"),
      headings: await visible("main h2"),
    };
  };
  const [with_, without] = [await counts(scripted), await counts(plain)];
  assert.equal(without.headings, with_.headings);
  assert(without.figures > 5);
  for (const panel of await plain.locator("main figure svg.panel").all()) {
    assert(await panel.isVisible());
  }
  const rows = await plain.locator("main table tbody tr").count();
  assert(rows > 10, `${rows} rows`);
  const dead = plain.locator("main button, main select, main input");
  assert.equal(await dead.count(), 0, "no control that does nothing");
  for (const place of await plain.locator("[data-explorer]").all()) {
    const said = (await place.textContent()).includes("script");
    assert(said || !(await place.isVisible()), "an explorer says what it needs, or is hidden");
  }
}
