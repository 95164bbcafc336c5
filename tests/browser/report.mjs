// A report in the browser, and its files read without the page's scripts.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export class Report {
  constructor(browser, folder, url) {
    this.browser = browser;
    this.folder = folder;
    this.url = url;
    this.contexts = [];
    /** What the console and the network showed since `assertQuiet`. */
    this.noise = [];
  }

  /** A new page with the report, whose scripts have finished. Requests to any network fail. */
  async open({ width = 1200, height = 900, query = "", scripts = true, ...options } = {}) {
    const context = await this.browser.newContext({
      viewport: { width, height },
      javaScriptEnabled: scripts,
      reducedMotion: "reduce",
      ...options,
    });
    this.contexts.push(context);
    await context.route("**/*", (route) => {
      const url = route.request().url();
      if (/^(file|blob|data):/.test(url)) return route.continue();
      this.noise.push(`request of ${url}`);
      return route.abort();
    });
    const page = await context.newPage();
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.noise.push(message.text());
    });
    page.on("pageerror", (error) => this.noise.push(String(error.stack ?? error)));
    page.on("requestfailed", (request) => this.noise.push(`failed: ${request.url()}`));
    await page.goto(`${this.url}${query}`);
    if (scripts) {
      // The last of the scripts' work is to read the embedded data of figures and explorers.
      await page.waitForFunction(() => document.documentElement.dataset.scripts === "ready");
    }
    return page;
  }

  /** Fails if the console has an error or a warning, or if anything was requested. */
  assertQuiet() {
    const noise = this.noise;
    this.noise = [];
    assert.deepEqual(noise, []);
  }

  async closePages() {
    for (const context of this.contexts.splice(0)) await context.close();
    this.noise = [];
  }

  path(file) {
    return join(this.folder, file);
  }

  has(file) {
    return existsSync(this.path(file));
  }

  bytes(file) {
    return readFileSync(this.path(file));
  }

  text(file) {
    return readFileSync(this.path(file), "utf8");
  }

  /** The rows of a table. The program writes CSV without quotes, unless a value has a comma. */
  csv(name) {
    const text = this.text(`tables/${name}.csv`);
    assert(!text.includes('"'), `${name}.csv has quotes, which this reader does not understand`);
    const [heads, ...lines] = text.trimEnd().split("\n").map((line) => line.split(","));
    return lines.map((line) => Object.fromEntries(heads.map((head, i) => [head, line[i]])));
  }

  /** The row of summary.csv for a group of curves and a metric. */
  mean({ hidden, prior, method, split = "test", metric }) {
    const found = this.csv("summary").filter(
      (row) =>
        row.hidden === hidden &&
        row.prior === prior &&
        row.method === method &&
        row.split === split &&
        row.metric === metric,
    );
    assert.equal(found.length, 1, `${hidden} ${prior} ${method} ${split} ${metric}`);
    return found[0];
  }
}

/** A number with six significant digits, as in chart.json. */
export const six = (x) => Number(Number(x).toPrecision(6));

/** Fails if two numbers differ by more than their rounding to six digits. */
export function close(actual, expected, message) {
  const difference = Math.abs(actual - expected);
  assert(difference <= 1.1e-5 * Math.abs(expected), `${message}: ${actual}, not ${expected}`);
}

/** Opens all folded parts of the page. */
export const unfold = (page) =>
  page.evaluate(() => {
    for (const details of document.querySelectorAll("main details:not(.menu)")) details.open = true;
  });

/** The data of a figure, read from the page without its scripts. */
export const chartData = (page, name) =>
  page.evaluate(async (path) => {
    const packed = document.querySelector(`script[data-path="${path}"]`).textContent.trim();
    const bytes = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream();
    const inflated = stream.pipeThrough(new DecompressionStream("deflate-raw"));
    return JSON.parse(await new Response(inflated).text());
  }, `figures/${name}.json`);
