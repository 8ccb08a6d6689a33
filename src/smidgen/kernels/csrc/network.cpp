// The forward and backward pass of a whole network for one batch.
//
// The batch is split into blocks of VECTOR_WIDTH images, one in each element of a vector; an
// activation is (block, channel, row, column) of vectors. A batch norm needs the sums of all blocks;
// between two batch norms each block runs through all operations while it is in the cache. Sums over
// blocks are taken in their order, so the number of threads does not change a bit of the result. All
// memory comes from the caller: nothing here allocates.
#include "layers.hpp"
#if defined(_OPENMP)
#include <omp.h>
#endif

static void forward_operation(const Network &net, int index, int block, const Scratch &scratch) {
    const Operation &op = net.ops[index];
    const Vec *in = op.input + op.in_size() * block;
    Vec *out = op.output + op.size() * block;
    switch (op.kind) {
    case CONVOLUTION:
        convolve_packed(forward_shape(op), padded_input(op, in, scratch.padded), out, op.packed,
                        op.bias, op.relu, scratch.pairs);
        break;
    case NORM:
    case POINTWISE: pointwise_forward(net, index, block, in, out); break;
    case ADDITION: {
        const Vec *addend = op.addend + op.size() * block;
        for (size_t e = 0; e < op.size(); e++) out[e] = in[e] + addend[e];
        break;
    }
    case MAX_POOL: pool_forward<true>(op, in, out); break;
    case AVERAGE_POOL: pool_forward<false>(op, in, out); break;
    }
}

// Whether a batch norm also takes its gradient back through the ReLU of the convolution before it:
// it has read that ReLU's output anyway, which saves a pass over memory.
static bool norm_includes_relu(const Network &net, int index) {
    const Operation &before = net.ops[index - 1];
    return net.ops[index].kind == NORM && before.kind == CONVOLUTION && before.relu &&
           !before.skip_gradient;
}

// From g, the gradient of an operation's output, to g_in, that of its input; g may be overwritten.
static void backward_operation(const Network &net, int index, int block, Vec *g, Vec *g_in,
                               const Scratch &scratch) {
    const Operation &op = net.ops[index];
    const Vec *in = op.input + op.in_size() * block, *out = op.output + op.size() * block;
    switch (op.kind) {
    case CONVOLUTION: {
        bool through_relu = index + 1 < net.num_ops && norm_includes_relu(net, index + 1);
        convolution_backward(op, block, in, out, g, index ? g_in : nullptr, through_relu, scratch);
        break;
    }
    case NORM: norm_backward(net, op, block, in, g, g_in, norm_includes_relu(net, index)); break;
    case POINTWISE: {
        Dropout dropout(net, index, block);
        for (size_t e = 0; e < op.size(); e++) g_in[e] = dropout.backward(g[e], out[e], op.relu, e);
        break;
    }
    case ADDITION:
        std::copy_n(g, op.size(), g_in);
        if (op.addend_gradient) std::copy_n(g, op.size(), op.addend_gradient + op.size() * block);
        break;
    case MAX_POOL: pool_backward<true>(op, in, out, g, g_in); break;
    case AVERAGE_POOL: pool_backward<false>(op, in, out, g, g_in); break;
    }
}

static void add_skip_gradient(const Operation &op, int block, Vec *g) {
    if (op.skip_gradient)
        for (size_t e = 0; e < op.size(); e++) g[e] += op.skip_gradient[op.size() * block + e];
}

static Scratch scratch_of_this_thread(const Network &net, const ScratchSizes &sizes) {
    int thread = 0;
#if defined(_OPENMP)
    thread = omp_get_thread_num();
#endif
    Vec *start = net.scratch + sizes.total() * thread;
    Scratch scratch;
    scratch.padded = {start, sizes.padded};
    scratch.pairs = {scratch.padded.start + sizes.padded, sizes.pairs};
    scratch.rows = {scratch.pairs.start + sizes.pairs, sizes.rows};
    scratch.sums = {scratch.rows.start + sizes.rows, sizes.sums};
    return scratch;
}

template <typename F> static void for_each_block(const Network &net, F run) {
    const ScratchSizes sizes = scratch_sizes(net);
#pragma omp parallel num_threads(net.threads) if (net.threads > 1)
    {
        const Scratch scratch = scratch_of_this_thread(net, sizes);
#pragma omp for schedule(static)
        for (int block = 0; block < net.blocks; block++) run(block, scratch);
    }
}

// From rows of floats, one for each image, to a block of vectors; absent images are 0.
static void read_block(const Network &net, int block, const float *from, size_t size, Vec *to) {
    for (size_t e = 0; e < size; e++) {
        Vec v = {};
        for (int i = 0; i < net.num_present(block); i++)
            v[i] = from[(block * VECTOR_WIDTH + i) * size + e];
        to[e] = v;
    }
}

static void write_block(const Network &net, int block, const Vec *from, size_t size, float *to) {
    for (int i = 0; i < net.num_present(block); i++)
        for (size_t e = 0; e < size; e++) to[(block * VECTOR_WIDTH + i) * size + e] = from[e][i];
}

extern "C" int32_t smidgen_vector_width() { return VECTOR_WIDTH; }
extern "C" int32_t smidgen_has_bfloat16() { return HAS_BFLOAT16; }

// Floats of scratch memory that each thread needs.
extern "C" int64_t smidgen_scratch_floats(const Network *net) {
    return scratch_sizes(*net).total() * VECTOR_WIDTH;
}

// images: (image, channel, row, column), the first operation's input; scores: (image, class)
extern "C" void smidgen_forward(const Network *network, const float *images, float *scores) {
    const Network &net = *network;
    const Operation &last = net.ops[net.num_ops - 1];
    for (int i = 0; i < net.num_ops; i++)
        if (net.ops[i].kind == CONVOLUTION) pack_weights(net.ops[i]);
    for (int start = 0, end; start < net.num_ops; start = end) {
        end = start + 1;
        while (end < net.num_ops && net.ops[end].kind != NORM) end++;
        for_each_block(net, [&](int block, const Scratch &scratch) {
            size_t size = net.ops[0].in_size();
            if (!start)
                read_block(net, block, images, size, (Vec *)net.ops[0].input + size * block);
            for (int i = start; i < end; i++) forward_operation(net, i, block, scratch);
            if (end < net.num_ops)
                norm_block_sums(net, net.ops[end], block);
            else
                write_block(net, block, last.output + last.size() * block, last.size(), scores);
        });
        if (end < net.num_ops) norm_statistics(net, net.ops[end]);
    }
}

// Adds up what each block has contributed to the gradients of a convolution's weights and bias.
static void sum_partial_gradients(const Network &net, const Operation &op) {
    std::fill_n(op.weight_grad, op.weights(), 0.f);
    if (op.bias_grad) std::fill_n(op.bias_grad, op.outputs, 0.f);
    for (int b = 0; b < net.blocks; b++) {
        const float *partial = op.partial + (op.weights() + op.outputs) * b;
        for (size_t e = 0; e < op.weights(); e++) op.weight_grad[e] += partial[e];
        for (int c = 0; op.bias_grad && c < op.outputs; c++)
            op.bias_grad[c] += partial[op.weights() + c];
    }
}

extern "C" void smidgen_backward(const Network *network, const float *score_gradients) {
    const Network &net = *network;
    const Operation &last = net.ops[net.num_ops - 1];
    for (int end = net.num_ops, start; end > 0; end = start) { // operations start .. end - 1
        start = end - 1;
        while (start > 0 && net.ops[start].kind != NORM) start--;
        bool norm = net.ops[start].kind == NORM; // needs the sums of all blocks
        for_each_block(net, [&](int block, const Scratch &scratch) {
            auto gradient = [&](int i) { // of the output of operation i
                return net.gradients[i & 1] + net.gradient_size * block;
            };
            if (end == net.num_ops)
                read_block(net, block, score_gradients, last.size(), gradient(end - 1));
            else
                backward_operation(net, end, block, gradient(end), gradient(end - 1), scratch);
            for (int i = end - 1; i >= start; i--) {
                add_skip_gradient(net.ops[i], block, gradient(i));
                if (i > start || !norm)
                    backward_operation(net, i, block, gradient(i), gradient(i + 1), scratch);
            }
            if (norm) norm_backward_block_sums(net, start, block, gradient(start));
        });
        if (norm) norm_backward_statistics(net, net.ops[start]);
    }
    for (int i = 0; i < net.num_ops; i++)
        if (net.ops[i].kind == CONVOLUTION) sum_partial_gradients(net, net.ops[i]);
}

// The dropout mask of operation `index` in the latest forward pass, 1 where a value was kept:
// (image, element) of its output.
extern "C" void smidgen_dropout_mask(const Network *net, int32_t index, uint8_t *mask) {
    int size = net->ops[index].size();
    for (int block = 0; block < net->blocks; block++) {
        Dropout dropout(*net, index, block);
        for (int e = 0; e < size; e++) {
            Mask passing = dropout.passing(e);
            for (int i = 0; i < net->num_present(block); i++)
                mask[(size_t)(block * VECTOR_WIDTH + i) * size + e] = passing[i] != 0;
        }
    }
}

// One draw of the dropout's generator, for the published test vectors.
extern "C" void smidgen_philox(const uint32_t counter[4], const uint32_t key[2],
                               uint32_t words[4]) {
    UVec zero = {};
    auto drawn =
        philox({zero + counter[0], zero + counter[1], zero + counter[2], zero + counter[3]}, key[0],
               key[1]);
    for (int i = 0; i < 4; i++) words[i] = drawn[i][VECTOR_WIDTH - 1];
}
