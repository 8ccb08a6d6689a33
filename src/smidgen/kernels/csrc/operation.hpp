// The structures that Python passes, and the table of their fields that it checks its own against.
#pragma once
#include "fields.hpp"
#include "vectors.hpp"

enum Kind : int32_t { CONVOLUTION, NORM, MAX_POOL, AVERAGE_POOL, ADDITION, POINTWISE };

// One operation of the network; the same fields, in the same order, as _Operation in autograd.py.
struct Operation {
    int32_t kind, inputs, in_height, in_width, outputs, height, width;
    int32_t kernel_y, kernel_x, pad_y, pad_x, stride, groups;
    int32_t relu, whole_channels, bfloat16;
    float dropout, eps, momentum;
    const Vec *input, *addend; // ADDITION: the other tensor
    Vec *output;
    Vec *skip_gradient;   // the gradient that a later ADDITION returns to this output, or null
    Vec *addend_gradient; // ADDITION: the same memory, of the operation whose output it adds
    const float *weight, *bias;
    float *weight_grad, *bias_grad, *running_mean, *running_var;
    double *sums;   // NORM: two for each block and channel
    float *factors; // NORM: six for each channel
    float *packed;  // CONVOLUTION: its weights for the forward pass, then for the backward pass
    float *partial; // CONVOLUTION: the gradients of weights and bias from each block

    int in_plane() const { return in_height * in_width; }
    int plane() const { return height * width; }
    size_t in_size() const { return (size_t)inputs * in_plane(); }
    size_t size() const { return (size_t)outputs * plane(); }
    size_t weights() const { return (size_t)outputs * (inputs / groups) * kernel_y * kernel_x; }
};

// The network with the memory for one batch; _Network in autograd.py.
struct Network {
    int32_t num_ops, blocks, images, threads;
    Operation *ops;
    Vec *gradients[2]; // of the current activation and of the next, alternating
    int64_t gradient_size;
    Vec *scratch;      // for each thread as much as smidgen_scratch_floats says
    uint32_t seeds[2]; // of the dropout masks

    int num_present(int block) const { // images in a block; the last one may be partly empty
        return std::min(VECTOR_WIDTH, images - block * VECTOR_WIDTH);
    }

    Mask present(int block) const {
        Mask mask;
        for (int i = 0; i < VECTOR_WIDTH; i++) mask[i] = i < num_present(block) ? -1 : 0;
        return mask;
    }
};

extern "C" const Field *smidgen_operation_fields() {
    static const Field fields[] = {
        FIELD(Operation, kind),           FIELD(Operation, inputs),
        FIELD(Operation, in_height),      FIELD(Operation, in_width),
        FIELD(Operation, outputs),        FIELD(Operation, height),
        FIELD(Operation, width),          FIELD(Operation, kernel_y),
        FIELD(Operation, kernel_x),       FIELD(Operation, pad_y),
        FIELD(Operation, pad_x),          FIELD(Operation, stride),
        FIELD(Operation, groups),         FIELD(Operation, relu),
        FIELD(Operation, whole_channels), FIELD(Operation, bfloat16),
        FIELD(Operation, dropout),        FIELD(Operation, eps),
        FIELD(Operation, momentum),       FIELD(Operation, input),
        FIELD(Operation, addend),         FIELD(Operation, output),
        FIELD(Operation, skip_gradient),  FIELD(Operation, addend_gradient),
        FIELD(Operation, weight),         FIELD(Operation, bias),
        FIELD(Operation, weight_grad),    FIELD(Operation, bias_grad),
        FIELD(Operation, running_mean),   FIELD(Operation, running_var),
        FIELD(Operation, sums),           FIELD(Operation, factors),
        FIELD(Operation, packed),         FIELD(Operation, partial),
        {nullptr, 0, sizeof(Operation)},
    };
    return fields;
}

extern "C" const Field *smidgen_network_fields() {
    static const Field fields[] = {
        FIELD(Network, num_ops),       FIELD(Network, blocks),  FIELD(Network, images),
        FIELD(Network, threads),       FIELD(Network, ops),     FIELD(Network, gradients),
        FIELD(Network, gradient_size), FIELD(Network, scratch), FIELD(Network, seeds),
        {nullptr, 0, sizeof(Network)},
    };
    return fields;
}
