// Vectors of LANES floats, each lane another image, and the room that kernels work in.
//
// GCC's and Clang's vector extension turns + - * < into whatever the processor has, so the same
// source serves AVX-512 (16 lanes), AVX2 (8) and NEON (4).
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

#if defined(LANES_WIDTH)  // the tests try the narrower ones, too
constexpr int LANES = LANES_WIDTH;
#elif defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__ARM_NEON)
constexpr int LANES = 4;
#else
constexpr int LANES = 8;
#endif

#if defined(__AVX512F__) || defined(__ARM_NEON)
constexpr int REGISTERS = 32;
#else
constexpr int REGISTERS = 16;
#endif

typedef float V __attribute__((vector_size(LANES * 4)));
typedef int32_t Mask __attribute__((vector_size(LANES * 4)));  // -1 where true, 0 where not
typedef uint32_t Words __attribute__((vector_size(LANES * 4)));

static inline V fill(float x) { return x - V{}; }  // 0 + x would cost an addition, for -0's sake

// Keeps v in a register. Otherwise GCC reads it again from memory in each multiply-add that uses
// it, and loads, of which a processor does no more than two at a time, become the limit.
static inline V held(V v) {
#if defined(__x86_64__)
    asm("" : "+v"(v));
#elif defined(__aarch64__)
    asm("" : "+w"(v));
#endif
    return v;
}

static inline V where(Mask keep, V v) { return (V)((Mask)v & keep); }  // 0 elsewhere

static inline V relu(V v) { return where(~(Mask)(v < V{}), v); }  // NaN stays, as in torch

static inline float total(V v) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

// Memory for one use at a time, which grows to the most that was asked for.
class Room {
  public:
    ~Room() { release(); }

    template <typename T> T *of(size_t count) {
        size_t bytes = count * sizeof(T) + 2 * sizeof(V);  // kernels may read a vector too far
        if (bytes > size) {
            release();
            start = ::operator new(bytes, std::align_val_t{64});
            size = bytes;
        }
        return static_cast<T *>(start);
    }

  private:
    void release() {
        if (start) ::operator delete(start, std::align_val_t{64});
        start = nullptr;
    }
    void *start = nullptr;
    size_t size = 0;
};
