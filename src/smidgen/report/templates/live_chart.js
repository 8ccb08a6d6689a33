"use strict";
const at = (id) => document.getElementById(id);
const known = (value) => value !== null && value !== undefined;
const percent = (fraction) => known(fraction) ? (100 * fraction).toFixed(2) + " %" : "-";
const fixed = (value, digits) => known(value) ? value.toFixed(digits) : "-";
const rounded = (value) => Math.round(value).toLocaleString("en");

function draw(parent, name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text !== undefined) element.textContent = text;
  return parent.appendChild(element);
}

function add(parent, name, text, className) {
  const element = parent.appendChild(document.createElement(name));
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function steps(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  return { ticks, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function powers(low, high) {
  const ticks = [];
  for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++)
    for (const m of [1, 2, 5]) {
      const tick = m * 10 ** p;
      if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
    }
  return ticks.length > 8 ? ticks.filter((t) => Math.abs(Math.log10(t) % 1) < 1e-9) : ticks;
}

function addKey(caption, className) {
  const key = add(caption, "span", undefined, "key");
  draw(draw(key, "svg", { viewBox: "0 0 26 12", "aria-hidden": "true" }), "line",
    { class: className, x1: 0, x2: 26, y1: 6, y2: 6 });
  return add(key, "span");
}

/* A chart of curves by epochs done. A curve: name, look (classes), points and, if it has gaps,
   breaks, whether there is one before a point; without a name, it is not in the legend. `settings`: name, show, low, high, log, goal. */
function chart(id, curves, numEpochs, settings) {
  const figure = at(id), svg = figure.querySelector(".chart"), caption = figure.querySelector("figcaption");
  const width = svg.clientWidth || 320, height = svg.clientHeight || 240;
  const left = 48, right = width - 10, top = 8, bottom = height - 34;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.replaceChildren();
  caption.replaceChildren();
  const shown = curves.filter((curve) => curve.points.length);
  const last = Math.max(1, numEpochs || 1, ...shown.map((c) => c.points[c.points.length - 1][0]));
  const { low, high, log } = settings;
  const across = (epoch) => left + (right - left) * epoch / last;
  const up = (value) => {
    const share = log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
    return bottom - (bottom - top) * share;
  };
  let ticks, show;
  if (log) {
    ticks = powers(low, high);
    if (ticks.length < 3) ticks = steps(low, high, 4).ticks;
    show = (tick) => String(+tick.toPrecision(3));
  } else {
    const found = steps(low, high, 5);
    ticks = found.ticks;
    show = (tick) => found.digits > 4 && tick ? tick.toExponential(1) : tick.toFixed(Math.min(4, found.digits));
  }
  for (const tick of ticks) {
    draw(svg, "line", { class: "grid", x1: left, x2: right, y1: up(tick), y2: up(tick) });
    draw(svg, "text", { x: left - 6, y: up(tick) + 4, "text-anchor": "end" }, show(tick));
  }
  for (const tick of steps(0, last, Math.min(8, width / 60)).ticks.filter((t) => Number.isInteger(t)))
    draw(svg, "text", { x: across(tick), y: bottom + 16, "text-anchor": "middle" }, tick);
  draw(svg, "text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, "epochs done");
  draw(draw(svg, "clipPath", { id: `${id}-inside` }), "rect",
    { x: left - 5, y: top - 5, width: right - left + 10, height: bottom - top + 10 });
  const place = add(caption, "span");
  if (known(settings.goal)) {
    draw(svg, "line", { class: "goal", x1: left, x2: right, y1: up(settings.goal), y2: up(settings.goal) });
    addKey(caption, "goal").textContent = `target ${settings.goal.toFixed(2)} %`;
  }
  const keys = [];
  for (const curve of shown) {
    const points = curve.points.map(([epoch, value]) => [across(epoch), up(value)]);
    const path = points.map(([x, y], n) => `${n && !curve.breaks?.(n) ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
    const shape = draw(svg, "g", { "clip-path": `url(#${id}-inside)` });
    draw(shape, "path", { class: `curve ${curve.look}`, d: path });
    if (!curve.name) continue;
    const [x, y] = points[points.length - 1];
    draw(shape, "circle", { class: `dot ${curve.look}`, cx: x, cy: y, r: 4 });
    keys.push([curve, addKey(caption, `curve ${curve.look}`)]);
  }
  const guide = draw(svg, "line", { class: "guide", y1: top, y2: bottom, visibility: "hidden" });
  /* The values at `where`, in epochs, or the last ones. */
  const point = (where) => {
    const words = [];
    for (const [curve, label] of keys) {
      const nearest = known(where)
        ? curve.points.reduce((a, b) => Math.abs(b[0] - where) < Math.abs(a[0] - where) ? b : a)
        : curve.points[curve.points.length - 1];
      label.textContent = `${curve.name} ${settings.show(nearest[1])}`;
      words.push(label.textContent);
    }
    place.hidden = !known(where);
    place.textContent = known(where) ? `at ${+where.toFixed(1)}:` : "";
    guide.setAttribute("visibility", known(where) ? "visible" : "hidden");
    if (known(where)) { guide.setAttribute("x1", across(where)); guide.setAttribute("x2", across(where)); }
    return words;
  };
  const words = point(null);
  svg.setAttribute("aria-label", `${settings.name} by epoch: ${words.join("; ") || "no values yet"}.`);
  const xs = [...new Set(keys.flatMap(([curve]) => curve.points.map((p) => p[0])))];
  const pointAt = (x) => {
    const where = (x - left) / (right - left) * last;
    if (xs.length) point(xs.reduce((a, b) => Math.abs(b - where) < Math.abs(a - where) ? b : a));
  };
  svg.onpointermove = (event) => {
    figure.pointed = event.clientX - svg.getBoundingClientRect().left;
    pointAt(figure.pointed);
  };
  svg.onpointerleave = () => { figure.pointed = null; point(null); };
  if (known(figure.pointed)) pointAt(figure.pointed);  // a redrawn chart under a resting pointer
}
