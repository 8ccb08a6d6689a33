// Vectors of VECTOR_WIDTH floats: each element belongs to another image of the batch.
//
// GCC's and Clang's vector extension compiles + - * < to the processor's own instructions, so one
// source serves AVX-512 (16 floats), AVX2 (8) and NEON (4).
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(FORCED_VECTOR_WIDTH) // the tests also compile for narrower vectors
constexpr int VECTOR_WIDTH = FORCED_VECTOR_WIDTH;
#elif defined(__AVX512F__)
constexpr int VECTOR_WIDTH = 16;
#elif defined(__ARM_NEON)
constexpr int VECTOR_WIDTH = 4;
#else
constexpr int VECTOR_WIDTH = 8;
#endif

#if defined(__AVX512F__) && (!defined(FORCED_VECTOR_WIDTH) || FORCED_VECTOR_WIDTH == 16)
#include <immintrin.h>
#define USE_AVX512
#endif

#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

typedef float Vec __attribute__((vector_size(VECTOR_WIDTH * 4)));
typedef int32_t Mask __attribute__((vector_size(VECTOR_WIDTH * 4))); // -1 is true, 0 is false
typedef uint32_t UVec __attribute__((vector_size(VECTOR_WIDTH * 4)));

static inline Vec broadcast(float x) { return x - Vec{}; } // 0 + x would add, to turn -0 into 0

// Keeps v in a register. GCC otherwise reads it from memory again for each multiply-add that uses
// it, and a processor does no more than two loads at a time.
static inline Vec in_register(Vec v) {
#if defined(__x86_64__)
    asm("" : "+v"(v));
#elif defined(__aarch64__)
    asm("" : "+w"(v));
#endif
    return v;
}

static inline Vec select(Mask mask, Vec v) { return (Vec)((Mask)v & mask); } // 0 elsewhere

static inline Vec relu(Vec v) { return select(~(Mask)(v < Vec{}), v); } // keeps NaN, as torch does

static inline float sum_of(Vec v) {
    float sum = 0;
    for (int i = 0; i < VECTOR_WIDTH; i++) sum += v[i];
    return sum;
}

// A piece of memory that the caller has allocated, with room for `capacity` vectors.
struct Buffer {
    Vec *start;
    size_t capacity;

    // Room for `count` elements; kernels may read up to two vectors past the end.
    template <typename T> T *of(size_t count) const {
        if (count * sizeof(T) > capacity * sizeof(Vec)) std::abort(); // a bug in the sizes
        return reinterpret_cast<T *>(start);
    }
};
