// The explorers: the values of single pairs behind the means, and the training curves of every net,
// from the embedded tables.

/** The number of groups that the explorer of pairs shows at once. */
const GROUPS = 60;

/** A control with a label: `options` are pairs of value and label. */
function control(label, options, value, change) {
  const select = make("select", { change });
  select.append(...options.map(([value, text]) => make("option", { value }, text)));
  if (options.some(([option]) => option === value)) select.value = value;
  return { element: make("label", {}, `${label} `, select), select };
}

/** The values of a facet in these rows, in the order of the page, as options. */
function facetOptions(name, rows, withAll) {
  const present = new Set(rows.map((row) => row[name]));
  const known = [...facetValues[name].keys()].filter((value) => present.has(value));
  const others = [...present].filter((value) => !facetValues[name].has(value)).sort(compare);
  const options = [...known, ...others].map((value) => [value, labelOf(name, value)]);
  return withAll ? [["", "all"], ...options] : options;
}

/** `max_error` as `max error`. */
const words = (name) => name.replaceAll("_", " ");

/** The explorer of pairs: a row for each group of curves, with the value of each pair. */
async function explorePairs(place) {
  const [metrics, summaries] = await Promise.all([
    table("tables/metrics.csv"),
    table("tables/summary.csv"),
  ]);
  if (metrics.length === 0) return;
  const keys = ["hidden", "prior", "method", "split", "pair"];
  const names = Object.keys(metrics[0]).filter((name) => !keys.includes(name));
  const splits = distinct(metrics.map(({ split }) => split)).map((split) => [split, split]);
  const id = (row) => [row.hidden, row.prior, row.method, row.split].join("\n");
  const means = new Map(summaries.map((row) => [`${id(row)}\n${row.metric}`, row]));
  const result = make("div");
  const update = () => showPairs();
  const facets = FACETS.map(({ name, one }) => {
    const options = facetOptions(name, metrics, true);
    // All methods of one width and prior are at hand at first.
    const first = name === "method" ? "" : (options[1]?.[0] ?? "");
    return { name, ...control(one, options, first, update) };
  });
  const metric = control("Metric", names.map((name) => [name, words(name)]), "max_error", update);
  const split = control("Split", splits, "test", update);
  place.append(
    make("p", { class: "title" }, "Values of single pairs, and their mean"),
    make(
      "div",
      { class: "controls" },
      ...facets.map(({ element }) => element),
      metric.element,
      split.element,
    ),
    result,
  );

  function showPairs() {
    const name = metric.select.value;
    const rows = metrics.filter(
      (row) =>
        row.split === split.select.value &&
        row[name] !== "" &&
        facets.every(({ name, select }) => select.value === "" || row[name] === select.value) &&
        isChosen(row),
    );
    const groups = [...Map.groupBy(rows, id)].map(([id, rows]) => ({
      rows,
      mean: means.get(`${id}\n${name}`),
    }));
    const rank = ({ rows: [row] }) =>
      FACETS.map(({ name }) => [...facetValues[name].keys()].indexOf(row[name]));
    groups.sort((a, b) => {
      const [x, y] = [rank(a), rank(b)];
      return x[1] - y[1] || x[2] - y[2] || x[0] - y[0];
    });
    result.replaceChildren(...pairTable(groups, name));
  }

  followers.push(showPairs);
  showPairs();
}

/** The table of groups: facets, the value of each pair, the mean, and a drawing of the values. */
function pairTable(groups, name) {
  if (groups.length === 0) return [make("p", { class: "outside" }, "No curve is in the choice.")];
  const shown = groups.slice(0, GROUPS);
  const pairs = distinct(shown.flatMap(({ rows }) => rows.map(({ pair }) => pair))).sort(compare);
  const numbers = shown.flatMap(({ rows }) => rows.map((row) => Number(row[name])));
  const range = [Math.min(...numbers), Math.max(...numbers)];
  const cell = (text) => {
    const value = text === undefined || text === "" ? null : text;
    const shown = value ? Number(value).toPrecision(4) : "";
    return make("td", { class: "number", "data-value": value }, shown);
  };
  const rows = shown.map(({ rows, mean }) => {
    const of = new Map(rows.map((row) => [row.pair, row[name]]));
    return make(
      "tr",
      {},
      ...FACETS.map(({ name }) => make("td", {}, labelOf(name, rows[0][name]))),
      ...pairs.map((pair) => cell(of.get(pair))),
      cell(mean?.mean),
      make("td", {}, strip(rows.map((row) => Number(row[name])), mean, range)),
    );
  });
  const ends = `${short(range[0])} to ${short(range[1])}`;
  const heads = [
    ...FACETS.map(({ one }) => one.toLowerCase()),
    ...pairs.map((pair) => `pair ${pair}`),
    "mean",
    `pairs and mean, ${ends}`,
  ];
  const part =
    groups.length > shown.length ? `, the first ${shown.length} of ${groups.length} rows` : "";
  const caption = `${words(name)} of each pair${part}`;
  const element = make(
    "table",
    {},
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows),
  );
  const scroll = make("div", { class: "scroll", tabindex: 0, role: "region" }, element);
  scroll.setAttribute("aria-label", caption);
  enhanceTable(element);
  return [scroll];
}

/** Values as dots on a line, with the mean as a tick. */
function strip(numbers, mean, [low, high]) {
  const at = (x) => 6 + 148 * (high > low ? (x - low) / (high - low) : 0.5);
  const drawing = draw("svg", {
    class: "strip",
    viewBox: "0 0 160 18",
    role: "img",
    "aria-label": numbers.map((x) => short(x)).join(", "),
  });
  drawing.append(draw("path", { class: "rule", d: "M6 9h148" }));
  for (const x of numbers) drawing.append(draw("circle", { cx: at(x), cy: 9, r: 3.5 }));
  const middle = mean ? Number(mean.mean) : NaN;
  if (Number.isFinite(middle)) {
    drawing.append(draw("path", { class: "mean", d: `M${at(middle)} 2v14` }));
  }
  return drawing;
}

/** The explorer of training: a line for each net of a width and a prior. */
async function exploreTraining(place) {
  const histories = await table("tables/histories.csv");
  if (histories.length === 0) return;
  const keys = ["hidden", "prior", "net", "epoch"];
  const names = Object.keys(histories[0]).filter(
    (name) => !keys.includes(name) && histories.some((row) => row[name] !== ""),
  );
  const result = make("div");
  const controls = ["hidden", "prior"].map((name) => {
    const options = facetOptions(name, histories, false);
    const { one } = FACETS.find((facet) => facet.name === name);
    return { name, ...control(one, options, options[0]?.[0], () => showTraining()) };
  });
  const measure = control(
    "Quantity",
    names.map((name) => [name, words(name)]),
    "train_error",
    () => showTraining(),
  );
  place.append(
    make("p", { class: "title" }, "Training curves of single nets"),
    make("div", { class: "controls" }, ...controls.map((c) => c.element), measure.element),
    result,
  );

  function showTraining() {
    const name = measure.select.value;
    const rows = histories.filter(
      (row) => row[name] !== "" && controls.every((c) => row[c.name] === c.select.value),
    );
    const nets = [...Map.groupBy(rows, ({ net }) => net)];
    const series = nets.map(([net, rows], i) => ({
      key: `s${i}`,
      label: `net ${net}`,
      points: rows.map((row) => [Number(row.epoch), Number(row[name]), null, null]),
    }));
    result.replaceChildren(lineChart("epoch", words(name), series));
  }

  // The page's choice of one width or prior is that of the explorer, too.
  followers.push(() => {
    for (const { name, select } of controls) {
      if (choice[name].size === 1) [select.value] = choice[name];
    }
    showTraining();
  });
  showTraining();
}

/** A figure with one panel like those of `report::fragment`, with values under the pointer. */
function lineChart(xLabel, yLabel, series) {
  const frame = [54, 12, 470, 230];
  const [left, top, width, height] = frame;
  const ys = series.flatMap(({ points }) => points.map(([, y]) => y));
  const xs = series.flatMap(({ points }) => points.map(([x]) => x));
  if (ys.length === 0) return make("p", { class: "outside" }, "No net has these values.");
  const [least, most] = [Math.min(...ys), Math.max(...ys)];
  const scale = least > 0 && most / least > 20 ? "log" : "linear";
  const y = { label: yLabel, ...ends(scale, least, most) };
  const x = { label: xLabel, scale: "linear", low: Math.min(...xs), high: Math.max(...xs) };
  if (x.low === x.high) x.high += 1;
  const data = { title: yLabel, frame, x, y, series };
  const svg = draw("svg", {
    class: "panel",
    role: "img",
    "aria-label": `${yLabel} against ${xLabel}`,
    viewBox: "0 0 540 290",
    "data-panel": "0",
  });
  const chart = make("div", { class: "chart" });
  const legend = make("ul", { class: "legend" });
  const panels = make("div", { class: "panels", "data-columns": "1" }, svg);
  chart.append(legend, panels);
  const axes = draw("g", { class: "axes" });
  for (const value of ticks(x)) {
    const at = left + width * share(x, value);
    axes.append(
      draw("path", { class: "l cg", d: `M${at} ${top}v${height}` }),
      draw("text", { x: at, y: top + height + 16, "text-anchor": "middle" }, short(value)),
    );
  }
  for (const value of ticks(y)) {
    const at = top + height * (1 - share(y, value));
    axes.append(
      draw("path", { class: "l cg", d: `M${left} ${at}h${width}` }),
      draw("text", { x: left - 6, y: at + 4, "text-anchor": "end" }, short(value)),
    );
  }
  axes.append(
    draw("path", { class: "l ck", d: `M${left} ${top}v${height}h${width}` }),
    draw("text", { x: left + width / 2, y: 282, "text-anchor": "middle" }, xLabel),
  );
  svg.append(axes);
  series.forEach(({ key, label, points }, i) => {
    // Two nets in a row, such as both ends of a pair, have one colour; the second is dashed.
    const style = { class: `l c${Math.floor(i / 2) % 6}`, "stroke-width": 1.7 };
    if (i % 2 === 1) style["stroke-dasharray"] = "5 3";
    const at = points.map(([px, py]) =>
      [left + width * share(x, px), top + height * (1 - share(y, py))].join(" "),
    );
    const path = draw("path", { ...style, d: `M${at.join("L")}` });
    svg.append(draw("g", { "data-series": key }, path));
    const symbol = draw("svg", { class: "symbol", viewBox: "0 0 28 14", "aria-hidden": "true" });
    symbol.append(draw("path", { ...style, d: "M0 7h28" }));
    legend.append(make("li", { "data-series": key }, symbol, label));
  });
  new Chart(chart, { panels: [data] }).update();
  return chart;
}

/** The ends of an axis for these values. */
function ends(scale, least, most) {
  if (scale === "log") return { scale, low: least / 1.15, high: most * 1.15 };
  const room = (most - least || Math.abs(most) || 1) * 0.05;
  // Values that are not negative are on an axis from 0, unless they are far from it.
  const low = least >= 0 && least < most / 2 ? 0 : least - room;
  return { scale, low, high: most + room };
}

/** Round values on an axis, about five. */
function ticks({ scale, low, high }) {
  if (scale === "log") {
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e += 1) {
      for (const factor of high / low > 1000 ? [1] : [1, 2, 5]) {
        const value = factor * 10 ** e;
        if (value >= low && value <= high) found.push(value);
      }
    }
    return found;
  }
  const raw = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => (first + i) * step);
}

const EXPLORERS = { pairs: explorePairs, training: exploreTraining };
