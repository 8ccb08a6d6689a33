"use strict";
/* Drawing: images, the layers' outputs, boxes and bars. */

const GAP = 4; // CSS pixels between the maps of a layer
const SMALLEST = 26, LARGEST = 76, CELL = 20; // CSS pixels: sides of maps, and of layers' outputs without height and width

let colors = null; // 511 RGBA values, from -1 to 1
let styles = null; // CSS colors by name

function readColors() {
  const computed = getComputedStyle(document.documentElement);
  styles = Object.fromEntries(["ink", "paper", "mark", "soft", "card", "main"].map((name) => [name, computed.getPropertyValue(`--${name}`).trim()]));
  const stops = ["low", "low-middle", "zero", "middle", "high"].map((name) => {
    const hex = computed.getPropertyValue(`--${name}`).trim();
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  });
  colors = new Uint32Array(511).map((_, i) => {
    const at = (i / 510) * 4, first = Math.min(3, Math.floor(at)), share = at - first;
    const [red, green, blue] = stops[first].map((value, c) => Math.round(value + share * (stops[first + 1][c] - value)));
    return (255 << 24) | (blue << 16) | (green << 8) | red;
  });
}

/* Pixels from 0 to 255, one channel or three, on a canvas of the same size. */
function showPixels(canvas, pixels, [channels, height, width]) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = new ImageData(width, height), area = width * height;
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = pixels[(channels === 3 ? c * area : 0) + i];
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/* The row of a layer: its label, and a canvas with its maps. */
class LayerView {
  constructor(layer, place, peak, isLast, classes) {
    Object.assign(this, { layer, place, peak });
    this.title = titleOf(layer, isLast);
    this.names = isLast && classes.every((name) => name.length < 3) ? classes : null;
    [this.count, this.rows, this.columns] = layer.shape;
    this.isFlat = this.rows * this.columns === 1;
    this.canvas = document.createElement("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${this.title}: arrow keys move among its units`);
    this.buffer = document.createElement("canvas");
    Object.assign(this.buffer, { width: this.columns, height: this.rows * this.count });
    this.image = new ImageData(this.columns, this.rows * this.count);
    this.values = new Uint32Array(this.image.data.buffer);
    this.element = document.createElement("div");
    this.element.className = "layer";
    const label = this.element.appendChild(document.createElement("div"));
    label.append(tag("b", this.title), tag("span", sizeOf(layer)));
    this.element.append(this.canvas);
  }

  /* How wide a map can be so that none has to be cut off; `most` is the largest size wanted. */
  fit(width, most) {
    if (this.isFlat) return (this.side = CELL), this.arrange(width);
    for (let lines = 1; ; lines++) {
      const across = Math.ceil(this.count / lines);
      this.side = Math.min(most, Math.floor((width + GAP) / across) - GAP);
      if (this.side >= Math.min(SMALLEST, most) || across === 1) break;
    }
    return this.arrange(width);
  }

  /* Returns the height in CSS pixels. */
  arrange(width) {
    const step = this.side + (this.isFlat ? 2 : GAP);
    this.step = step;
    this.across = Math.max(1, Math.min(this.count, Math.floor((width + step - this.side) / step)));
    this.high = this.isFlat ? CELL : Math.max(1, Math.round((this.side * this.rows) / this.columns));
    this.down = this.high + step - this.side;
    return Math.ceil(this.count / this.across) * this.down;
  }

  resize() {
    const width = this.across * this.step, height = Math.ceil(this.count / this.across) * this.down + (this.names ? 14 : 0);
    const density = window.devicePixelRatio || 1;
    Object.assign(this.canvas, { width: Math.round(width * density), height: Math.round(height * density) });
    this.canvas.style.width = `${width}px`;
    this.density = density;
  }

  draw(output, box, unit) {
    for (let i = 0; i < output.length; i++)
      this.values[i] = colors[255 + Math.round(255 * Math.max(-1, Math.min(1, output[i] / this.peak)))];
    this.buffer.getContext("2d").putImageData(this.image, 0, 0);
    const context = this.canvas.getContext("2d");
    context.setTransform(this.density, 0, 0, this.density, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingEnabled = false;
    for (let c = 0; c < this.count; c++) {
      const [x, y] = this.cornerOf(c);
      context.drawImage(this.buffer, 0, c * this.rows, this.columns, this.rows, x, y, this.side, this.high);
      if (this.names) {
        Object.assign(context, { fillStyle: styles.soft, font: "11px system-ui, sans-serif", textAlign: "center" });
        context.fillText(this.names[c], x + this.side / 2, y + this.high + 12);
      }
      if (box && (!unit || unit.channel === c)) {
        const across = this.side / this.columns, down = this.high / this.rows;
        outline(context, x + box[1] * across, y + box[0] * down, (box[3] - box[1] + 1) * across, (box[2] - box[0] + 1) * down, unit ? 2 : 1);
      }
    }
  }

  cornerOf(channel) {
    return [(channel % this.across) * this.step, Math.floor(channel / this.across) * this.down];
  }

  /* The unit at CSS pixels from the canvas's corner, or null. */
  unitAt(x, y) {
    const line = Math.floor(y / this.down), at = Math.floor(x / this.step), channel = line * this.across + at;
    const column = Math.floor(((x - at * this.step) / this.side) * this.columns);
    const row = Math.floor(((y - line * this.down) / this.high) * this.rows);
    if (at >= this.across || channel >= this.count || row >= this.rows || column >= this.columns || Math.min(row, column, channel) < 0) return null;
    return { place: this.place, channel, row, column };
  }

  /* The neighbor of a unit; from map to map at the edges. */
  move({ channel, row, column }, down, right) {
    const next = { place: this.place, channel, row: row + down, column: column + right };
    const turn = (by, reset) => Object.assign(next, { channel: Math.max(0, Math.min(this.count - 1, channel + by)) }, reset);
    if (next.column >= this.columns) turn(1, { column: channel + 1 < this.count ? 0 : column });
    if (next.column < 0) turn(-1, { column: channel ? this.columns - 1 : column });
    if (next.row >= this.rows) turn(this.across, { row: channel + this.across < this.count ? 0 : row, channel: channel + this.across < this.count ? channel + this.across : channel });
    if (next.row < 0) Object.assign(next, channel >= this.across ? { channel: channel - this.across, row: this.rows - 1 } : { row });
    return next;
  }
}

function outline(context, x, y, width, height, thickness) {
  for (const [style, line] of [[styles.paper, thickness + 2], [styles.mark, thickness]]) {
    Object.assign(context, { strokeStyle: style, lineWidth: line });
    context.strokeRect(x, y, width, height);
  }
}

function tag(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}

function titleOf(layer, isLast) {
  const square = layer.kernel && (layer.kernel[0] === layer.kernel[1] ? `${layer.kernel[0]}×${layer.kernel[0]}` : layer.kernel.join("×"));
  if (isLast) return "Scores";
  if (layer.kind === "addition") return "Sum";
  if (layer.kind !== "convolution") return layer.shape[1] * layer.shape[2] === 1 ? `Global ${layer.kind} pooling` : `${layer.kind === "max" ? "Max" : "Average"} pooling ${square}`;
  return layer.shape[1] * layer.shape[2] === 1 ? "Linear layer" : `Convolution ${square}`;
}

function sizeOf({ shape: [count, rows, columns] }) {
  return rows * columns === 1 ? `${count} units` : `${count} ${count === 1 ? "map" : "maps"} of ${rows} × ${columns}`;
}
