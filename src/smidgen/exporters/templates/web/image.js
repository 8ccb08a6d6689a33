"use strict";
/* Images as the network was trained on. The steps are those of `smidgen predict`, and resampling is Pillow's. */

const INK = 0.2; // of the range from paper to the darkest stroke; below it, a pixel is paper

const FILTERS = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
};

/* One channel of bytes, {data, width, height}, in another size. */
function resize(image, width, height, filter) {
  const narrow = width === image.width ? image : resizeRows(image, width, filter);
  return height === image.height ? narrow : transpose(resizeRows(transpose(narrow), height, filter));
}

function resizeRows({ data, width, height }, size, { support, weight }) {
  const scale = width / size, stretch = Math.max(scale, 1), reach = support * stretch;
  const result = new Uint8Array(size * height);
  for (let x = 0; x < size; x++) {
    const center = (x + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const last = Math.min(width, Math.trunc(center + reach + 0.5));
    const shares = [];
    for (let i = first; i < last; i++) shares.push(weight((i - center + 0.5) / stretch));
    const total = shares.reduce((a, b) => a + b);
    const factors = shares.map((share) => Math.floor((share / total) * 2 ** 22 + 0.5));
    for (let y = 0; y < height; y++) {
      let sum = 2 ** 21;
      for (let i = 0; i < factors.length; i++) sum += factors[i] * data[y * width + first + i];
      result[y * size + x] = Math.min(255, Math.floor(sum / 2 ** 22));
    }
  }
  return { data: result, width: size, height };
}

function transpose({ data, width, height }) {
  const result = new Uint8Array(data.length);
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) result[x * height + y] = data[y * width + x];
  return { data: result, width: height, height: width };
}

/* The channels of RGBA pixels: one of grays, or red, green and blue; transparent pixels are white. */
function channelsOf({ data, width, height }, count) {
  const channels = Array.from({ length: count }, () => new Uint8Array(width * height));
  for (let i = 0; i < width * height; i++) {
    const alpha = data[4 * i + 3] / 255;
    const [red, green, blue] = [0, 1, 2].map((c) => Math.round(data[4 * i + c] * alpha + 255 * (1 - alpha)));
    if (count === 1) channels[0][i] = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16;
    else [channels[0][i], channels[1][i], channels[2][i]] = [red, green, blue];
  }
  return channels.map((channel) => ({ data: channel, width, height }));
}

/* A picture, as RGBA pixels, in the form of the training images of shape [channels, height, width].
   `input` is "handwriting", "bright" for other images that are bright on black, or "plain". */
function prepareImage(pixels, [channels, height, width], input) {
  const planes = channelsOf(pixels, channels);
  if (input === "handwriting") return centerHandwriting(planes[0], width, height);
  const result = new Uint8Array(channels * height * width);
  planes.forEach((plane, c) => result.set(resize(plane, width, height, FILTERS.bilinear).data, c * height * width));
  return input === "bright" && hasBrightBorder(result, width, height) ? result.map((value) => 255 - value) : result;
}

/* A drawing as in MNIST: bright on black. Dark strokes on bright paper are inverted. */
function centerHandwriting({ data, width: given, height: rows }, width, height) {
  const grays = Float32Array.from(data, (value) => value / 255);
  if (given === width && rows === height)
    return hasBrightBorder(data, width, height) ? data.map((value) => 255 - value) : data;
  const paper = paperOf(grays, given, rows);
  return centerInk(grays.map((gray, i) => Math.abs(gray - paper[i])), given, rows, width, height);
}

/* Ink from 0 to 1: scaled so that its longer side takes 20/28 of the frame, its center of mass in the middle. */
function centerInk(ink, given, rows, width, height) {
  const darkest = Math.max(ink.reduce((a, b) => Math.max(a, b), 0), 1e-6);
  let top = Infinity, left = Infinity, bottom = -1, right = -1;
  const clean = ink.map((value, i) => {
    const share = Math.fround(value / darkest);
    if (share < INK) return 0;
    const y = Math.floor(i / given), x = i % given;
    top = Math.min(top, y); bottom = Math.max(bottom, y);
    left = Math.min(left, x); right = Math.max(right, x);
    return Math.min(1, share);
  });
  const frame = new Uint8Array(width * height);
  if (bottom < 0) return frame;
  const cut = { width: right - left + 1, height: bottom - top + 1 };
  cut.data = new Uint8Array(cut.width * cut.height);
  for (let y = 0; y < cut.height; y++)
    for (let x = 0; x < cut.width; x++) cut.data[y * cut.width + x] = Math.fround(clean[(top + y) * given + left + x] * 255);
  const scale = (Math.min(width, height) * 20) / 28 / Math.max(cut.width, cut.height);
  const size = [cut.width, cut.height].map((side) => Math.max(1, roundHalfEven(side * scale)));
  const drawing = resize(cut, ...size, scale < 1 ? FILTERS.box : FILTERS.bilinear);
  const [x, y] = cornerOf(drawing, width, height);
  for (let row = 0; row < drawing.height; row++)
    frame.set(drawing.data.subarray(row * drawing.width, (row + 1) * drawing.width), (y + row) * width + x);
  return frame;
}

/* Where the drawing's upper left corner goes, so that its center of mass is in the middle. */
function cornerOf(drawing, width, height) {
  let mass = 0, across = 0, down = 0;
  drawing.data.forEach((value, i) => {
    mass += value;
    across += value * ((i % drawing.width) + 0.5);
    down += value * (Math.floor(i / drawing.width) + 0.5);
  });
  if (!mass) return [0, 0];
  const place = (side, center, extent) => Math.min(Math.max(0, roundHalfEven(side / 2 - center)), side - extent);
  return [place(width, across / mass, drawing.width), place(height, down / mass, drawing.height)];
}

function roundHalfEven(value) {
  const below = Math.floor(value), rest = value - below;
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1;
}

function median(values) {
  const sorted = Float64Array.from(values).sort(), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/* Whether the median of the outermost pixels is in the bright half. */
function hasBrightBorder(data, width, height) {
  const border = [];
  for (let x = 0; x < width; x++) border.push(data[x], data[(height - 1) * width + x]);
  for (let y = 0; y < height; y++) border.push(data[y * width], data[y * width + width - 1]);
  return median(border) >= 127.5;
}

/* The paper's brightness at each pixel: the plane that fits the border best, fitted again without strokes on it. */
function paperOf(grays, width, height) {
  const border = [];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (!y || !x || y === height - 1 || x === width - 1) border.push([y, x, grays[y * width + x]]);
  const usual = median(border.map((point) => point[2]));
  let near = border.filter((point) => Math.abs(point[2] - usual) <= 0.25), plane = [usual, 0, 0];
  for (let turn = 0; turn < 2 && near.length >= 3; turn++) {
    plane = fitPlane(near) ?? plane;
    near = border.filter(([y, x, gray]) => Math.abs(gray - (plane[0] + plane[1] * y + plane[2] * x)) <= 0.1);
  }
  return grays.map((_, i) => plane[0] + plane[1] * Math.floor(i / width) + plane[2] * (i % width));
}

/* Least squares: [value at the origin, slope by row, slope by column]. */
function fitPlane(points) {
  const [y, x, z] = [0, 1, 2].map((i) => points.reduce((sum, point) => sum + point[i], 0) / points.length);
  let yy = 0, xx = 0, yx = 0, yz = 0, xz = 0;
  for (const point of points) {
    const [v, u, w] = [point[0] - y, point[1] - x, point[2] - z];
    yy += v * v; xx += u * u; yx += v * u; yz += v * w; xz += u * w;
  }
  const determinant = yy * xx - yx * yx;
  if (determinant < 1e-9) return null; // all on one line
  const down = (yz * xx - xz * yx) / determinant, across = (xz * yy - yz * yx) / determinant;
  return [z - down * y - across * x, down, across];
}
