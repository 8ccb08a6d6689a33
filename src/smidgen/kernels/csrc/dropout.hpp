// Dropout masks from a counter-based generator: nothing need be stored for the backward pass.
//
// Philox 4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3, 2011).
// A mask depends on seeds, image, element and operation only: it is the same on any processor, for
// any vector width and number of threads.
#pragma once
#include "operation.hpp"

// The 64-bit products of 32-bit numbers, in two halves.
static inline void multiply(UVec a, uint32_t factor, UVec &high, UVec &low) {
#if defined(USE_AVX512)
    __m512i factors = _mm512_set1_epi32(factor);
    __m512i even = _mm512_mul_epu32((__m512i)a, factors);
    __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)a, 32), factors);
    high = (UVec)_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    low = a * factor;
#else
    typedef uint64_t Wide __attribute__((vector_size(VECTOR_WIDTH * 4)));
    const Wide mask = Wide{} + 0xffffffffu; // (little-endian, as all processors in question are)
    Wide even = ((Wide)a & mask) * factor, odd = ((Wide)a >> 32) * factor;
    high = (UVec)((even >> 32) | (odd & ~mask));
    low = (UVec)((even & mask) | (odd << 32));
#endif
}

static inline std::array<UVec, 4> philox(std::array<UVec, 4> counter, uint32_t key0,
                                         uint32_t key1) {
    auto [a, b, c, d] = counter;
    for (int round = 0; round < 10; round++) {
        UVec high0, low0, high1, low1;
        multiply(a, 0xD2511F53u, high0, low0);
        multiply(c, 0xCD9E8D57u, high1, low1);
        a = high1 ^ b ^ key0, b = low1;
        c = high0 ^ d ^ key1, d = low0;
        key0 += 0x9E3779B9u, key1 += 0xBB67AE85u;
    }
    return {a, b, c, d};
}

// Dropout of the output of operation `index`, for one block of images.
class Dropout {
  public:
    const bool active;

    Dropout(const Network &net, int index, int block)
        : active(net.ops[index].dropout > 0), whole_channels(net.ops[index].whole_channels),
          plane(net.ops[index].plane()), index(index), seeds{net.seeds[0], net.seeds[1]},
          threshold(std::lround(net.ops[index].dropout * 65536.0)),
          scale(1 / (1 - net.ops[index].dropout)) {
        for (int i = 0; i < VECTOR_WIDTH; i++) image[i] = block * VECTOR_WIDTH + i;
    }

    Vec forward(Vec v, int element) { return active ? select(passing(element), v * scale) : v; }

    // With a ReLU before it, what was dropped shows in the output: it is 0.
    Vec backward(Vec g, Vec out, bool relu, int element) {
        if (active) g *= scale;
        if (relu) return select((Mask)(out > Vec{}), g);
        return active ? select(passing(element), g) : g;
    }

    Mask passing(int element) {
        int drawn = whole_channels ? element / plane : element;
        if (drawn / DRAW != current) draw(drawn / DRAW);
        return masks[drawn % DRAW];
    }

  private:
    static constexpr int DRAW = 8; // elements for one draw: each of its words has 16 bits for two

    void draw(int number) {
        current = number;
        UVec zero = {};
        auto words = philox({image, zero + number, zero + index, zero}, seeds[0], seeds[1]);
        for (int i = 0; i < 4; i++) {
            masks[2 * i] = (Mask)((words[i] & 0xffff) >= threshold);
            masks[2 * i + 1] = (Mask)((words[i] >> 16) >= threshold);
        }
    }

    const bool whole_channels;
    const int plane, index;
    const uint32_t seeds[2], threshold;
    const float scale;
    UVec image;
    Mask masks[DRAW];
    int current = -1;
};
