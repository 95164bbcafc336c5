// Claims about the explorers of single values and about the provenance.

import assert from "node:assert/strict";

export async function the_explorer_of_pairs_shows_the_values_behind_each_mean(report) {
  const page = await report.open();
  const place = page.locator("[data-explorer=pairs]");
  const pick = (label, value) => place.getByLabel(label).selectOption(value);
  const metrics = report.csv("metrics");
  for (const [hidden, prior, metric, split] of [
    ["10", "none", "max_error", "test"],
    ["20", "normal 0.01", "barrier_loss", "train"],
  ]) {
    await pick("Width", hidden);
    await pick("Prior", prior);
    await pick("Metric", metric);
    await pick("Split", split);
    const rows = await place.locator("tbody tr").evaluateAll((rows) =>
      rows.map((row) => [...row.querySelectorAll("[data-value]")].map((c) => c.dataset.value)),
    );
    const methods = [...new Set(metrics.map((row) => row.method))];
    const expected = methods.map((method) => {
      const of = metrics
        .filter((r) => r.hidden === hidden && r.prior === prior && r.method === method)
        .filter((r) => r.split === split)
        .toSorted((a, b) => a.pair - b.pair);
      const { mean } = report.mean({ hidden, prior, method, split, metric });
      return [...of.map((row) => row[metric]), mean];
    });
    assert.deepEqual(rows.toSorted(), expected.toSorted());
    assert.equal(await place.locator("tbody svg.strip").count(), methods.length);
  }
}

export async function the_explorer_of_training_draws_a_line_for_each_net(report) {
  const page = await report.open();
  const place = page.locator("[data-explorer=training]");
  const histories = report.csv("histories");
  await place.getByLabel("Width").selectOption("20");
  await place.getByLabel("Prior").selectOption("none");
  await place.getByLabel("Quantity").selectOption("train_loss");
  const nets = new Map();
  for (const row of histories.filter((r) => r.hidden === "20" && r.prior === "none")) {
    const label = `net ${row.net}`;
    nets.set(label, [...(nets.get(label) ?? []), row]);
  }
  assert.deepEqual(await place.locator(".legend li").allInnerTexts(), [...nets.keys()]);
  // The arrow keys reach every epoch of the first net.
  await place.locator("svg.panel").focus();
  for (const row of nets.values().next().value) {
    await page.keyboard.press("ArrowRight");
    const shown = await page.locator(".values:visible dd").allInnerTexts();
    assert.deepEqual(shown.map(Number), [Number(row.epoch), Number(row.train_loss)]);
  }
}

export async function the_page_shows_the_provenance_of_this_copy(report) {
  const page = await report.open();
  const provenance = JSON.parse(await page.locator("script#provenance").textContent());
  const line = await page.locator(".computed").first().innerText();
  const { last, hosts } = provenance.summary;
  assert(line.includes(last.slice(0, 10)) && line.includes(hosts[0]), line);
  const { y } = await page.locator(".computed").first().boundingBox();
  assert(y < 900, `the line is at ${y} px`);
  const text = await page.locator("main").innerText();
  for (const { host, processor, program } of provenance.environments) {
    for (const value of [host, processor, program]) {
      assert(value === null || text.includes(value), value);
    }
  }
  await page.getByText("When and where each node ran").click();
  const rows = page.locator(`details table:has(caption:text("nodes")) tbody tr`);
  await rows.first().waitFor();
  assert.equal(await rows.count(), provenance.summary.nodes);
}

export async function a_page_without_provenance_shows_none(report) {
  const page = await report.open();
  assert.equal(await page.locator(".computed").count(), 1);
  const context = page.context();
  const empty = report
    .text("report.html")
    .replace(/(<script type="application\/json" id="provenance">)[^]*?<\/script>/, "$1</script>");
  const other = await context.newPage();
  const errors = [];
  other.on("pageerror", (error) => errors.push(String(error)));
  await other.setContent(empty);
  await other.waitForFunction(() => document.documentElement.dataset.scripts === "ready");
  assert.equal(await other.locator(".computed").count(), 0);
  assert.deepEqual(errors, []);
}
