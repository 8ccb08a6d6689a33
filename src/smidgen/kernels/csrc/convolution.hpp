// Convolution of one block of images, and its gradients: nearly all of the time is spent here.
//
// Activations are (channel, row, column) of vectors. All images share a weight, so one
// multiply-add computes a tap for all images of the block, and nothing is shuffled.
#pragma once
#include "operation.hpp"
#include <type_traits>

#if defined(__AVX512BF16__) && defined(USE_AVX512)
#define USE_BFLOAT16
constexpr bool HAS_BFLOAT16 = true;
#else
constexpr bool HAS_BFLOAT16 = false;
#endif

// Sizes of a convolution of input that is already padded.
struct ConvShape {
    int inputs, height, width;  // input channels of one group, and their size
    int outputs, rows, columns; // output channels of one group, and their size
    int kernel_y, kernel_x, stride, groups;
    bool bfloat16; // bfloat16 products, float32 sums

    int taps() const { return kernel_y * kernel_x; }
};

// ---- bfloat16: each 32-bit element of a vector holds a pair of values
typedef uint16_t BVec __attribute__((vector_size(VECTOR_WIDTH * 2)));

static inline BVec to_bfloat16(Vec v) {
#if defined(USE_BFLOAT16)
    return (BVec)_mm512_cvtneps_pbh((__m512)v);
#else
    UVec bits = (UVec)v;
    return __builtin_convertvector((bits + 0x7fff + (bits >> 16 & 1)) >> 16, BVec);
#endif
}

static inline float bfloat16_pair(float low, float high) {
    UVec bits = __builtin_convertvector(to_bfloat16(broadcast(low)), UVec) |
                __builtin_convertvector(to_bfloat16(broadcast(high)), UVec) << 16;
    return ((Vec)bits)[0];
}

template <bool BF16> static inline Vec multiply_add(Vec sum, Vec a, Vec b) {
#if defined(USE_BFLOAT16)
    if constexpr (BF16) return (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#endif
    return sum + a * b;
}

// Pairs of channels, two bfloat16 in each element; the last channel may be without a partner.
static const Vec *channel_pairs(const Vec *in, int channels, int plane, const Buffer &buffer) {
    Vec *pairs = buffer.of<Vec>((size_t)(channels + 1) / 2 * plane);
    for (int c = 0; c < channels; c += 2)
        for (int e = 0; e < plane; e++) {
            UVec bits = __builtin_convertvector(to_bfloat16(in[(size_t)c * plane + e]), UVec);
            if (c + 1 < channels) {
                BVec high = to_bfloat16(in[(size_t)(c + 1) * plane + e]);
                bits |= __builtin_convertvector(high, UVec) << 16;
            }
            pairs[(size_t)c / 2 * plane + e] = (Vec)bits;
        }
    return pairs;
}

// The rows of `in` as bfloat16, each padded with zeros to `stride`, an even number of pixels.
static const BVec *bfloat16_rows(const Vec *in, int rows, int columns, int stride,
                                 const Buffer &buffer) {
    BVec *out = buffer.of<BVec>((size_t)rows * stride + 4);
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < stride; x++)
            out[(size_t)y * stride + x] =
                x < columns ? to_bfloat16(in[(size_t)y * columns + x]) : BVec{};
    std::fill_n(out + (size_t)rows * stride, 4, BVec{});
    return out;
}

// ---- forward: sums of OUTPUTS channels x COLUMNS pixels stay in registers
constexpr int MOST_OUTPUTS = REGISTERS == 32 ? 8 : 4, MOST_COLUMNS = 8, MOST_TAPS = 5;

template <int A, int B> constexpr bool fits = A * B + B + 1 <= REGISTERS;

template <int OUTPUTS, int COLUMNS, bool BF16>
static void tile(const ConvShape &shape, const Vec *in, Vec *out, const float *weights,
                 const float *bias, bool rectify) {
    for (int y = 0; y < shape.rows; y++)
        for (int x = 0; x < shape.columns; x += COLUMNS) {
            int left =
                std::min(x, shape.columns - COLUMNS); // the last tile may recompute some pixels
            Vec sum[OUTPUTS][COLUMNS];
            for (int o = 0; o < OUTPUTS; o++)
                for (int j = 0; j < COLUMNS; j++) sum[o][j] = broadcast(bias ? bias[o] : 0.f);
            const float *weight = weights;
            for (int c = 0; c < shape.inputs; c++)
                for (int dy = 0; dy < shape.kernel_y; dy++) {
                    const Vec *row =
                        in + (size_t)(c * shape.height + y * shape.stride + dy) * shape.width +
                        left * shape.stride;
                    for (int dx = 0; dx < shape.kernel_x; dx++, weight += OUTPUTS) {
                        Vec pixel[COLUMNS];
                        for (int j = 0; j < COLUMNS; j++) pixel[j] = row[dx + j * shape.stride];
                        for (int o = 0; o < OUTPUTS; o++) {
                            Vec f = broadcast(weight[o]);
                            for (int j = 0; j < COLUMNS; j++)
                                sum[o][j] = multiply_add<BF16>(sum[o][j], f, pixel[j]);
                        }
                    }
                }
            for (int o = 0; o < OUTPUTS; o++)
                for (int j = 0; j < COLUMNS; j++)
                    out[(o * shape.rows + y) * shape.columns + left + j] =
                        rectify ? relu(sum[o][j]) : sum[o][j];
        }
}

using Tile = void (*)(const ConvShape &, const Vec *, Vec *, const float *, const float *, bool);

template <int OUTPUTS, int COLUMNS, bool BF16> constexpr Tile tile_that_fits() {
    if constexpr (fits<OUTPUTS, COLUMNS>) return tile<OUTPUTS, COLUMNS, BF16>;
    return nullptr;
}

template <bool BF16, size_t... I> constexpr auto all_tiles(std::index_sequence<I...>) {
    return std::array<Tile, sizeof...(I)>{
        tile_that_fits<I / MOST_COLUMNS + 1, I % MOST_COLUMNS + 1, BF16>()...};
}

constexpr auto TILE_INDICES = std::make_index_sequence<MOST_OUTPUTS * MOST_COLUMNS>{};
static const std::array<Tile, TILE_INDICES.size()> TILE[2] = {
    all_tiles<false>(TILE_INDICES), all_tiles<HAS_BFLOAT16>(TILE_INDICES)};

// The size of nearly equal chunks of channels, none larger than `most`.
static int balanced_chunk(int channels, int most) {
    int parts = (channels + most - 1) / most;
    return (channels + parts - 1) / parts;
}

// The fastest tile for a row of `outputs` channels by an estimate of multiply-adds, loads, and (with
// few sums) waiting for the previous multiply-add.
static Tile best_tile(const ConvShape &shape, int outputs) {
    double least = INFINITY;
    Tile best = nullptr;
    for (int columns = 1; columns <= std::min(MOST_COLUMNS, shape.columns); columns++) {
        Tile tile = TILE[shape.bfloat16][(outputs - 1) * MOST_COLUMNS + columns - 1];
        int tiles = (shape.columns + columns - 1) / columns, sums = outputs * columns;
        double wait = std::max(0.0, 4 - sums * 0.5);
        double cost = tiles * (1 + sums * 0.5 + (outputs + columns) * 0.25 + wait);
        if (tile && cost < least) least = cost, best = tile;
    }
    return best;
}

static void convolve(const ConvShape &shape, const Vec *in, Vec *out, const float *weights,
                     const float *bias, bool rectify) {
    int chunk = balanced_chunk(shape.outputs, MOST_OUTPUTS);
    size_t read = (size_t)shape.inputs * shape.height * shape.width,
           plane = (size_t)shape.rows * shape.columns;
    for (int g = 0; g < shape.groups; g++)
        for (int o = 0; o < shape.outputs; o += chunk) {
            int outputs = std::min(chunk, shape.outputs - o), at = g * shape.outputs + o;
            best_tile(shape, outputs)(shape, in + read * g, out + plane * at,
                                      weights + (size_t)at * shape.inputs * shape.taps(),
                                      bias ? bias + at : nullptr, rectify);
        }
}

// The weights in the order in which tiles read them; `weight(group, output, input, tap)` gives one.
template <typename F> static void pack(float *packed, int groups, int outputs, int inputs, int taps,
                                       bool bfloat16, F weight) {
    int chunk = balanced_chunk(outputs, MOST_OUTPUTS);
    for (int g = 0; g < groups; g++)
        for (int from = 0; from < outputs; from += chunk)
            for (int c = 0; c < inputs; c += bfloat16 ? 2 : 1)
                for (int t = 0; t < taps; t++)
                    for (int o = from; o < std::min(from + chunk, outputs); o++) {
                        float low = weight(g, o, c, t);
                        float high = bfloat16 && c + 1 < inputs ? weight(g, o, c + 1, t) : 0.f;
                        *packed++ = bfloat16 ? bfloat16_pair(low, high) : low;
                    }
}

// ---- weight gradient: sums of OUTPUTS channels x TAPS stay in registers for several rows
struct Strides {
    int output, tap;         // to the next output channel in g, to the next tap in `in`
    int columns, column;     // of g's row; the step in `in` for one column of g
    int rows, g_row, in_row; // how many, and the steps to the next
};

template <bool BF16> using Element = std::conditional_t<BF16, BVec, Vec>;

template <int OUTPUTS, int TAPS, bool BF16>
static void taps(const Strides &s, const Element<BF16> *g, const Element<BF16> *in, Vec *sums) {
    constexpr int STEP = BF16 ? 2 : 1; // pixels in a vector
    auto load = [](const Element<BF16> *from) {
        Vec v;
        std::memcpy(&v, from, sizeof v);
        return v;
    };
    Vec sum[OUTPUTS][TAPS];
    for (int o = 0; o < OUTPUTS; o++)
        for (int j = 0; j < TAPS; j++) sum[o][j] = sums[o * TAPS + j];
    for (int y = 0; y < s.rows; y++, g += s.g_row, in += s.in_row)
        for (int x = 0; x < s.columns; x += STEP) {
            Vec pixel[TAPS];
            for (int j = 0; j < TAPS; j++) pixel[j] = load(in + x * s.column + j * s.tap);
            for (int o = 0; o < OUTPUTS; o++) {
                Vec f = in_register(load(g + (size_t)o * s.output + x));
                for (int j = 0; j < TAPS; j++)
                    sum[o][j] = multiply_add<BF16>(sum[o][j], f, pixel[j]);
            }
        }
    for (int o = 0; o < OUTPUTS; o++)
        for (int j = 0; j < TAPS; j++) sums[o * TAPS + j] = sum[o][j];
}

template <bool BF16>
using Taps = void (*)(const Strides &, const Element<BF16> *, const Element<BF16> *, Vec *);

template <int OUTPUTS, int TAPS, bool BF16> constexpr Taps<BF16> taps_that_fit() {
    if constexpr (fits<OUTPUTS, TAPS>) return taps<OUTPUTS, TAPS, BF16>;
    return nullptr;
}

template <bool BF16, size_t... I> constexpr auto all_taps(std::index_sequence<I...>) {
    return std::array<Taps<BF16>, sizeof...(I)>{
        taps_that_fit<I / MOST_TAPS + 1, I % MOST_TAPS + 1, BF16>()...};
}

// The gradient of one group's weights, (output, input, tap), from its g and its padded `in`.
//
// The taps of a row of the kernel are computed together; if the kernel is a single pixel, those of
// neighboring input channels are, and a plane is a single row. The sums of all taps are in `buffer`,
// and a few rows of g, which stay in the cache, contribute to all of them before the next rows do.
template <bool BF16> static void weight_gradient(const ConvShape &shape, const Element<BF16> *g,
                                                 const Element<BF16> *in, int g_width, int in_width,
                                                 float *result, const Buffer &buffer) {
    static const auto TAP = all_taps<BF16>(std::make_index_sequence<MOST_OUTPUTS * MOST_TAPS>{});
    constexpr int BAND = BF16 ? 4 : 2, CHUNK = 64; // rows, or pixels of a single row
    bool flat = shape.taps() == 1 && shape.stride == 1;
    int taps = flat ? shape.inputs : shape.kernel_x, widest = std::min(taps, flat ? 3 : MOST_TAPS);
    int rows = flat ? 1 : shape.rows, columns = flat ? shape.rows * shape.columns : shape.columns;
    int g_plane = rows * g_width, in_plane = (flat ? 1 : shape.height) * in_width;
    int most = std::max(1, std::min(MOST_OUTPUTS, (REGISTERS - 1) / widest - 1));
    int chunk = balanced_chunk(shape.outputs, most),
        lines = flat ? 1 : shape.inputs * shape.kernel_y;
    Vec *sums = buffer.of<Vec>((size_t)chunk * shape.inputs * shape.taps());
    for (int from = 0; from < shape.outputs; from += chunk) {
        int outputs = std::min(chunk, shape.outputs - from);
        std::fill_n(sums, (size_t)outputs * shape.inputs * shape.taps(), Vec{});
        auto each = [&](auto visit) { // the kernel's lines, in pieces of at most `widest` taps
            Vec *sum = sums;
            for (int line = 0; line < lines; line++)
                for (int t = 0; t < taps; t += widest) {
                    int piece = std::min(widest, taps - t);
                    visit(line, t, piece, sum);
                    sum += outputs * piece;
                }
        };
        for (int y = 0; y < rows; y += BAND)
            for (int x = 0; x < columns; x += flat ? CHUNK : columns)
                each([&](int line, int t, int piece, Vec *sum) {
                    int length = flat ? std::min(CHUNK, columns - x) : columns;
                    int c = line / shape.kernel_y, dy = line % shape.kernel_y;
                    size_t at = flat
                                    ? (size_t)t * in_plane + x
                                    : (size_t)c * in_plane + (y * shape.stride + dy) * in_width + t;
                    Strides s{g_plane,
                              flat ? in_plane : 1,
                              length,
                              shape.stride,
                              std::min(BAND, rows - y),
                              g_width,
                              shape.stride * in_width};
                    TAP[(outputs - 1) * MOST_TAPS + piece - 1](
                        s, g + (size_t)from * g_plane + y * g_width + x, in + at, sum);
                });
        each([&](int line, int t, int piece, Vec *sum) {
            for (int o = 0; o < outputs; o++)
                for (int j = 0; j < piece; j++)
                    result[((size_t)(from + o) * lines + line) * taps + t + j] = sum_of(*sum++);
        });
    }
}
