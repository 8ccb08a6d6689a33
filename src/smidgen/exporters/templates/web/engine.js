"use strict";
/* The network, on typed arrays. Outputs of layers are in the order channel, row, column. */

const PIXELS = -1; // stands for the image among a layer's inputs

const decodeBytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

const decodeFloat32 = (base64) => new Float32Array(decodeBytes(base64).buffer);

function decodeFloat16(base64) {
  return Float32Array.from(new Uint16Array(decodeBytes(base64).buffer), (bits) => {
    const exponent = (bits >> 10) & 31, fraction = (bits & 1023) / 1024;
    const size = exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction;
    return bits >> 15 ? -size : size;
  });
}

class Network {
  constructor({ shape, mean, layers, weights, rejection }) {
    this.shape = shape; // channels, height, width
    this.mean = mean;
    const numbers = decodeFloat32(weights);
    let at = 0;
    const take = (count) => numbers.subarray(at, (at += count));
    this.layers = layers.map((layer) => prepare(layer, this.shapeOf(layer.inputs[0], layers), take));
    this.image = new Float32Array(shape[0] * shape[1] * shape[2]);
    this.rejection = rejection && {
      ...rejection,
      spreads: decodeFloat16(rejection.spreads),
      means: decodeFloat16(rejection.means),
      whitening: decodeFloat16(rejection.whitening),
    };
  }

  shapeOf(place, layers = this.layers) {
    return place === PIXELS ? this.shape : layers[place].shape;
  }

  /* The output of each layer for pixels from 0 to 255; valid until the next call. */
  run(pixels) {
    const area = this.shape[1] * this.shape[2];
    for (let i = 0; i < pixels.length; i++) this.image[i] = pixels[i] / 255 - this.mean[Math.floor(i / area)];
    const outputs = [];
    for (const layer of this.layers) {
      const given = layer.inputs.map((place) => (place === PIXELS ? this.image : outputs[place]));
      COMPUTE[layer.kind](layer, layer.padded ? pad(layer, given[0]) : given[0], given[1]);
      outputs.push(layer.output);
    }
    return outputs;
  }

  scores(pixels) {
    return this.run(pixels)[this.layers.length - 1];
  }

  /* Probabilities and the most likely class; `doubt` says why the answer is "not sure", if it is. */
  answer(outputs, pixels) {
    const probabilities = softmax(outputs[outputs.length - 1]);
    const best = probabilities.indexOf(Math.max(...probabilities));
    let doubt = null;
    if (pixels.every((value) => value === pixels[0])) doubt = "blank";
    else if (this.rejection && this.distance(outputs, best) > this.rejection.maxDistance) doubt = "unlike";
    else if (this.rejection && probabilities[best] < this.rejection.minProbability) doubt = "unlikely";
    return { probabilities, best, doubt };
  }

  /* Squared Mahalanobis distance of the channels' means to those of the training images of a class. */
  distance(outputs, label) {
    const { places, spreads, means, whitening } = this.rejection;
    const count = spreads.length, errors = new Float64Array(count);
    let feature = 0;
    for (const place of places) {
      const [channels, height, width] = this.layers[place].shape;
      const area = height * width;
      for (let channel = 0; channel < channels; channel++, feature++) {
        let sum = 0;
        for (let i = channel * area; i < (channel + 1) * area; i++) sum += outputs[place][i];
        errors[feature] = sum / area / spreads[feature] - means[label * count + feature];
      }
    }
    let total = 0;
    for (let row = 0, at = 0; row < count; row++) {
      let sum = 0;
      for (let column = 0; column <= row; column++) sum += whitening[at++] * errors[column];
      total += sum * sum;
    }
    return total;
  }

  /* What a unit depends on: by place, the box [top, left, bottom, right] of each output before it, PIXELS included. */
  receptiveField(place, row, column) {
    const boxes = new Map([[place, [row, column, row, column]]]);
    for (let at = place; at >= 0; at--) {
      if (!boxes.has(at)) continue;
      const { kind, inputs, kernel, stride, padding, dilation } = this.layers[at];
      for (const source of inputs) {
        let box = boxes.get(at);
        if (kind !== "addition") {
          box = box.map((value, i) => {
            const axis = i % 2;
            return value * stride[axis] - padding[axis] + (i < 2 ? 0 : (kernel[axis] - 1) * dilation[axis]);
          });
        }
        const [, height, width] = this.shapeOf(source);
        const known = boxes.get(source) ?? [Infinity, Infinity, -1, -1];
        boxes.set(source, [
          Math.max(0, Math.min(box[0], known[0])), Math.max(0, Math.min(box[1], known[1])),
          Math.min(height - 1, Math.max(box[2], known[2])), Math.min(width - 1, Math.max(box[3], known[3])),
        ]);
      }
    }
    return boxes;
  }
}

function softmax(scores) {
  const highest = Math.max(...scores);
  const shares = Array.from(scores, (score) => Math.exp(score - highest));
  const sum = shares.reduce((a, b) => a + b);
  return shares.map((share) => share / sum);
}

/* A layer with its weights, memory for its output, and the distances from a window's corner to its other values. */
function prepare(layer, [channels, height, width], take) {
  const [outputs, rows, columns] = layer.shape;
  const ready = { ...layer, low: layer.low ?? -Infinity, high: layer.high ?? Infinity };
  ready.output = new Float32Array(outputs * rows * columns);
  if (layer.kind === "addition") return ready;
  const [kernelRows, kernelColumns] = layer.kernel, [down, right] = layer.padding;
  ready.dilation = layer.dilation ?? [1, 1];
  ready.width = width + 2 * right;
  ready.plane = ready.width * (height + 2 * down);
  const depth = layer.kind === "convolution" ? channels / layer.groups : 1;
  const taps = [];
  for (let c = 0; c < depth; c++)
    for (let y = 0; y < kernelRows; y++)
      for (let x = 0; x < kernelColumns; x++)
        taps.push(c * ready.plane + y * ready.dilation[0] * ready.width + x * ready.dilation[1]);
  ready.taps = Int32Array.from(taps);
  if (down || right) {
    ready.given = [channels, height, width];
    ready.padded = new Float32Array(channels * ready.plane).fill(layer.kind === "max" ? -Infinity : 0);
  }
  if (layer.kind === "convolution") {
    ready.depth = depth;
    ready.weight = take(outputs * taps.length);
    ready.bias = take(outputs);
    ready.scale = layer.affine ? take(outputs) : new Float32Array(outputs).fill(1);
    ready.shift = layer.affine ? take(outputs) : new Float32Array(outputs);
  }
  return ready;
}

function pad({ padded, given: [channels, height, width], plane, padding, width: stride }, input) {
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < height; y++) {
      const from = (c * height + y) * width;
      padded.set(input.subarray(from, from + width), c * plane + (y + padding[0]) * stride + padding[1]);
    }
  return padded;
}

/* Four channels at a time, where there are as many: they share the reading of the input. */
function convolve(layer, input) {
  const { taps, weight, bias, scale, shift, low, high, plane, width, output } = layer;
  const [channels, rows, columns] = layer.shape, [down, right] = layer.stride;
  const count = taps.length, perGroup = channels / layer.groups, area = rows * columns;
  const finish = (sum, c) => (sum < low ? low : sum > high ? high : sum) * scale[c] + shift[c];
  for (let c = 0, step = 1; c < channels; c += step) {
    const group = Math.floor(c / perGroup) * layer.depth * plane;
    step = perGroup - (c % perGroup) >= 4 ? 4 : 1;
    const w0 = c * count, w1 = w0 + count, w2 = w1 + count, w3 = w2 + count;
    for (let y = 0, at = c * area; y < rows; y++)
      for (let x = 0; x < columns; x++, at++) {
        const corner = group + y * down * width + x * right;
        if (step === 1) {
          let sum = bias[c];
          for (let t = 0; t < count; t++) sum += weight[w0 + t] * input[corner + taps[t]];
          output[at] = finish(sum, c);
          continue;
        }
        let s0 = bias[c], s1 = bias[c + 1], s2 = bias[c + 2], s3 = bias[c + 3];
        for (let t = 0; t < count; t++) {
          const value = input[corner + taps[t]];
          s0 += weight[w0 + t] * value;
          s1 += weight[w1 + t] * value;
          s2 += weight[w2 + t] * value;
          s3 += weight[w3 + t] * value;
        }
        output[at] = finish(s0, c);
        output[at + area] = finish(s1, c + 1);
        output[at + 2 * area] = finish(s2, c + 2);
        output[at + 3 * area] = finish(s3, c + 3);
      }
  }
}

function pool(layer, input) {
  const { kind, taps, low, high, plane, width, output } = layer;
  const [channels, rows, columns] = layer.shape, [down, right] = layer.stride;
  const count = taps.length, isMax = kind === "max";
  for (let c = 0, at = 0; c < channels; c++)
    for (let y = 0; y < rows; y++)
      for (let x = 0; x < columns; x++, at++) {
        const corner = c * plane + y * down * width + x * right;
        let value = isMax ? -Infinity : 0;
        for (let t = 0; t < count; t++) {
          const given = input[corner + taps[t]];
          if (!isMax) value += given / count;
          else if (given > value) value = given;
        }
        output[at] = value < low ? low : value > high ? high : value;
      }
}

function add({ low, high, output }, first, second) {
  for (let i = 0; i < output.length; i++) {
    const sum = first[i] + second[i];
    output[i] = sum < low ? low : sum > high ? high : sum;
  }
}

const COMPUTE = { convolution: convolve, max: pool, average: pool, addition: add };
