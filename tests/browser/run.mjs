// Opens a report in Chromium and checks claims about it.
//
//   node run.mjs CHROMIUM FOLDER [CLAIM...]
//
// FOLDER is a report's folder with report.html, tables/ and figures/. Each claim prints one line of
// JSON: {"claim", "seconds", "error"}; `error` is null if the claim holds. Every claim has a test
// of its name in tests/browser.rs.

import { chromium } from "playwright-core";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Report } from "./report.mjs";
import * as charts from "./charts.mjs";
import * as explorers from "./explorers.mjs";
import * as layout from "./layout.mjs";
import * as links from "./links.mjs";
import * as tables from "./tables.mjs";
import * as whole from "./whole.mjs";

const [executablePath, folder, ...wanted] = process.argv.slice(2);
const claims = Object.entries({
  ...tables,
  ...charts,
  ...explorers,
  ...links,
  ...layout,
  ...whole,
}).filter(([name]) => wanted.length === 0 || wanted.includes(name));

// Chromium cannot make its sandbox as root, as in many containers. It opens only our own page.
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const report = new Report(browser, folder, pathToFileURL(join(folder, "report.html")).href);
for (const [claim, check] of claims) {
  const start = performance.now();
  let error = null;
  try {
    await check(report);
    report.assertQuiet();
  } catch (failure) {
    error = failure.stack ?? String(failure);
  }
  await report.closePages();
  const seconds = (performance.now() - start) / 1000;
  console.log(JSON.stringify({ claim, seconds, error }));
}
await browser.close();
