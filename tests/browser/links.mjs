// Claims about links, anchors and downloads.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { unfold } from "./report.mjs";

export async function every_link_within_the_page_has_its_target(report) {
  const page = await report.open();
  const { ids, targets, files } = await page.evaluate(() => {
    const links = [...document.querySelectorAll("a[href]")].map((a) => a.getAttribute("href"));
    return {
      ids: [...document.querySelectorAll("[id]")].map((element) => element.id),
      targets: links.filter((href) => href.startsWith("#")).map((h) => decodeURIComponent(h)),
      files: links.filter((href) => !/^(#|https:|mailto:)/.test(href)),
    };
  });
  const repeated = ids.filter((id, i) => ids.indexOf(id) !== i);
  assert.deepEqual(repeated, [], "each id is used once");
  const known = new Set(ids.map((id) => `#${id}`));
  assert.deepEqual(targets.filter((target) => !known.has(target)), []);
  assert(targets.length >= 10, `${targets.length} links within the page`);
  assert.deepEqual(files.filter((file) => !report.has(decodeURIComponent(file))), []);
}

export async function the_contents_lead_to_their_headings(report) {
  const page = await report.open();
  const links = page.locator("nav a[href^='#']");
  assert((await links.count()) >= 5, `${await links.count()} entries of the contents`);
  for (const link of await links.all()) {
    const href = await link.getAttribute("href");
    const target = page.locator(`[id="${href.slice(1)}"]`);
    // The first entry leads to the start of the page. On wide screens the contents are beside the
    // text, and their section is hidden.
    if (["#main", "#contents"].includes(href) || !(await link.isVisible())) continue;
    await link.click();
    const box = await target.boundingBox();
    assert(box, `${href} is not shown`);
    const end = await page.evaluate(() => scrollY + innerHeight >= document.body.scrollHeight - 2);
    assert(box.y >= 0 && (box.y < 450 || end), `${href} is at ${box.y} px`);
    // The toolbar, which stays in view, does not cover the heading.
    const bar = await page.locator(".toolbar").boundingBox();
    assert(end || box.y + 1 >= bar.y + bar.height, `${href} is below the toolbar`);
  }
}

export async function downloads_are_the_files_of_the_report(report) {
  const page = await report.open();
  await unfold(page);
  // Links to other files, such as those of the user, lead to the files beside the page.
  const files = await page.locator("a[data-file]").evaluateAll((links) => {
    const embedded = (file) => document.querySelector(`script[data-path="${file}"]`) !== null;
    return [...new Set(links.map((link) => link.dataset.file).filter(embedded))];
  });
  assert(files.some((file) => file.endsWith(".csv")) && files.some((f) => f.endsWith(".svg")));
  const charts = await page
    .locator(".chart[data-chart]")
    .evaluateAll((charts) => charts.map((chart) => chart.dataset.chart));
  for (const chart of charts) assert(files.includes(`figures/${chart}.svg`), chart);
  let saver = page;
  for (const [i, file] of files.entries()) {
    // Chromium asks before it saves more than ten files of a page.
    if (i % 8 === 7) {
      saver = await report.open();
      await unfold(saver);
    }
    const saving = saver.waitForEvent("download", { timeout: 20_000 }).catch(() => null);
    await saver.locator(`a[data-file="${file}"]`).first().click();
    const download = await saving;
    assert(download, `a click on ${file} saves nothing`);
    assert.equal(download.suggestedFilename(), file.split("/").pop());
    const saved = readFileSync(await download.path());
    assert(saved.equals(report.bytes(file)), `${file} differs from the file of the report`);
  }
}
