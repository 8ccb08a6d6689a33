// The forward and backward pass of a whole network, for a batch.
//
// The images are taken in blocks of LANES, one in each lane of a vector, and an activation is
// (block, channel, row, column) of vectors. A batch norm must see every block before any can go on;
// between two of them a block runs through all operations while it is in the cache, and blocks are
// independent. What is summed over blocks is summed in their order, so the number of threads does
// not change a bit.
#include "convolution.hpp"

enum Kind : int32_t { CONVOLUTION, NORM, MAX_POOL, AVERAGE_POOL, ADDITION, POINTWISE };

// What Python hands over: the same fields, in this order, as network.py has.
struct Op {
    int32_t kind, inputs, in_height, in_width, outputs, height, width;
    int32_t kernel_y, kernel_x, pad_y, pad_x, stride, groups;
    int32_t relu, whole_channels, half;
    float drop, eps, momentum;
    const V *in, *addend;  // the addend of an addition
    V *out;
    V *returned;  // what an addition further on sends back to `out`, or null
    V *sent;      // an addition's: where it sends its gradient, or null
    const float *weight, *bias;
    float *weight_grad, *bias_grad, *running_mean, *running_var;
    double *sums;    // NORM: two of each block and channel
    float *factors;  // NORM: six of each channel
    float *packed;   // CONVOLUTION: its weights for forward, then those for backward
    float *partial;  // CONVOLUTION: of each block, the gradients of weights and bias

    int in_plane() const { return in_height * in_width; }
    int plane() const { return height * width; }
    size_t in_size() const { return (size_t)inputs * in_plane(); }
    size_t size() const { return (size_t)outputs * plane(); }
    size_t weights() const { return (size_t)outputs * (inputs / groups) * kernel_y * kernel_x; }
};

struct Net {
    int32_t num_ops, blocks, images, threads;
    Op *ops;
    V *gradients[2];  // of the activation under way and of the next, by turns
    int64_t gradient_size;
    uint32_t seeds[2];

    int present(int block) const { return std::min(LANES, images - block * LANES); }
};

static thread_local Room pad_room, pair_room, g_room, sum_room;

// -1 in the lanes in which there is an image
static Mask present(const Net &net, int block) {
    Mask mask;
    for (int i = 0; i < LANES; i++) mask[i] = i < net.present(block) ? -1 : 0;
    return mask;
}

// ---- dropout: a hash of (seeds, operation, element, image), so nothing need be kept for backward
struct Dropout {
    Words start;  // of the images
    uint32_t second, limit;
    bool any, whole_channels;
    float up;  // what is left makes up for what is gone
    int plane;

    Dropout(const Net &net, int i, int block)
        : second(net.seeds[1]), limit(std::lround(net.ops[i].drop * 16777216.0)),
          any(net.ops[i].drop > 0), whole_channels(net.ops[i].whole_channels),
          up(1 / (1 - net.ops[i].drop)), plane(net.ops[i].plane()) {
        uint32_t image[LANES];
        for (int j = 0; j < LANES; j++) image[j] = block * LANES + j;
        std::memcpy(&start, image, sizeof start);
        start += net.seeds[0] + i * 0x9E3779B9u;
    }

    Mask kept(int element) const {
        Words x = start + (whole_channels ? element / plane : element) * 4096u;
        x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x ^= second;
        x *= 0x846ca68bu, x ^= x >> 16, x *= 0x9E3779B1u, x ^= x >> 15;
        return (Mask)((x >> 8) >= limit);
    }

    V forward(V v, int element) const { return any ? where(kept(element), v * up) : v; }

    // Where there is a ReLU as well, what was dropped shows in the output: it is 0.
    V backward(V g, V out, bool relu, int element) const {
        if (any) g *= up;
        if (relu) return where((Mask)(out > V{}), g);
        return any ? where(kept(element), g) : g;
    }
};

// ---- convolution
// `in` with zeros around it, and `step` - 1 of them between its pixels; itself where none are due.
static const V *padded(const V *in, int channels, int height, int width, int top, int left,
                       int step, int rows, int columns) {
    if (rows == height && columns == width) return in;
    V *out = pad_room.of<V>((size_t)channels * rows * columns), *to = out;
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < rows; y++, to += columns) {
            int row = (y - top) / step, right = left + (width - 1) * step + 1;
            if (y < top || (y - top) % step || row >= height) {
                std::fill_n(to, columns, V{});
                continue;
            }
            const V *from = in + ((size_t)c * height + row) * width;
            std::fill_n(to, step == 1 ? left : columns, V{});
            if (step == 1) std::fill_n(to + right, columns - right, V{});
            for (int x = 0; x < width; x++) to[left + x * step] = from[x];
        }
    return out;
}

static const V *padded_input(const Op &op, const V *in) {
    return padded(in, op.inputs, op.in_height, op.in_width, op.pad_y, op.pad_x, 1,
                  op.in_height + 2 * op.pad_y, op.in_width + 2 * op.pad_x);
}

static Window forward_window(const Op &op) {
    return {op.inputs / op.groups,  op.in_height + 2 * op.pad_y,
            op.in_width + 2 * op.pad_x, op.outputs / op.groups,
            op.height,              op.width,
            op.kernel_y,            op.kernel_x,
            op.stride,              op.groups,
            op.half != 0};
}

// From the gradient of the outputs to that of the inputs: the kernel turned around, stride 1.
static Window backward_window(const Op &op) {
    return {op.outputs / op.groups,         op.in_height + op.kernel_y - 1,
            op.in_width + op.kernel_x - 1,  op.inputs / op.groups,
            op.in_height,                   op.in_width,
            op.kernel_y,                    op.kernel_x,
            1,                              op.groups,
            op.half != 0};
}

static void pack_both(const Op &op) {
    int taps = op.kernel_y * op.kernel_x, in = op.inputs / op.groups, out = op.outputs / op.groups;
    auto weight = [&](int g, int o, int c, int t) {
        return op.weight[((size_t)(g * out + o) * in + c) * taps + t];
    };
    auto turned = [&](int g, int c, int o, int t) { return weight(g, o, c, taps - 1 - t); };
    pack(op.packed, op.groups, out, in, taps, op.half, weight);
    pack(op.packed + op.weights(), op.groups, in, out, taps, op.half, turned);
}

static void run_window(Window w, const V *in, V *out, const float *packed, const float *bias,
                       bool rectify) {
    if (w.half) {
        in = channel_pairs(in, w.inputs, w.height * w.width, pair_room);
        w.inputs = (w.inputs + 1) / 2;
    }
    convolve(w, in, out, packed, bias, rectify);
}

// `masked`: g has come back through the ReLU already.
static void convolution_backward(const Op &op, int block, const V *in, const V *out, V *g,
                                 V *g_in, bool masked) {
    if (op.relu && !masked)
        for (size_t e = 0; e < op.size(); e++) g[e] = where((Mask)(out[e] > V{}), g[e]);
    float *result = op.partial + (op.weights() + op.outputs) * block;
    Window w = forward_window(op);
    const V *image = padded_input(op, in);
    if constexpr (HAS_HALF)
        if (op.half) {  // one group, stride 1; a kernel of one pixel sees a single row
            bool flat = w.taps() == 1;
            int g_rows = flat ? 1 : w.rows, g_columns = op.plane() / g_rows;
            int in_rows = flat ? 1 : w.height, in_columns = w.height * w.width / in_rows;
            int g_width = (g_columns + 1) & ~1, in_width = (in_columns + 1) & ~1;
            const Pixel *g2 = half_rows(g, op.outputs * g_rows, g_columns, g_width, g_room);
            const Pixel *in2 =
                half_rows(image, op.inputs * in_rows, in_columns, in_width, pair_room);
            weight_gradient<true>(w, g2, in2, g_width, in_width, result, sum_room);
        }
    if (!op.half)
        for (int i = 0; i < op.groups; i++) {
            bool flat = w.taps() == 1 && w.stride == 1;
            weight_gradient<false>(w, g + (size_t)i * w.outputs * op.plane(),
                                   image + (size_t)i * w.inputs * w.height * w.width,
                                   flat ? op.plane() : w.columns,
                                   flat ? w.height * w.width : w.width,
                                   result + i * (op.weights() / op.groups), sum_room);
        }
    if (op.bias_grad)
        for (int c = 0; c < op.outputs; c++) {
            V sum = {};
            for (int e = 0; e < op.plane(); e++) sum += g[c * op.plane() + e];
            result[op.weights() + c] = total(sum);
        }
    if (!g_in) return;
    Window back = backward_window(op);
    const V *spread = padded(g, op.outputs, op.height, op.width, op.kernel_y - 1 - op.pad_y,
                             op.kernel_x - 1 - op.pad_x, op.stride, back.height, back.width);
    run_window(back, spread, g_in, op.packed + op.weights(), nullptr, false);
}

// ---- batch norm, with a ReLU and a dropout after it
struct Factors {  // of a channel: y = x * scale + shift; the others serve backward
    float scale, shift, mean, inverse, slope, level;
};

static Factors *factors(const Op &op) { return reinterpret_cast<Factors *>(op.factors); }

// The mean of a block's images, and the sum of squares about it.
static void norm_sums(const Net &net, const Op &op, int block) {
    const V *in = op.in + op.in_size() * block;
    Mask there = present(net, block);
    int plane = op.plane();
    float count = (float)net.present(block) * plane;
    for (int c = 0; c < op.outputs; c++, in += plane) {
        V sum[4] = {}, squares[4] = {};  // four of each, not to wait for the addition before
        for (int e = 0; e < plane; e++) sum[e & 3] += in[e];
        float mean = total(where(there, (sum[0] + sum[1]) + (sum[2] + sum[3]))) / count;
        for (int e = 0; e < plane; e++) {
            V d = in[e] - fill(mean);
            squares[e & 3] += d * d;
        }
        double *of = op.sums + ((size_t)block * op.outputs + c) * 2;
        of[0] = mean;
        of[1] = total(where(there, (squares[0] + squares[1]) + (squares[2] + squares[3])));
    }
}

// Blocks joined by Chan, Golub, LeVeque: Updating Formulae for Computing Sample Variances, 1979.
static void norm_settle(const Net &net, const Op &op) {
    for (int c = 0; c < op.outputs; c++) {
        double count = 0, mean = 0, squares = 0;
        for (int b = 0; b < net.blocks; b++) {
            const double *of = op.sums + ((size_t)b * op.outputs + c) * 2;
            double added = (double)net.present(b) * op.plane(), apart = of[0] - mean;
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

// A batch norm, or nothing, then ReLU and dropout.
static void pointwise_forward(const Net &net, int i, int block, const V *in, V *out) {
    const Op &op = net.ops[i];
    Dropout dropout(net, i, block);
    for (int c = 0, e = 0; c < op.outputs; c++) {
        bool norm = op.kind == NORM;
        V scale = fill(norm ? factors(op)[c].scale : 1);
        V shift = fill(norm ? factors(op)[c].shift : 0);
        for (; e < (c + 1) * op.plane(); e++) {
            V v = in[e] * scale + shift;
            out[e] = dropout.forward(op.relu ? relu(v) : v, e);
        }
    }
}

// Takes g back through dropout and ReLU to the batch norm's own output, and sums it.
static void norm_backward_sums(const Net &net, int i, int block, V *g) {
    const Op &op = net.ops[i];
    const V *in = op.in + op.in_size() * block, *out = op.out + op.size() * block;
    Dropout dropout(net, i, block);
    for (int c = 0, e = 0; c < op.outputs; c++) {
        V mean = fill(factors(op)[c].mean), sum[2] = {}, product[2] = {};
        for (; e < (c + 1) * op.plane(); e++) {
            g[e] = dropout.backward(g[e], out[e], op.relu, e);
            sum[e & 1] += g[e];
            product[e & 1] += g[e] * (in[e] - mean);
        }
        double *of = op.sums + ((size_t)block * op.outputs + c) * 2;
        of[0] = total(sum[0] + sum[1]);
        of[1] = total(product[0] + product[1]);
    }
}

static void norm_backward_settle(const Net &net, const Op &op) {
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
        f.slope = slope;  // g_in = scale * (g - (x - mean) * slope - sum / count)
        f.level = f.mean * slope - sum / count;
    }
}

// `rectified`: what comes in has passed a ReLU, and g_in is to be the gradient before that.
static void norm_backward(const Net &net, const Op &op, int block, const V *in, const V *g,
                          V *g_in, bool rectified) {
    Mask there = present(net, block);
    for (int c = 0, e = 0; c < op.outputs; c++) {
        Factors f = factors(op)[c];
        V scale = fill(f.scale), slope = fill(f.slope), level = fill(f.level);
        for (; e < (c + 1) * op.plane(); e++) {
            V v = where(there, scale * (g[e] - in[e] * slope + level));
            g_in[e] = rectified ? where((Mask)(in[e] > V{}), v) : v;
        }
    }
}

// ---- pools: windows side by side
template <typename F> static void each_window(const Op &op, F visit) {
    for (int c = 0, e = 0; c < op.outputs; c++)
        for (int y = 0; y < op.height; y++)
            for (int x = 0; x < op.width; x++, e++)
                visit(e, ((size_t)c * op.in_height + y * op.kernel_y) * op.in_width +
                             x * op.kernel_x);
}

template <bool MAX> static void pool_forward(const Op &op, const V *in, V *out) {
    float share = 1.f / (op.kernel_y * op.kernel_x);
    each_window(op, [&](int e, size_t at) {
        V result = MAX ? in[at] : V{};
        for (int dy = 0; dy < op.kernel_y; dy++)
            for (int dx = 0; dx < op.kernel_x; dx++) {
                V v = in[at + dy * op.in_width + dx];
                if constexpr (MAX)
                    result = ((v > result) | (v != v)) ? v : result;  // a NaN shows
                else
                    result += v;
            }
        out[e] = MAX ? result : result * share;
    });
}

// The gradient of a maximum goes to the first of those that are equal, as in torch.
template <bool MAX>
static void pool_backward(const Op &op, const V *in, const V *out, const V *g, V *g_in) {
    float share = 1.f / (op.kernel_y * op.kernel_x);
    if (op.height * op.kernel_y != op.in_height || op.width * op.kernel_x != op.in_width)
        std::fill_n(g_in, op.in_size(), V{});
    each_window(op, [&](int e, size_t at) {
        V whole = MAX ? g[e] : g[e] * share, most = out[e];
        Mask open = ~Mask{};
        for (int dy = 0; dy < op.kernel_y; dy++)
            for (int dx = 0; dx < op.kernel_x; dx++) {
                size_t place = at + dy * op.in_width + dx;
                if constexpr (MAX) {
                    Mask hit = (Mask)(in[place] == most) & open;
                    g_in[place] = where(hit, whole);
                    open &= ~hit;
                } else {
                    g_in[place] = whole;
                }
            }
    });
}

// ---- the network
static void forward_op(const Net &net, int i, int block) {
    const Op &op = net.ops[i];
    const V *in = op.in + op.in_size() * block;
    V *out = op.out + op.size() * block;
    switch (op.kind) {
    case CONVOLUTION:
        run_window(forward_window(op), padded_input(op, in), out, op.packed, op.bias, op.relu);
        break;
    case NORM:
    case POINTWISE: pointwise_forward(net, i, block, in, out); break;
    case ADDITION: {
        const V *addend = op.addend + op.size() * block;
        for (size_t e = 0; e < op.size(); e++) out[e] = in[e] + addend[e];
        break;
    }
    case MAX_POOL: pool_forward<true>(op, in, out); break;
    case AVERAGE_POOL: pool_forward<false>(op, in, out); break;
    }
}

// Whether batch norm i takes its gradient back through the ReLU before it as well: it has at hand
// what that depends on, and one pass over memory is saved.
static bool norm_rectifies(const Net &net, int i) {
    const Op &before = net.ops[i - 1];
    return net.ops[i].kind == NORM && before.kind == CONVOLUTION && before.relu && !before.returned;
}

// From g, the gradient of an operation's output, to g_in, that of its input; g may change.
static void backward_op(const Net &net, int i, int block, V *g, V *g_in) {
    const Op &op = net.ops[i];
    const V *in = op.in + op.in_size() * block, *out = op.out + op.size() * block;
    switch (op.kind) {
    case CONVOLUTION:
        convolution_backward(op, block, in, out, g, i ? g_in : nullptr,
                             i + 1 < net.num_ops && norm_rectifies(net, i + 1));
        break;
    case NORM: norm_backward(net, op, block, in, g, g_in, norm_rectifies(net, i)); break;
    case POINTWISE: {
        Dropout dropout(net, i, block);
        for (size_t e = 0; e < op.size(); e++) g_in[e] = dropout.backward(g[e], out[e], op.relu, e);
        break;
    }
    case ADDITION:
        std::copy_n(g, op.size(), g_in);
        if (op.sent) std::copy_n(g, op.size(), op.sent + op.size() * block);
        break;
    case MAX_POOL: pool_backward<true>(op, in, out, g, g_in); break;
    case AVERAGE_POOL: pool_backward<false>(op, in, out, g, g_in); break;
    }
}

// Adds what an addition further on has sent to this output.
static void collect(const Op &op, int block, V *g) {
    if (op.returned)
        for (size_t e = 0; e < op.size(); e++) g[e] += op.returned[op.size() * block + e];
}

template <typename F> static void each_block(const Net &net, F run) {
#pragma omp parallel for schedule(static) num_threads(net.threads) if (net.threads > 1)
    for (int block = 0; block < net.blocks; block++) run(block);
}

// A block of images or scores, between rows of floats and vectors; absent ones are 0.
static void gather(const Net &net, int block, const float *from, size_t size, V *to) {
    for (size_t e = 0; e < size; e++) {
        V v = {};
        for (int i = 0; i < net.present(block); i++) v[i] = from[(block * LANES + i) * size + e];
        to[e] = v;
    }
}

static void scatter(const Net &net, int block, const V *from, size_t size, float *to) {
    for (int i = 0; i < net.present(block); i++)
        for (size_t e = 0; e < size; e++) to[(block * LANES + i) * size + e] = from[e][i];
}

extern "C" int lanes_width() { return LANES; }
extern "C" int lanes_has_half() { return HAS_HALF; }
extern "C" int lanes_op_bytes() { return sizeof(Op); }

// images: (image, channel, row, column), the first operation's input; scores: (image, class)
extern "C" void lanes_forward(const Net *handed, const float *images, float *scores) {
    const Net &net = *handed;
    const Op &last = net.ops[net.num_ops - 1];
    for (int i = 0; i < net.num_ops; i++)
        if (net.ops[i].kind == CONVOLUTION) pack_both(net.ops[i]);
    for (int start = 0, end; start < net.num_ops; start = end) {
        end = start + 1;
        while (end < net.num_ops && net.ops[end].kind != NORM) end++;
        each_block(net, [&](int block) {
            size_t size = net.ops[0].in_size();
            if (!start) gather(net, block, images, size, (V *)net.ops[0].in + size * block);
            for (int i = start; i < end; i++) forward_op(net, i, block);
            if (end < net.num_ops)
                norm_sums(net, net.ops[end], block);
            else
                scatter(net, block, last.out + last.size() * block, last.size(), scores);
        });
        if (end < net.num_ops) norm_settle(net, net.ops[end]);
    }
}

extern "C" void lanes_backward(const Net *handed, const float *score_gradients) {
    const Net &net = *handed;
    const Op &last = net.ops[net.num_ops - 1];
    for (int end = net.num_ops, start; end > 0; end = start) {  // ops start .. end - 1
        start = end - 1;
        while (start > 0 && net.ops[start].kind != NORM) start--;
        bool norm = net.ops[start].kind == NORM;  // waits for the sums of all blocks
        each_block(net, [&](int block) {
            auto gradient = [&](int i) {  // of the output of operation i
                return net.gradients[i & 1] + net.gradient_size * block;
            };
            if (end == net.num_ops)
                gather(net, block, score_gradients, last.size(), gradient(end - 1));
            else
                backward_op(net, end, block, gradient(end), gradient(end - 1));
            for (int i = end - 1; i >= start; i--) {
                collect(net.ops[i], block, gradient(i));
                if (i > start || !norm) backward_op(net, i, block, gradient(i), gradient(i + 1));
            }
            if (norm) norm_backward_sums(net, start, block, gradient(start));
        });
        if (norm) norm_backward_settle(net, net.ops[start]);
    }
    for (int i = 0; i < net.num_ops; i++) {
        const Op &op = net.ops[i];
        if (op.kind != CONVOLUTION) continue;
        std::fill_n(op.weight_grad, op.weights(), 0.f);
        if (op.bias_grad) std::fill_n(op.bias_grad, op.outputs, 0.f);
        for (int b = 0; b < net.blocks; b++) {
            const float *part = op.partial + (op.weights() + op.outputs) * b;
            for (size_t e = 0; e < op.weights(); e++) op.weight_grad[e] += part[e];
            for (int c = 0; op.bias_grad && c < op.outputs; c++)
                op.bias_grad[c] += part[op.weights() + c];
        }
    }
}
