"use strict";
/* The page: what the user gives, and what is shown of the network's answer. */

const PAD = 560; // pixels of the drawing's canvas
const PEN = 0.075; // width of the pen on the pad, as a fraction of its side
const PEN_OF_DRAWING = 0.13; // width for the network, as a fraction of the drawing's longer side: that of MNIST's strokes
const RASTER = 140; // pixels: longer side of the drawing as it is centered and scaled
const MOST_BARS = 10;
const MOST_PIXELS = 1200; // longer side of a picture as it is read

const facts = JSON.parse(document.getElementById("facts").textContent);
const network = new Network(facts.network);
const { classes } = facts, { shape } = network, [, height, width] = shape;
const draws = facts.input === "handwriting";
const at = (id) => document.getElementById(id);

let strokes = []; // of points [x, y], from 0 to 1
let picture = null; // {element, image}: a picture and its pixels as the network gets them
let sample = null; // the place of a test image among the samples
let samples = []; // {number, label, pixels}
let pen = null; // of the keyboard: {x, y, down}
let unit = null, pinned = false; // the unit whose receptive field is shown
let video = null;
let problem = null; // why an image or the camera does not show
let views = [], bars = [];
let times = []; // milliseconds that the network took for the last images
let scheduled = false;

/* What the network gets: pixels from 0 to 255. */
function currentImage() {
  if (sample !== null) return samples[sample].pixels;
  if (picture) return picture.image;
  return draws && strokes.length ? imageOfStrokes() : new Uint8Array(shape[0] * height * width);
}

function imageOfStrokes() {
  const points = strokes.flat(), [xs, ys] = [0, 1].map((i) => points.map((point) => point[i]));
  const left = Math.min(...xs), top = Math.min(...ys);
  const side = Math.max(Math.max(...xs) - left, Math.max(...ys) - top, 0.02);
  const scale = RASTER / side / (1 + PEN_OF_DRAWING), margin = 4 + (PEN_OF_DRAWING * side * scale) / 2;
  const size = RASTER + 8;
  Object.assign(raster, { width: size, height: size });
  const context = raster.getContext("2d", { willReadFrequently: true });
  drawStrokes(context, ([x, y]) => [(x - left) * scale + margin, (y - top) * scale + margin], PEN_OF_DRAWING * side * scale, "#000");
  const { data } = context.getImageData(0, 0, size, size);
  const ink = new Float32Array(size * size);
  for (let i = 0; i < ink.length; i++) ink[i] = data[4 * i + 3] / 255;
  return centerInk(ink, size, size, width, height);
}
const raster = document.createElement("canvas");

function drawStrokes(context, place, thickness, color) {
  Object.assign(context, { lineWidth: thickness, lineCap: "round", lineJoin: "round", strokeStyle: color });
  for (const stroke of strokes) {
    const points = stroke.map(place);
    context.beginPath();
    context.moveTo(...points[0]);
    for (let i = 1; i < points.length - 1; i++) {
      const [x, y] = points[i], [nextX, nextY] = points[i + 1];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(...points[points.length - 1]);
    context.stroke();
  }
}

/* Everything on the page, once. */
function refresh() {
  scheduled = false;
  if (video) readPicture(video);
  const image = currentImage();
  const started = performance.now();
  const outputs = network.run(image);
  showSpeed(performance.now() - started);
  const answer = network.answer(outputs, image);
  const boxes = unit && network.receptiveField(unit.place, unit.row, unit.column);
  drawPad();
  drawInput(image, boxes);
  for (const view of views) view.draw(outputs[view.place], boxes?.get(view.place), unit?.place === view.place ? unit : null);
  showAnswer(answer);
  showReadout(outputs, boxes);
  if (video) schedule();
}

function schedule() {
  if (!scheduled) requestAnimationFrame(refresh);
  scheduled = true;
}

function drawPad() {
  const pad = at("pad"), empty = sample === null && !picture && !strokes.length;
  at("hint").hidden = !empty && !(draws && sample !== null);
  at("hint").className = empty ? "empty" : "";
  at("hint").textContent = problem ?? drawPad.hint;
  if (sample !== null) return showPixels(pad, samples[sample].pixels, shape);
  if (pad.width !== PAD) Object.assign(pad, { width: PAD, height: PAD });
  const context = pad.getContext("2d");
  context.clearRect(0, 0, PAD, PAD);
  context.imageSmoothingEnabled = true;
  if (picture) drawFitted(context, picture.element);
  drawStrokes(context, ([x, y]) => [x * PAD, y * PAD], PEN * PAD, styles.ink);
  if (pen) {
    Object.assign(context, { fillStyle: styles.main, globalAlpha: pen.down ? 1 : 0.5 });
    context.fillRect(pen.x * PAD - 6, pen.y * PAD - 6, 12, 12);
    context.globalAlpha = 1;
  }
}

function drawFitted(context, element) {
  const [w, h] = sizeOfPicture(element), scale = PAD / Math.max(w, h);
  context.drawImage(element, (PAD - w * scale) / 2, (PAD - h * scale) / 2, w * scale, h * scale);
}

function drawInput(image, boxes) {
  const small = at("input"), scale = Math.max(1, Math.round(280 / width));
  showPixels(drawInput.buffer ??= document.createElement("canvas"), image, shape);
  Object.assign(small, { width: width * scale, height: height * scale });
  const context = small.getContext("2d"), box = boxes?.get(PIXELS);
  context.imageSmoothingEnabled = false;
  context.drawImage(drawInput.buffer, 0, 0, small.width, small.height);
  if (box) outline(context, box[1] * scale + 2, box[0] * scale + 2, (box[3] - box[1] + 1) * scale - 4, (box[2] - box[0] + 1) * scale - 4, 4);
}

function showAnswer({ probabilities, best, doubt }) {
  const share = `${(100 * probabilities[best]).toFixed(1)} %`, name = classes[best];
  const why = { blank: "an empty image", unlike: "unlike the images it learned from", unlikely: `${share} for ${name} is too little` };
  at("answer").className = doubt ? "unsure" : "";
  const text = doubt ? "Not sure" : name;
  if (at("best").textContent !== text) at("best").textContent = text;
  at("best").className = text.length > 9 ? "long name" : text.length > 2 ? "name" : "";
  const reason = doubt ? why[doubt] : share;
  if (at("why").textContent !== reason) at("why").textContent = reason;
  const order = probabilities.map((_, i) => i);
  if (classes.length > MOST_BARS) order.sort((a, b) => probabilities[b] - probabilities[a]);
  bars.forEach((bar, i) => {
    const value = probabilities[order[i]];
    bar.element.className = order[i] === best ? "best" : "";
    bar.name.textContent = bar.name.title = classes[order[i]];
    bar.element.style.setProperty("--share", value.toFixed(4));
    bar.share.textContent = `${(100 * value).toFixed(1)} %`;
  });
}

function showReadout(outputs, boxes) {
  if (!unit) {
    at("readout").textContent = "Point at the layers to see what a unit looks at. Blue is above zero, orange below.";
    return;
  }
  const { layer } = views[unit.place], [, rows, columns] = layer.shape, box = boxes.get(PIXELS);
  const value = outputs[unit.place][(unit.channel * rows + unit.row) * columns + unit.column];
  const spot = rows * columns > 1 ? `map ${unit.channel + 1}, row ${unit.row + 1}, column ${unit.column + 1}` : `unit ${unit.channel + 1}`;
  at("readout").textContent = `${views[unit.place].title}, ${spot}: ${value.toFixed(2)}. It sees ${box[2] - box[0] + 1} × ${box[3] - box[1] + 1} pixels of the image${pinned ? " (pinned)" : ""}.`;
}

function showSpeed(milliseconds) {
  times = [...times.slice(-29), milliseconds];
  at("speed").textContent = `${Math.max(0.1, median(times)).toFixed(1)} ms per image here`;
}

/* Drawing with mouse, finger or pen, or with the keyboard. */
function listenToPad() {
  const pad = at("pad");
  let active = null;
  const place = (event) => {
    const box = pad.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  pad.addEventListener("pointerdown", (event) => {
    if (event.button || active !== null) return;
    startDrawing();
    active = event.pointerId;
    strokes.push([place(event)]);
    schedule();
  });
  addEventListener("pointermove", (event) => {
    if (event.pointerId !== active) return;
    const events = event.getCoalescedEvents?.() ?? [];
    strokes[strokes.length - 1].push(...(events.length ? events : [event]).map(place));
    schedule();
  });
  for (const name of ["pointerup", "pointercancel"])
    addEventListener(name, (event) => { if (event.pointerId === active) active = null; });
  pad.addEventListener("blur", () => { pen = null; schedule(); });
  pad.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    if (event.key !== " " && !step || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (!pen) { startDrawing(); pen = { x: 0.5, y: 0.5, down: false }; }
    if (step) [pen.x, pen.y] = [pen.x + step[0] * 0.04, pen.y + step[1] * 0.04].map((v) => Math.max(0.05, Math.min(0.95, v)));
    else if ((pen.down = !pen.down)) strokes.push([]);
    if (pen.down) strokes[strokes.length - 1].push([pen.x, pen.y]);
    schedule();
  });
}

function startDrawing() {
  if (sample !== null || picture) clear();
}

function clear() {
  strokes = [];
  pen = picture = problem = null;
  stopCamera();
  choose(null);
}

function undo() {
  strokes.pop();
  schedule();
}

/* Pictures: dropped, chosen, pasted, or from the camera. */
function sizeOfPicture(element) {
  return [element.videoWidth ?? element.width, element.videoHeight ?? element.height];
}

function readPicture(element) {
  let [w, h] = sizeOfPicture(element), [x, y] = [0, 0];
  if (!w || !h) return;
  if (element === video) { // the middle, in the proportions of the network's image
    const [whole, tall] = [w, h];
    [w, h] = [Math.min(w, (h * width) / height), Math.min(h, (w * height) / width)];
    [x, y] = [(whole - w) / 2, (tall - h) / 2];
  }
  const scale = Math.min(1, MOST_PIXELS / Math.max(w, h));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.max(1, Math.round(w * scale)), height: Math.max(1, Math.round(h * scale)) });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(element, x, y, w, h, 0, 0, canvas.width, canvas.height);
  picture = { element: canvas, image: prepareImage(context.getImageData(0, 0, canvas.width, canvas.height), shape, facts.input) };
}

async function open(file) {
  if (!file) return;
  const bitmap = await createImageBitmap(file).catch(() => null);
  clear();
  if (bitmap) readPicture(bitmap);
  else problem = `${file.name || "This"} is not an image that can be shown`;
}

function listenToPictures() {
  at("file").addEventListener("change", (event) => { open(event.target.files[0]); event.target.value = ""; });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    open(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => open([...event.clipboardData.files].find((file) => file.type.startsWith("image/"))));
  if (draws || !navigator.mediaDevices?.getUserMedia) return;
  at("camera").hidden = false;
  at("camera").addEventListener("click", () => (video ? stopCamera() : startCamera()));
}

async function startCamera() {
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    clear();
    video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true });
    await video.play();
    at("camera").textContent = "Hold the image";
    schedule();
  } catch (error) {
    clear();
    problem = `No camera: ${error.message}`;
  }
}

function stopCamera() {
  if (!video) return;
  video.srcObject.getTracks().forEach((track) => track.stop());
  video = null;
  at("camera").textContent = "Camera";
}

/* Test images. */
async function unpackSamples({ numbers, labels, pixels }) {
  const stream = new Blob([decodeBytes(pixels)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer()), size = shape[0] * height * width;
  return numbers.map((number, i) => ({ number, label: labels[i], pixels: bytes.subarray(i * size, (i + 1) * size) }));
}

function showSamples() {
  at("samples").replaceChildren(...samples.map(({ number, label, pixels }, i) => {
    const button = document.createElement("button"), canvas = button.appendChild(document.createElement("canvas"));
    const predicted = network.answer(network.run(pixels), pixels).best;
    button.type = "button";
    button.tabIndex = i ? -1 : 0;
    button.className = predicted === label ? "" : "wrong";
    button.title = `Test image ${number}, labeled ${classes[label]}${predicted === label ? "" : `, predicted ${classes[predicted]}`}`;
    button.setAttribute("aria-label", button.title);
    button.addEventListener("click", () => { clear(); choose(i); });
    showPixels(canvas, pixels, shape);
    return button;
  }));
  at("samples").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const next = at("samples").children[[...at("samples").children].indexOf(document.activeElement) + by];
    if (!by || !next) return;
    event.preventDefault();
    next.focus();
    next.click();
  });
}

function choose(place) {
  sample = place;
  [...at("samples").children].forEach((button, i) => {
    button.setAttribute("aria-pressed", i === place);
    button.tabIndex = i === (place ?? 0) ? 0 : -1;
  });
  const hasMistakes = at("samples").querySelector(".wrong");
  at("caption").textContent = place === null ? (hasMistakes ? "dashed: predicted wrong" : "") : `number ${samples[place].number}, labeled ${classes[samples[place].label]}`;
  schedule();
}

/* The layers, and the unit under the pointer. */
function buildViews() {
  const last = network.layers.length - 1;
  views = network.layers.map((layer, place) => new LayerView(layer, place, facts.peaks[place], place === last, classes));
  at("layers").replaceChildren(...views.map((view) => view.element));
  for (const view of views) {
    const canvas = view.canvas;
    const point = (event, pin) => {
      if (pinned && !pin) return;
      const box = canvas.getBoundingClientRect();
      const found = view.unitAt(event.clientX - box.left, event.clientY - box.top);
      pinned = pin && found !== null && !(pinned && JSON.stringify(found) === JSON.stringify(unit));
      unit = found;
      schedule();
    };
    canvas.addEventListener("pointermove", (event) => point(event, false));
    canvas.addEventListener("click", (event) => point(event, true));
    canvas.addEventListener("pointerleave", () => { if (!pinned) { unit = null; schedule(); } });
    canvas.addEventListener("blur", () => { if (!pinned) { unit = null; schedule(); } });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      unit = unit?.place === view.place ? view.move(unit, ...step) : { place: view.place, channel: 0, row: view.rows >> 1, column: view.columns >> 1 };
      schedule();
    });
  }
}

/* The largest maps with which all layers fit below each other. */
function layOut() {
  const label = views[0].canvas.previousElementSibling, isNarrow = innerWidth <= 640;
  const room = at("layers").clientWidth - (isNarrow ? 0 : label.offsetWidth + 12);
  const limit = innerWidth <= 992 ? Infinity : innerHeight - at("layers").getBoundingClientRect().top - scrollY - 76;
  const total = (most) => views.reduce((sum, view) => sum + Math.max(view.fit(room, most), 30) + 6, 16);
  let most = isNarrow ? 44 : LARGEST;
  while (total(most) > limit && most > 18) most -= 2;
  total(most);
  views.forEach((view) => view.resize());
  refresh();
}

function buildBars() {
  bars = classes.slice(0, MOST_BARS).map(() => {
    const [element, name, share] = ["li", "b", "em"].map((kind) => document.createElement(kind));
    element.append(name, document.createElement("i"), share);
    at("bars").append(element);
    return { element, name, share };
  });
  const longest = Math.max(...classes.map((name) => name.length));
  at("bars").style.setProperty("--label", `${Math.min(7, 0.5 + 0.55 * longest)}rem`);
  const least = facts.network.rejection?.minProbability;
  if (!least) return;
  at("bars").style.setProperty("--threshold", `${100 * least}%`);
  at("rule").textContent = `It is not sure below the dashed line, at ${(100 * least).toFixed(0)} %, and about images unlike those that it learned from.`;
}

function start() {
  document.body.classList.toggle("draws", draws);
  drawPad.hint = at("hint").textContent;
  readColors();
  buildBars();
  buildViews();
  listenToPad();
  listenToPictures();
  at("clear")?.addEventListener("click", clear);
  at("undo")?.addEventListener("click", undo);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") { if (unit) { unit = null; pinned = false; schedule(); } else clear(); }
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColors(); schedule(); });
  addEventListener("resize", layOut);
  layOut();
  unpackSamples(facts.samples).then((unpacked) => {
    samples = unpacked;
    showSamples();
    if (!strokes.length && !picture) choose(0);
  });
}

start();
