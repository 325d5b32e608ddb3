// Curves over one axis of named places, with a cursor, a zoom and a legend, by mouse, touch and keys.

const MARGIN = { left: 52, right: 12, top: 14, bottom: 38 };
const KEYS = "Arrow keys move the cursor, plus and minus zoom, Shift with arrows pans, 0 shows all, " +
  "Enter chooses the row.";

class Chart {
  constructor(figure) {
    this.figure = figure;
    this.data = JSON.parse(figure.querySelector("script").textContent);
    this.shown = this.data.lines.map((line) => line.shown);
    this.cursor = null; // index of a place
    this.chosen = null; // index of the place whose row is chosen
    this.build();
    this.showAll();
    new ResizeObserver(() => this.plot.clientWidth !== this.width && this.draw()).observe(this.plot);
  }

  build() {
    this.picture = svg("svg", { "aria-hidden": "true" });
    this.tip = html("div", { class: "tip", hidden: "" });
    this.spoken = html("span", { class: "unseen", "aria-live": "polite" });
    this.plot = html("div", {
      class: "plot", tabindex: 0, role: "application", "aria-roledescription": "chart",
      "aria-label": `${this.figure.dataset.told} ${KEYS}`,
    }, this.picture, this.tip);
    this.back = button("Show all", () => this.showAll());
    const zoom = html("span", { class: "zoom" },
      button("+", () => this.zoom(0.5), "Zoom in"), button("−", () => this.zoom(2), "Zoom out"), this.back);
    this.figure.querySelector("figcaption").append(zoom);
    const { labels, x, xTitle, lines } = this.data;
    this.figure.append(this.legend(), this.plot, this.spoken, dataTable(
      ["place", xTitle || "x", ...lines.map((line) => line.name)],
      () => labels.map((label, i) => [label, numberText(x[i]), ...lines.map((line) => valueText(line.values[i]))])));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    this.plot.addEventListener("blur", () => this.point(null));
    this.listenToPointer();
  }

  legend() {
    return html("div", { class: "legend" }, ...this.data.lines.map((line, i) => {
      const toggle = button(line.name, () => {
        this.shown[i] = !this.shown[i];
        toggle.setAttribute("aria-pressed", this.shown[i]);
        this.draw();
      });
      toggle.setAttribute("aria-pressed", this.shown[i]);
      toggle.prepend(svg("svg", { width: 22, height: 8, "aria-hidden": "true" },
        line.loose ? svg("circle", { class: `c${i % 6}`, cx: 11, cy: 4, r: 3 }) : svg("path", { class: `curve c${i % 6}`, d: "M0 4H22" })));
      return toggle;
    }));
  }

  // The view: from which to which x.

  showAll() {
    const { x } = this.data;
    this.setView(x[0] ?? 0, x.at(-1) ?? 1);
  }

  setView(low, high) {
    const { x } = this.data;
    const first = x[0] ?? 0, last = x.at(-1) ?? 1;
    const span = Math.max(Math.min(high - low, last - first), 1e-6 + (last - first) / x.length);
    const start = Math.min(Math.max(low, first), last - span);
    this.view = [start, start + span];
    this.back.disabled = span >= last - first;
    this.draw();
  }

  zoom(factor) {
    const [low, high] = this.view;
    const middle = this.cursor === null ? (low + high) / 2 : this.data.x[this.cursor];
    this.setView(middle - (middle - low) * factor, middle + (high - middle) * factor);
  }

  pan(share) {
    const [low, high] = this.view;
    this.setView(low + (high - low) * share, high + (high - low) * share);
  }

  // Drawing.

  draw() {
    const width = this.plot.clientWidth, height = this.plot.clientHeight;
    if (!width) return; // behind a tab
    this.width = width;
    const visible = this.visiblePlaces();
    const values = this.data.lines.flatMap((line, i) => (this.shown[i] ? visible.map((at) => line.values[at]) : []));
    const [low, high] = this.view;
    const inner = width - MARGIN.left - MARGIN.right;
    this.x = (value) => MARGIN.left + ((value - low) / (high - low || 1)) * inner;
    this.fromX = (pixel) => low + ((pixel - MARGIN.left) / inner) * (high - low);
    const scale = (this.data.log ? logScale : linearScale)(values, height - MARGIN.bottom, MARGIN.top);
    this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.picture.replaceChildren(...this.axes(scale, width, height));
    const clip = svg("svg", { // its view box keeps the coordinates and cuts what lies outside
      x: MARGIN.left - 6, y: 0, width: inner + 12, height, viewBox: `${MARGIN.left - 6} 0 ${inner + 12} ${height}`,
    });
    this.data.lines.forEach((line, i) => {
      if (this.shown[i]) clip[line.loose ? "prepend" : "append"](...this.curve(line, i, visible, scale));
    });
    this.cross = svg("g");
    clip.append(this.cross);
    this.picture.append(clip);
    this.drawCursor();
    if (performance.getEntriesByName("first chart").length === 0) performance.mark("first chart");
  }

  // Those in view and one more on each side, so that curves run to the edge.
  visiblePlaces() {
    const { x } = this.data;
    const [low, high] = this.view;
    let first = x.findIndex((value) => value >= low), last = x.findLastIndex((value) => value <= high);
    if (first < 0) first = 0;
    return x.map((_, i) => i).slice(Math.max(0, first - 1), last + 2);
  }

  axes(scale, width, height) {
    const bottom = height - MARGIN.bottom;
    const drawn = [];
    for (const { value, text } of scale.ticks) {
      const y = scale.at(value);
      drawn.push(svg("path", { class: "grid", d: `M${MARGIN.left} ${y}H${width - MARGIN.right}` }),
        svg("text", { x: MARGIN.left - 8, y: y + 4, "text-anchor": "end" }, text));
    }
    for (const value of linearTicks(...this.view, Math.max(2, Math.floor(width / 60)))) {
      if (!Number.isInteger(value)) continue; // places are counted
      drawn.push(svg("text", { x: this.x(value), y: bottom + 16, "text-anchor": "middle" }, numberText(value)));
    }
    drawn.push(svg("path", { class: "axis", d: `M${MARGIN.left} ${bottom}H${width - MARGIN.right}` }),
      svg("text", { x: (MARGIN.left + width - MARGIN.right) / 2, y: height - 4, "text-anchor": "middle" }, this.data.xTitle));
    return drawn;
  }

  // A path; points where they are few; a cross at the edge where a value is not finite, or zero on a log axis.
  curve(line, i, visible, scale) {
    let path = "", pen = "M", crossed = -Infinity;
    const marks = [];
    for (const at of visible) {
      const value = line.values[at];
      if (value === null) continue;
      const x = this.x(this.data.x[at]), y = scale.at(value);
      if (y === null) {
        pen = "M";
        if (x < crossed + 10) continue; // crosses that would touch
        crossed = x;
        marks.push(svg("path", { class: `broken c${i % 6}`, d: `M${x - 4} ${scale.edge(value) - 4}l8 8m0-8l-8 8` }));
        continue;
      }
      if (line.loose || visible.length <= 60) marks.push(svg("circle", { class: `c${i % 6}`, cx: x, cy: y, r: line.loose ? 3 : 2 }));
      if (line.loose) continue;
      path += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = "L";
    }
    return [svg("path", { class: `curve c${i % 6}`, d: path }), ...marks];
  }

  // The cursor, and the row that is chosen.

  choosePlace(row) {
    const at = this.data.rows.indexOf(row);
    this.chosen = at < 0 ? null : at;
    this.drawCursor();
  }

  point(at) {
    this.cursor = at;
    this.drawCursor();
  }

  drawCursor() {
    if (!this.cross) return;
    const bottom = this.plot.clientHeight - MARGIN.bottom;
    const upright = (at, name) => svg("path", { class: name, d: `M${this.x(this.data.x[at])} ${MARGIN.top}V${bottom}` });
    this.cross.replaceChildren();
    if (this.chosen !== null) this.cross.append(upright(this.chosen, "chosen"));
    this.tip.hidden = this.cursor === null;
    if (this.cursor === null) return;
    this.cross.append(upright(this.cursor, "cursor"));
    this.tip.replaceChildren(html("b", {}, this.data.labels[this.cursor]),
      ...this.readings().map(([name, text, i]) => html("div", {}, html("i", { class: `c${i % 6}` }), `${name} `, html("span", {}, text))));
    const x = this.x(this.data.x[this.cursor]), room = this.plot.clientWidth - this.tip.offsetWidth;
    const beside = x + 12 > room ? x - this.tip.offsetWidth - 12 : x + 12;
    this.tip.style.left = `${Math.max(0, Math.min(beside, room))}px`;
  }

  readings() {
    return this.data.lines.map((line, i) => [line.name, valueText(line.values[this.cursor]), i])
      .filter(([, , i]) => this.shown[i] && this.data.lines[i].values[this.cursor] !== null);
  }

  choose() {
    const row = this.data.rows[this.cursor];
    if (row !== undefined) this.figure.dispatchEvent(new CustomEvent("choose", { bubbles: true, detail: row }));
  }

  // Hands: keys, mouse, touch.

  key(event) {
    const last = this.data.x.length - 1, at = this.cursor;
    const right = event.key === "ArrowRight", moves = right || event.key === "ArrowLeft";
    if (event.ctrlKey || event.metaKey || event.altKey || last < 0) return;
    if (moves && event.shiftKey) this.pan(right ? 0.25 : -0.25);
    else if (moves) this.walk(at === null ? (right ? 0 : last) : at + (right ? 1 : -1));
    else if (event.key === "Home") this.walk(0);
    else if (event.key === "End") this.walk(last);
    else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "0" || event.key === "Escape") this.showAll();
    else if (event.key === "Enter") this.choose();
    else return;
    event.preventDefault();
  }

  walk(to) {
    const at = Math.max(0, Math.min(this.data.x.length - 1, to));
    const [low, high] = this.view, x = this.data.x[at];
    if (x < low) this.setView(x, x + high - low);
    if (x > high) this.setView(x - high + low, x);
    this.point(at);
    this.spoken.textContent = [this.data.labels[at], ...this.readings().map(([name, text]) => `${name} ${text}`)].join(", ");
  }

  listenToPointer() {
    let from = null; // pixel where a drag began
    let brush = null;
    let before = null; // the view before a pan
    const pixel = (event) => event.clientX - this.plot.getBoundingClientRect().left;
    const stop = () => { brush?.remove(); from = brush = null; };
    this.plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = pixel(event);
      before = this.view;
      this.point(this.nearest(from));
    });
    this.plot.addEventListener("pointermove", (event) => {
      const now = pixel(event);
      this.point(this.nearest(now));
      if (from === null || (!brush && Math.abs(now - from) < 6)) return;
      this.plot.setPointerCapture(event.pointerId);
      if (event.shiftKey) {
        const shift = ((from - now) / (this.plot.clientWidth - MARGIN.left - MARGIN.right)) * (before[1] - before[0]);
        this.setView(before[0] + shift, before[1] + shift);
        return;
      }
      brush ??= this.plot.appendChild(html("div", { class: "brush" }));
      brush.style.left = `${Math.min(from, now)}px`;
      brush.style.width = `${Math.abs(now - from)}px`;
    });
    this.plot.addEventListener("pointerup", (event) => {
      const now = pixel(event);
      if (brush) this.setView(this.fromX(Math.min(from, now)), this.fromX(Math.max(from, now)));
      else if (from !== null && Math.abs(now - from) < 6) this.choose();
      stop();
    });
    this.plot.addEventListener("pointercancel", stop);
    this.plot.addEventListener("pointerleave", () => this.point(null));
    this.plot.addEventListener("dblclick", () => this.showAll());
  }

  nearest(pixel) {
    const { x } = this.data, [low, high] = this.view, wanted = this.fromX(pixel);
    let best = null;
    x.forEach((value, i) => {
      if (value < low || value > high) return;
      if (best === null || Math.abs(value - wanted) < Math.abs(x[best] - wanted)) best = i;
    });
    return best;
  }
}

function button(text, act, label = text) {
  const made = html("button", { type: "button", "aria-label": label }, text);
  made.addEventListener("click", act);
  return made;
}

function valueText(value) {
  return value === null ? "–" : numberText(value);
}

// A scale maps a value to a pixel, or to null where it has no place on the axis: then `edge` says where its cross lies.

function logScale(values, bottom, top) {
  const logs = values.filter((value) => typeof value === "number" && value > 0).map(Math.log10);
  let low = logs.length ? logs.reduce((a, b) => Math.min(a, b)) : 0;
  let high = logs.length ? logs.reduce((a, b) => Math.max(a, b)) : 0;
  const lack = Math.max(0, 0.8 - (high - low)) / 2; // so that what hardly changes looks flat
  const margin = lack + (high - low) * 0.06;
  [low, high] = [low - margin, high + margin];
  const at = (value) => (typeof value === "number" && value > 0
    ? bottom - ((Math.log10(value) - low) / (high - low)) * (bottom - top) : null);
  return { at, edge: (value) => (typeof value === "string" ? top : bottom), ticks: logTicks(low, high) };
}

function logTicks(low, high) {
  const ticks = [];
  if (high - low >= 2) {
    const step = Math.ceil((high - low) / 6);
    for (let e = Math.ceil(low / step) * step; e <= high; e += step) ticks.push({ value: 10 ** e, text: powerText(e) });
    return ticks;
  }
  for (let e = Math.floor(low); e <= high; e++) {
    for (const m of high - low > 1 ? [1, 3] : [1, 2, 5]) {
      const value = Number(`${m}e${e}`);
      if (Math.log10(value) >= low && Math.log10(value) <= high) ticks.push({ value, text: numberText(value) });
    }
  }
  return ticks;
}

function linearScale(values, bottom, top) {
  const numbers = values.filter((value) => typeof value === "number");
  const low = numbers.reduce((a, b) => Math.min(a, b), 0);
  const high = numbers.reduce((a, b) => Math.max(a, b), low) || low + 1;
  const at = (value) => (typeof value === "number" ? bottom - ((value - low) / (high - low)) * (bottom - top) : null);
  return { at, edge: () => top, ticks: linearTicks(low, high, 5).map((value) => ({ value, text: numberText(value) })) };
}

// Round numbers from `low` to `high`: about `count` of them, 1, 2 or 5 times a power of ten apart.
function linearTicks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((m) => m * power >= rough) * power;
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(i * step);
  return ticks;
}
