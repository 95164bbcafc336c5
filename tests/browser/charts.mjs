// Claims about figures.

import assert from "node:assert/strict";
import { chartData, close, six } from "./report.mjs";

/** The box with values: its title, and names and values. */
async function box(page) {
  const found = page.locator(".values:visible");
  assert.equal(await found.count(), 1, "one box with values");
  const title = await found.locator("strong").innerText();
  const names = await found.locator("dt").allInnerTexts();
  const values = await found.locator("dd").allInnerTexts();
  return { title, values: Object.fromEntries(names.map((name, i) => [name, values[i]])) };
}

/** Where a point of a panel is in the window, from its data alone. */
async function place(panel, { frame: [left, top, width, height], x, y }, series, point) {
  const share = ({ scale, low, high }, value) =>
    scale === "log"
      ? Math.log(value / low) / Math.log(high / low)
      : (value - low) / (high - low);
  const at = [
    left + series.shift + width * share(x, point[0]),
    top + height * (1 - share(y, point[1])),
  ];
  const view = await panel.evaluate((svg) => {
    const { x, y, width, height } = svg.getBoundingClientRect();
    return { x, y, width, height, view: svg.viewBox.baseVal.width };
  });
  const scale = view.width / view.view;
  return { x: view.x + scale * at[0], y: view.y + scale * at[1], scale };
}

export async function the_pointer_shows_the_values_of_the_nearest_point(report) {
  const page = await report.open();
  const chart = page.locator("[data-chart=max-error-by-width]");
  const { panels } = await chartData(page, "max-error-by-width");
  let compared = 0;
  for (const [i, panel] of panels.entries()) {
    const drawing = chart.locator(`svg.panel[data-panel="${i}"]`);
    await drawing.scrollIntoViewIfNeeded();
    for (const series of panel.series) {
      for (const point of series.points) {
        const at = await place(drawing, panel, series, point);
        await page.mouse.move(at.x, at.y);
        const shown = await box(page);
        // Another point may be at the same place; its values are within a pixel, then.
        const near = panel.series.filter(({ label }) => label === shown.title);
        assert(near.length > 0, shown.title);
        const value = shown.values[panel.y.label];
        const hit = near
          .flatMap((one) => one.points.map((p) => ({ one, p })))
          .find(({ p }) => shown.values[panel.x.label] === String(p[0]) && value === String(p[1]));
        assert(hit, `${shown.title}: ${value}`);
        const there = await place(drawing, panel, hit.one, hit.p);
        assert(Math.hypot(there.x - at.x, there.y - at.y) < 1.5, `${series.label} ${point}`);
        compared += 1;
      }
    }
  }
  assert(compared > 10, `${compared} points`);
}

export async function the_values_of_figures_are_those_of_the_tables(report) {
  const page = await report.open();
  const { panels } = await chartData(page, "max-error-by-width");
  let compared = 0;
  for (const { series } of panels) {
    for (const { facets, points } of series) {
      if (!facets.method || !facets.prior) continue;
      for (const [x, y, low, high] of points) {
        const row = report.mean({ ...facets, hidden: String(x), metric: "max_error" });
        close(y, Number(row.mean), `${facets.method} ${x}`);
        if (low !== null) assert.deepEqual([low, high], [six(row.low), six(row.high)]);
        compared += 1;
      }
    }
  }
  assert(compared > 10, `${compared} points`);
}

export async function the_arrow_keys_walk_along_the_points_and_escape_hides_them(report) {
  const page = await report.open();
  const { panels } = await chartData(page, "error-by-method");
  const panel = page.locator("[data-chart=error-by-method] svg.panel").first();
  await panel.focus();
  const { series, x, y } = panels[0];
  const expected = (one, [px, py]) => [one.label, String(px), String(py)];
  const shown = async () => {
    const { title, values } = await box(page);
    return [title, values[x.label], values[y.label]];
  };
  await page.keyboard.press("ArrowRight");
  assert.deepEqual(await shown(), expected(series[0], series[0].points[0]));
  await page.keyboard.press("ArrowRight");
  assert.deepEqual(await shown(), expected(series[0], series[0].points[1]));
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowDown");
  assert.equal((await shown())[0], series[1].label);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator(".values:visible").count(), 0);
}

export async function a_touch_shows_values(report) {
  const page = await report.open({ width: 380, height: 800, hasTouch: true, isMobile: true });
  const panel = page.locator("svg.panel").first();
  await panel.scrollIntoViewIfNeeded();
  await panel.tap();
  await box(page);
}

export async function the_legend_switches_series_off_and_on(report) {
  const page = await report.open();
  const chart = page.locator("[data-chart=error-by-method]");
  const { panels } = await chartData(page, "error-by-method");
  const entry = chart.locator(".legend > li").first();
  const key = await entry.getAttribute("data-series");
  const button = entry.getByRole("button");
  const visible = () =>
    chart.locator(`svg.panel g[data-series="${key}"]`).evaluateAll(
      (groups) => groups.map((group) => getComputedStyle(group).display !== "none"),
    );
  const others = chart.locator(`svg.panel g[data-series]:not([data-series="${key}"])`);
  assert((await visible()).length > 0 && (await visible()).every(Boolean));
  assert.equal(await button.getAttribute("aria-pressed"), "true");
  await button.click();
  assert.equal(await button.getAttribute("aria-pressed"), "false");
  assert((await visible()).every((shown) => !shown));
  const displays = await others.evaluateAll((all) => all.map((g) => getComputedStyle(g).display));
  assert(!displays.includes("none"));
  // A point of the hidden series is no longer found.
  const [series] = panels[0].series.filter((one) => one.key === key);
  const panel = chart.locator("svg.panel").first();
  await panel.scrollIntoViewIfNeeded();
  const at = await place(panel, panels[0], series, series.points[3]);
  await page.mouse.move(at.x, at.y);
  assert.notEqual((await box(page)).title, series.label);
  await button.focus();
  await page.keyboard.press("Enter");
  assert.equal(await button.getAttribute("aria-pressed"), "true");
  assert((await visible()).every(Boolean));
}
