// Figures: the values nearest to the pointer or chosen with the arrow keys, and a legend that hides
// and shows series. The drawings are the static SVGs; the data are those of `chart.json`.

/** A panel: its drawing, its data, and the keys that the reader has switched off. */
class Panel {
  constructor(svg, data, chart) {
    this.svg = svg;
    this.data = data;
    this.chart = chart;
    // The series and the number of the point that are shown.
    this.at = null;
  }

  /** The groups that draw the series of a key. */
  groups(key) {
    return all("g[data-series]", this.svg).filter((group) => group.dataset.series === key);
  }

  /** Series that are chosen and switched on. */
  visible() {
    const { off } = this.chart;
    return this.data.series.filter((one) => !off.has(one.key) && isChosen(one.facets ?? {}));
  }

  /** Where a point is drawn, in the coordinates of the SVG. */
  place(series, [x, y]) {
    const [left, top, width, height] = this.data.frame;
    const along = share(this.data.x, x);
    const up = share(this.data.y, y);
    return [left + width * along + (series.shift ?? 0), top + height * (1 - up)];
  }

  /** The point nearest to a place of the window: series and number. */
  nearest(clientX, clientY) {
    const matrix = this.svg.getScreenCTM();
    if (!matrix) return null;
    const at = new DOMPoint(clientX, clientY).matrixTransform(matrix.inverse());
    let best = null;
    for (const series of this.visible()) {
      series.points.forEach((point, i) => {
        const [x, y] = this.place(series, point);
        const distance = Math.hypot(x - at.x, y - at.y);
        if (Number.isFinite(distance) && !(best?.distance <= distance)) {
          best = { series, i, distance };
        }
      });
    }
    return best;
  }

  /** Marks a point and shows its values. */
  show(series, i) {
    const point = series.points[i];
    const [cx, cy] = this.place(series, point);
    this.at = { series, i };
    this.chart.hideOthers(this);
    this.ring ??= draw("circle", { class: "ring", r: 6 });
    fill(this.ring, { cx, cy });
    this.svg.append(this.ring);
    for (const group of all("g[data-series]", this.svg)) {
      group.classList.toggle("dimmed", group.dataset.series !== series.key);
    }
    showValues(this.svg, cx, cy, values(this.data, series, point));
  }

  hide() {
    if (!this.at) return;
    this.at = null;
    this.ring?.remove();
    for (const group of all(".dimmed", this.svg)) group.classList.remove("dimmed");
    hideValues();
  }

  /** Moves to another point along the series (`dx`) or to another series (`dy`). */
  move(dx, dy) {
    const shown = this.visible().filter(({ points }) => points.length > 0);
    if (shown.length === 0) return;
    const now = this.at ? shown.indexOf(this.at.series) : -1;
    if (now < 0) {
      this.show(shown[0], 0);
      return;
    }
    const series = shown[(now + dy + shown.length) % shown.length];
    let i = this.at.i + dx;
    if (dy !== 0) {
      // The point of the other series that is nearest along x.
      const x = this.place(this.at.series, this.at.series.points[this.at.i])[0];
      const away = series.points.map((point) => Math.abs(this.place(series, point)[0] - x));
      i = away.indexOf(Math.min(...away));
    }
    this.show(series, Math.min(Math.max(i, 0), series.points.length - 1));
  }

  listen() {
    const { svg } = this;
    svg.tabIndex = 0;
    svg.classList.add("live");
    const point = ({ clientX, clientY }) => {
      const nearest = this.nearest(clientX, clientY);
      if (nearest) this.show(nearest.series, nearest.i);
      else this.hide();
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", (event) => {
      // A finger leaves when it is lifted; the values stay until the next touch.
      if (event.pointerType !== "touch") this.hide();
    });
    svg.addEventListener("blur", () => this.hide());
    const moves = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    svg.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.hide();
      if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      this.move(...moves[event.key]);
    });
  }
}

/** Where a value is on an axis, from 0 at its low end to 1. */
function share({ scale, low, high }, value) {
  return scale === "log"
    ? Math.log(value / low) / Math.log(high / low)
    : (value - low) / (high - low);
}

/** The lines of the box beside a point: the series, then names and values. */
function values(data, series, [x, y, low, high]) {
  const lines = [
    [data.x.label || "x", data.x.names?.[x] ?? String(x)],
    [data.y.label || "y", String(y)],
  ];
  if (low !== null && low !== undefined && high !== null && high !== undefined) {
    lines.push(["interval", `${low} to ${high}`]);
  }
  return { title: series.label, lines };
}

// One box for all figures. It is a status, so that screen readers say the values.
let box = null;

function showValues(svg, cx, cy, { title, lines }) {
  box ??= document.body.appendChild(make("div", { class: "values", role: "status" }));
  const terms = lines.map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value)),
  );
  box.replaceChildren(make("strong", {}, title), make("dl", {}, ...terms));
  box.hidden = false;
  const at = new DOMPoint(cx, cy).matrixTransform(svg.getScreenCTM());
  const { width, height } = box.getBoundingClientRect();
  const room = document.documentElement.clientWidth;
  // Beside the point, on the side that has room, and within the window.
  const left = at.x + 14 + width < room ? at.x + 14 : at.x - 14 - width;
  const top = at.y - 14 - height > 0 ? at.y - 14 - height : at.y + 14;
  box.style.left = `${scrollX + Math.max(4, Math.min(left, room - width - 4))}px`;
  box.style.top = `${scrollY + top}px`;
}

function hideValues() {
  if (box) box.hidden = true;
}

/** A figure: its panels and its legend. */
class Chart {
  constructor(element, data) {
    this.element = element;
    this.off = new Set();
    this.panels = all("svg.panel", element)
      .map((svg) => ({ svg, of: data.panels[Number(svg.dataset.panel)] }))
      .filter(({ of }) => of)
      .map(({ svg, of }) => new Panel(svg, of, this));
    for (const panel of this.panels) if (panel.data.series.length > 0) panel.listen();
    this.entries = all(".legend > [data-series]", element).map((entry) => {
      const key = entry.dataset.series;
      const button = make("button", { type: "button", "aria-pressed": "true" });
      button.append(...entry.childNodes);
      entry.append(button);
      button.addEventListener("click", () => {
        if (this.off.has(key)) this.off.delete(key);
        else this.off.add(key);
        button.setAttribute("aria-pressed", String(!this.off.has(key)));
        this.update();
      });
      return { key, entry };
    });
  }

  hideOthers(panel) {
    if (Chart.shown && Chart.shown !== panel) Chart.shown.hide();
    Chart.shown = panel;
  }

  /** Hides what is switched off or not chosen: series, panels, entries of the legend. */
  update() {
    const chosenKeys = new Set();
    const seriesKeys = new Set();
    let shown = 0;
    for (const panel of this.panels) {
      panel.hide();
      const chosen = panel.data.series.filter((one) => isChosen(one.facets ?? {}));
      const keys = new Set(chosen.map(({ key }) => key));
      const mine = new Set(panel.data.series.map(({ key }) => key));
      for (const group of all("g[data-series]", panel.svg)) {
        const key = group.dataset.series;
        // Lines without data, such as the error of chance, depend on the legend alone.
        const outside = mine.has(key) && !keys.has(key);
        group.classList.toggle("unchosen", outside || this.off.has(key));
      }
      mine.forEach((key) => seriesKeys.add(key));
      keys.forEach((key) => chosenKeys.add(key));
      const outside = mine.size > 0 && keys.size === 0;
      panel.svg.classList.toggle("unchosen", outside);
      if (!outside) shown += 1;
    }
    for (const { key, entry } of this.entries) {
      entry.classList.toggle("unchosen", seriesKeys.has(key) && !chosenKeys.has(key));
    }
    noteUnchosen(this.element, this.panels.length > 0 && shown === 0);
  }
}

/** Reads the data of a static figure and enhances it. */
async function enhanceChart(element) {
  const text = await fileText(`figures/${element.dataset.chart}.json`);
  if (!text) return;
  const chart = new Chart(element, JSON.parse(text));
  followers.push(() => chart.update());
  chart.update();
}
