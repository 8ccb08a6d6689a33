// Each operation's forward and backward pass for one block of images.
#pragma once
#include "convolution.hpp"
#include "dropout.hpp"

// ---- scratch memory of one thread
struct Scratch {
    Buffer padded, pairs, rows, sums;
};

// Vectors that each buffer needs for the network's largest convolution.
struct ScratchSizes {
    size_t padded = 0, pairs = 0, rows = 0, sums = 0;

    size_t total() const { return padded + pairs + rows + sums; }
};

// ---- convolution
static ConvShape forward_shape(const Operation &op) {
    ConvShape shape;
    shape.inputs = op.inputs / op.groups;
    shape.height = op.in_height + 2 * op.pad_y;
    shape.width = op.in_width + 2 * op.pad_x;
    shape.outputs = op.outputs / op.groups;
    shape.rows = op.height;
    shape.columns = op.width;
    shape.kernel_y = op.kernel_y;
    shape.kernel_x = op.kernel_x;
    shape.stride = op.stride;
    shape.groups = op.groups;
    shape.bfloat16 = op.bfloat16;
    return shape;
}

// From the gradient of the outputs to that of the inputs: the kernel turned around, stride 1.
static ConvShape backward_shape(const Operation &op) {
    ConvShape shape = forward_shape(op);
    std::swap(shape.inputs, shape.outputs);
    shape.height = op.in_height + op.kernel_y - 1;
    shape.width = op.in_width + op.kernel_x - 1;
    shape.rows = op.in_height;
    shape.columns = op.in_width;
    shape.stride = 1;
    return shape;
}

// How convolution_backward lays out (channels, height, width) for bfloat16_rows: a kernel of one
// pixel treats a plane as a single row.
struct RowLayout {
    int rows, columns, stride;

    RowLayout(const ConvShape &shape, int height, int width)
        : rows(shape.taps() == 1 ? 1 : height), columns(height * width / rows),
          stride((columns + 1) & ~1) {}
};

static ScratchSizes scratch_sizes(const Network &net) {
    constexpr size_t MARGIN = 2; // vectors that kernels may read past the end
    ScratchSizes sizes;
    auto grow = [](size_t &size, size_t needed) { size = std::max(size, needed + MARGIN); };
    for (int i = 0; i < net.num_ops; i++) {
        const Operation &op = net.ops[i];
        if (op.kind != CONVOLUTION) continue;
        ConvShape forward = forward_shape(op), backward = backward_shape(op);
        size_t in_plane = (size_t)forward.height * forward.width;
        size_t out_plane = (size_t)backward.height * backward.width;
        grow(sizes.padded, op.inputs * in_plane);
        grow(sizes.padded, op.outputs * out_plane);
        grow(sizes.sums, (size_t)MOST_OUTPUTS * forward.inputs * forward.taps());
        if (!op.bfloat16) continue;
        RowLayout in(forward, forward.height, forward.width), out(forward, op.height, op.width);
        grow(sizes.pairs, (op.inputs + 1) / 2 * in_plane);
        grow(sizes.pairs, (op.outputs + 1) / 2 * out_plane);
        grow(sizes.pairs, ((size_t)op.inputs * in.rows * in.stride + 5) / 2);
        grow(sizes.rows, ((size_t)op.outputs * out.rows * out.stride + 5) / 2);
    }
    return sizes;
}

// `in` with zeros around it, and `step` - 1 of them between its pixels; `in` itself if there is
// nothing to add.
static const Vec *padded(const Vec *in, int channels, int height, int width, int top, int left,
                         int step, int rows, int columns, const Buffer &buffer) {
    if (rows == height && columns == width) return in;
    Vec *out = buffer.of<Vec>((size_t)channels * rows * columns), *to = out;
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < rows; y++, to += columns) {
            int row = (y - top) / step, right = left + (width - 1) * step + 1;
            if (y < top || (y - top) % step || row >= height) {
                std::fill_n(to, columns, Vec{});
                continue;
            }
            const Vec *from = in + ((size_t)c * height + row) * width;
            std::fill_n(to, step == 1 ? left : columns, Vec{});
            if (step == 1) std::fill_n(to + right, columns - right, Vec{});
            for (int x = 0; x < width; x++) to[left + x * step] = from[x];
        }
    return out;
}

static const Vec *padded_input(const Operation &op, const Vec *in, const Buffer &buffer) {
    return padded(in, op.inputs, op.in_height, op.in_width, op.pad_y, op.pad_x, 1,
                  op.in_height + 2 * op.pad_y, op.in_width + 2 * op.pad_x, buffer);
}

static void pack_weights(const Operation &op) {
    int taps = op.kernel_y * op.kernel_x, in = op.inputs / op.groups, out = op.outputs / op.groups;
    auto weight = [&](int g, int o, int c, int t) {
        return op.weight[((size_t)(g * out + o) * in + c) * taps + t];
    };
    auto turned = [&](int g, int c, int o, int t) { return weight(g, o, c, taps - 1 - t); };
    pack(op.packed, op.groups, out, in, taps, op.bfloat16, weight);
    pack(op.packed + op.weights(), op.groups, in, out, taps, op.bfloat16, turned);
}

static void convolve_packed(ConvShape shape, const Vec *in, Vec *out, const float *packed,
                            const float *bias, bool rectify, const Buffer &buffer) {
    if (shape.bfloat16) {
        in = channel_pairs(in, shape.inputs, shape.height * shape.width, buffer);
        shape.inputs = (shape.inputs + 1) / 2;
    }
    convolve(shape, in, out, packed, bias, rectify);
}

static void weight_gradients(const Operation &op, const Vec *image, const Vec *g, float *result,
                             const Scratch &scratch) {
    ConvShape shape = forward_shape(op);
    if constexpr (HAS_BFLOAT16)
        if (op.bfloat16) { // one group, stride 1
            RowLayout in(shape, shape.height, shape.width), out(shape, op.height, op.width);
            const BVec *g_rows =
                bfloat16_rows(g, op.outputs * out.rows, out.columns, out.stride, scratch.rows);
            const BVec *in_rows =
                bfloat16_rows(image, op.inputs * in.rows, in.columns, in.stride, scratch.pairs);
            weight_gradient<true>(shape, g_rows, in_rows, out.stride, in.stride, result,
                                  scratch.sums);
            return;
        }
    bool flat = shape.taps() == 1 && shape.stride == 1;
    for (int i = 0; i < op.groups; i++)
        weight_gradient<false>(shape, g + (size_t)i * shape.outputs * op.plane(),
                               image + (size_t)i * shape.inputs * shape.height * shape.width,
                               flat ? op.plane() : shape.columns,
                               flat ? shape.height * shape.width : shape.width,
                               result + i * (op.weights() / op.groups), scratch.sums);
}

// `through_relu`: g is the gradient before the operation's ReLU already.
static void convolution_backward(const Operation &op, int block, const Vec *in, const Vec *out,
                                 Vec *g, Vec *g_in, bool through_relu, const Scratch &scratch) {
    if (op.relu && !through_relu)
        for (size_t e = 0; e < op.size(); e++) g[e] = select((Mask)(out[e] > Vec{}), g[e]);
    float *result = op.partial + (op.weights() + op.outputs) * block;
    weight_gradients(op, padded_input(op, in, scratch.padded), g, result, scratch);
    if (op.bias_grad)
        for (int c = 0; c < op.outputs; c++) {
            Vec sum = {};
            for (int e = 0; e < op.plane(); e++) sum += g[c * op.plane() + e];
            result[op.weights() + c] = sum_of(sum);
        }
    if (!g_in) return;
    ConvShape shape = backward_shape(op);
    const Vec *spread =
        padded(g, op.outputs, op.height, op.width, op.kernel_y - 1 - op.pad_y,
               op.kernel_x - 1 - op.pad_x, op.stride, shape.height, shape.width, scratch.padded);
    convolve_packed(shape, spread, g_in, op.packed + op.weights(), nullptr, false, scratch.pairs);
}

// ---- batch norm, with a ReLU and a dropout after it
struct Factors { // of a channel: y = x * scale + shift; the others are for the backward pass
    float scale, shift, mean, inverse, slope, level;
};

static Factors *factors(const Operation &op) { return reinterpret_cast<Factors *>(op.factors); }

// The mean of a block's images, and the sum of squares about it.
static void norm_block_sums(const Network &net, const Operation &op, int block) {
    const Vec *in = op.input + op.in_size() * block;
    Mask present = net.present(block);
    int plane = op.plane();
    float count = (float)net.num_present(block) * plane;
    for (int c = 0; c < op.outputs; c++, in += plane) {
        Vec sum[4] = {}, squares[4] = {}; // four, so that no addition waits for the one before
        for (int e = 0; e < plane; e++) sum[e & 3] += in[e];
        float mean = sum_of(select(present, (sum[0] + sum[1]) + (sum[2] + sum[3]))) / count;
        for (int e = 0; e < plane; e++) {
            Vec d = in[e] - broadcast(mean);
            squares[e & 3] += d * d;
        }
        double *of = op.sums + ((size_t)block * op.outputs + c) * 2;
        of[0] = mean;
        of[1] = sum_of(select(present, (squares[0] + squares[1]) + (squares[2] + squares[3])));
    }
}

// Combines the blocks (Chan, Golub, LeVeque: Updating Formulae for Computing Sample Variances,
// 1979), and updates the running statistics.
static void norm_statistics(const Network &net, const Operation &op) {
    for (int c = 0; c < op.outputs; c++) {
        double count = 0, mean = 0, squares = 0;
        for (int b = 0; b < net.blocks; b++) {
            const double *of = op.sums + ((size_t)b * op.outputs + c) * 2;
            double added = (double)net.num_present(b) * op.plane(), apart = of[0] - mean;
            squares += of[1] + apart * apart * count * added / (count + added);
            count += added;
            mean += apart * added / count;
        }
        double variance = squares / count, inverse = 1 / std::sqrt(variance + op.eps);
        double scale = (op.weight ? op.weight[c] : 1) * inverse;
        Factors &f = factors(op)[c];
        f.scale = scale;
        f.shift = (op.bias ? op.bias[c] : 0) - mean * scale;
        f.mean = mean;
        f.inverse = inverse;
        op.running_mean[c] += op.momentum * (mean - op.running_mean[c]);
        op.running_var[c] += op.momentum * (squares / (count - 1) - op.running_var[c]);
    }
}

// Batch norm (or nothing, for POINTWISE), then ReLU, then dropout.
static void pointwise_forward(const Network &net, int index, int block, const Vec *in, Vec *out) {
    const Operation &op = net.ops[index];
    Dropout dropout(net, index, block);
    for (int c = 0, e = 0; c < op.outputs; c++) {
        bool norm = op.kind == NORM;
        Vec scale = broadcast(norm ? factors(op)[c].scale : 1);
        Vec shift = broadcast(norm ? factors(op)[c].shift : 0);
        for (; e < (c + 1) * op.plane(); e++) {
            Vec v = in[e] * scale + shift;
            out[e] = dropout.forward(op.relu ? relu(v) : v, e);
        }
    }
}

// Takes g back through dropout and ReLU to the batch norm's own output, and sums it.
static void norm_backward_block_sums(const Network &net, int index, int block, Vec *g) {
    const Operation &op = net.ops[index];
    const Vec *in = op.input + op.in_size() * block, *out = op.output + op.size() * block;
    Dropout dropout(net, index, block);
    for (int c = 0, e = 0; c < op.outputs; c++) {
        Vec mean = broadcast(factors(op)[c].mean), sum[2] = {}, product[2] = {};
        for (; e < (c + 1) * op.plane(); e++) {
            g[e] = dropout.backward(g[e], out[e], op.relu, e);
            sum[e & 1] += g[e];
            product[e & 1] += g[e] * (in[e] - mean);
        }
        double *of = op.sums + ((size_t)block * op.outputs + c) * 2;
        of[0] = sum_of(sum[0] + sum[1]);
        of[1] = sum_of(product[0] + product[1]);
    }
}

static void norm_backward_statistics(const Network &net, const Operation &op) {
    double count = (double)net.images * op.plane();
    for (int c = 0; c < op.outputs; c++) {
        double sum = 0, product = 0;
        for (int b = 0; b < net.blocks; b++) {
            sum += op.sums[((size_t)b * op.outputs + c) * 2];
            product += op.sums[((size_t)b * op.outputs + c) * 2 + 1];
        }
        Factors &f = factors(op)[c];
        if (op.weight_grad) op.weight_grad[c] = product * f.inverse;
        if (op.bias_grad) op.bias_grad[c] = sum;
        double slope = (double)f.inverse * f.inverse * product / count;
        f.slope = slope; // g_in = scale * (g - (x - mean) * slope - sum / count)
        f.level = f.mean * slope - sum / count;
    }
}

// `through_relu`: the input has passed a ReLU, and g_in is to be the gradient before it.
static void norm_backward(const Network &net, const Operation &op, int block, const Vec *in,
                          const Vec *g, Vec *g_in, bool through_relu) {
    Mask present = net.present(block);
    for (int c = 0, e = 0; c < op.outputs; c++) {
        Factors f = factors(op)[c];
        Vec scale = broadcast(f.scale), slope = broadcast(f.slope), level = broadcast(f.level);
        for (; e < (c + 1) * op.plane(); e++) {
            Vec v = select(present, scale * (g[e] - in[e] * slope + level));
            g_in[e] = through_relu ? select((Mask)(in[e] > Vec{}), v) : v;
        }
    }
}

// ---- pools whose windows do not overlap
template <typename F> static void for_each_window(const Operation &op, F visit) {
    for (int c = 0, e = 0; c < op.outputs; c++)
        for (int y = 0; y < op.height; y++)
            for (int x = 0; x < op.width; x++, e++)
                visit(e,
                      ((size_t)c * op.in_height + y * op.kernel_y) * op.in_width + x * op.kernel_x);
}

template <bool MAX> static void pool_forward(const Operation &op, const Vec *in, Vec *out) {
    float share = 1.f / (op.kernel_y * op.kernel_x);
    for_each_window(op, [&](int e, size_t corner) {
        Vec result = MAX ? in[corner] : Vec{};
        for (int dy = 0; dy < op.kernel_y; dy++)
            for (int dx = 0; dx < op.kernel_x; dx++) {
                Vec v = in[corner + dy * op.in_width + dx];
                if constexpr (MAX)
                    result = ((v > result) | (v != v)) ? v : result; // NaN is the maximum
                else
                    result += v;
            }
        out[e] = MAX ? result : result * share;
    });
}

// The gradient of a maximum goes to the first of several equal ones, as in torch.
template <bool MAX> static void pool_backward(const Operation &op, const Vec *in, const Vec *out,
                                              const Vec *g, Vec *g_in) {
    float share = 1.f / (op.kernel_y * op.kernel_x);
    if (op.height * op.kernel_y != op.in_height || op.width * op.kernel_x != op.in_width)
        std::fill_n(g_in, op.in_size(), Vec{});
    for_each_window(op, [&](int e, size_t corner) {
        Vec gradient = MAX ? g[e] : g[e] * share, maximum = out[e];
        Mask searching = ~Mask{};
        for (int dy = 0; dy < op.kernel_y; dy++)
            for (int dx = 0; dx < op.kernel_x; dx++) {
                size_t at = corner + dy * op.in_width + dx;
                if constexpr (MAX) {
                    Mask found = (Mask)(in[at] == maximum) & searching;
                    g_in[at] = select(found, gradient);
                    searching &= ~found;
                } else {
                    g_in[at] = gradient;
                }
            }
    });
}
