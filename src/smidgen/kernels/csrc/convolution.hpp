// Convolution of one block of images, and its gradients: where nearly all of the time goes.
//
// A plane is (channel, row, column) of vectors. Nothing is shuffled: a weight is the same for all
// lanes, so one multiply-add does a tap for all images of the block.
#pragma once
#include "vectors.hpp"
#include <type_traits>

#if defined(__AVX512BF16__) && (!defined(LANES_WIDTH) || LANES_WIDTH == 16)
#include <immintrin.h>
#define LANES_HALF
constexpr bool HAS_HALF = true;
#else
constexpr bool HAS_HALF = false;
#endif

// The form of a convolution from planes that are padded already.
struct Window {
    int inputs, height, width;    // of what it reads, of one group
    int outputs, rows, columns;   // of what it writes, of one group
    int kernel_y, kernel_x, stride, groups;
    bool half;  // bfloat16 products, float32 sums

    int taps() const { return kernel_y * kernel_x; }
};

// ---- bfloat16: in each 32-bit place of a vector stands a pair of values
typedef uint16_t Pixel __attribute__((vector_size(LANES * 2)));  // bfloat16

static inline Pixel halved(V v) {
#if defined(LANES_HALF)
    return (Pixel)_mm512_cvtneps_pbh((__m512)v);
#else
    Words bits = (Words)v;
    return __builtin_convertvector((bits + 0x7fff + (bits >> 16 & 1)) >> 16, Pixel);
#endif
}

static inline float paired(float low, float high) {
    Words bits = __builtin_convertvector(halved(fill(low)), Words) |
                 __builtin_convertvector(halved(fill(high)), Words) << 16;
    return ((V)bits)[0];
}

template <bool HALF> static inline V multiply_add(V sum, V a, V b) {
#if defined(LANES_HALF)
    if constexpr (HALF) return (V)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#endif
    return sum + a * b;
}

// Two planes as one, a pair of channels in each place; the last may be alone.
static const V *channel_pairs(const V *in, int channels, int plane, Room &room) {
    V *pairs = room.of<V>((size_t)(channels + 1) / 2 * plane);
    for (int c = 0; c < channels; c += 2)
        for (int e = 0; e < plane; e++) {
            Words bits = __builtin_convertvector(halved(in[(size_t)c * plane + e]), Words);
            if (c + 1 < channels) {
                Pixel high = halved(in[(size_t)(c + 1) * plane + e]);
                bits |= __builtin_convertvector(high, Words) << 16;
            }
            pairs[(size_t)c / 2 * plane + e] = (V)bits;
        }
    return pairs;
}

// The rows of `in`, each filled up with zeros to an even number of pixels.
static const Pixel *half_rows(const V *in, int rows, int columns, int stride, Room &room) {
    Pixel *out = room.of<Pixel>((size_t)rows * stride + 4);
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < stride; x++)
            out[(size_t)y * stride + x] =
                x < columns ? halved(in[(size_t)y * columns + x]) : Pixel{};
    std::fill_n(out + (size_t)rows * stride, 4, Pixel{});
    return out;
}

// ---- outputs: sums of OUTPUTS channels x COLUMNS pixels stay in registers
constexpr int MOST_OUTPUTS = REGISTERS == 32 ? 8 : 4, MOST_COLUMNS = 8, MOST_TAPS = 5;

template <int A, int B> constexpr bool fits = A * B + B + 1 <= REGISTERS;

template <int OUTPUTS, int COLUMNS, bool HALF>
static void tile(const Window &w, const V *in, V *out, const float *weights, const float *bias,
                 bool rectify) {
    for (int y = 0; y < w.rows; y++)
        for (int x = 0; x < w.columns; x += COLUMNS) {
            int left = std::min(x, w.columns - COLUMNS);  // the last one may do some again
            V sum[OUTPUTS][COLUMNS];
            for (int o = 0; o < OUTPUTS; o++)
                for (int j = 0; j < COLUMNS; j++) sum[o][j] = fill(bias ? bias[o] : 0.f);
            const float *weight = weights;
            for (int c = 0; c < w.inputs; c++)
                for (int dy = 0; dy < w.kernel_y; dy++) {
                    const V *row = in + (size_t)(c * w.height + y * w.stride + dy) * w.width +
                                   left * w.stride;
                    for (int dx = 0; dx < w.kernel_x; dx++, weight += OUTPUTS) {
                        V pixel[COLUMNS];
                        for (int j = 0; j < COLUMNS; j++) pixel[j] = row[dx + j * w.stride];
                        for (int o = 0; o < OUTPUTS; o++) {
                            V f = fill(weight[o]);
                            for (int j = 0; j < COLUMNS; j++)
                                sum[o][j] = multiply_add<HALF>(sum[o][j], f, pixel[j]);
                        }
                    }
                }
            for (int o = 0; o < OUTPUTS; o++)
                for (int j = 0; j < COLUMNS; j++)
                    out[(o * w.rows + y) * w.columns + left + j] =
                        rectify ? relu(sum[o][j]) : sum[o][j];
        }
}

using Tile = void (*)(const Window &, const V *, V *, const float *, const float *, bool);

template <int OUTPUTS, int COLUMNS, bool HALF> constexpr Tile tile_that_fits() {
    if constexpr (fits<OUTPUTS, COLUMNS>) return tile<OUTPUTS, COLUMNS, HALF>;
    return nullptr;
}

template <bool HALF, size_t... I> constexpr auto all_tiles(std::index_sequence<I...>) {
    return std::array<Tile, sizeof...(I)>{
        tile_that_fits<I / MOST_COLUMNS + 1, I % MOST_COLUMNS + 1, HALF>()...};
}

constexpr auto TILES = std::make_index_sequence<MOST_OUTPUTS * MOST_COLUMNS>{};
static const std::array<Tile, TILES.size()> TILE[2] = {all_tiles<false>(TILES),
                                                       all_tiles<HAS_HALF>(TILES)};

// Channels in parts of about one size, none larger than `most`.
static int part_of(int channels, int most) {
    int parts = (channels + most - 1) / most;
    return (channels + parts - 1) / parts;
}

// The tile for `outputs` channels that should take the least time for a row: multiply-adds, loads,
// and, where there are few sums, waiting for the one before.
static Tile best_tile(const Window &w, int outputs) {
    double least = INFINITY;
    Tile best = nullptr;
    for (int columns = 1; columns <= std::min(MOST_COLUMNS, w.columns); columns++) {
        Tile tile = TILE[w.half][(outputs - 1) * MOST_COLUMNS + columns - 1];
        int tiles = (w.columns + columns - 1) / columns, sums = outputs * columns;
        double wait = std::max(0.0, 4 - sums * 0.5);
        double cost = tiles * (1 + sums * 0.5 + (outputs + columns) * 0.25 + wait);
        if (tile && cost < least) least = cost, best = tile;
    }
    return best;
}

static void convolve(const Window &w, const V *in, V *out, const float *weights, const float *bias,
                     bool rectify) {
    int part = part_of(w.outputs, MOST_OUTPUTS);
    size_t read = (size_t)w.inputs * w.height * w.width, plane = (size_t)w.rows * w.columns;
    for (int g = 0; g < w.groups; g++)
        for (int o = 0; o < w.outputs; o += part) {
            int outputs = std::min(part, w.outputs - o), at = g * w.outputs + o;
            best_tile(w, outputs)(w, in + read * g, out + plane * at,
                                  weights + (size_t)at * w.inputs * w.taps(),
                                  bias ? bias + at : nullptr, rectify);
        }
}

// The weights in the order in which tiles read them; `weight(output, input, tap)` gives one.
template <typename F>
static void pack(float *packed, int groups, int outputs, int inputs, int taps, bool half,
                 F weight) {
    int part = part_of(outputs, MOST_OUTPUTS);
    for (int g = 0; g < groups; g++)
        for (int from = 0; from < outputs; from += part)
            for (int c = 0; c < inputs; c += half ? 2 : 1)
                for (int t = 0; t < taps; t++)
                    for (int o = from; o < std::min(from + part, outputs); o++) {
                        float low = weight(g, o, c, t);
                        float high = half && c + 1 < inputs ? weight(g, o, c + 1, t) : 0.f;
                        *packed++ = half ? paired(low, high) : low;
                    }
}

// ---- gradient of the weights: sums of OUTPUTS channels x TAPS stay in registers along some rows
struct Strides {
    int output, tap;          // to the next output channel in g, to the next tap in `in`
    int columns, column;      // of g's row; the step in `in` for one column of g
    int rows, g_row, in_row;  // how many, and the steps to the next
};

template <bool HALF> using Element = std::conditional_t<HALF, Pixel, V>;

template <int OUTPUTS, int TAPS, bool HALF>
static void taps(const Strides &s, const Element<HALF> *g, const Element<HALF> *in, V *sums) {
    constexpr int STEP = HALF ? 2 : 1;  // pixels in a vector
    auto load = [](const Element<HALF> *from) {
        V v;
        std::memcpy(&v, from, sizeof v);
        return v;
    };
    V sum[OUTPUTS][TAPS];
    for (int o = 0; o < OUTPUTS; o++)
        for (int j = 0; j < TAPS; j++) sum[o][j] = sums[o * TAPS + j];
    for (int y = 0; y < s.rows; y++, g += s.g_row, in += s.in_row)
        for (int x = 0; x < s.columns; x += STEP) {
            V pixel[TAPS];
            for (int j = 0; j < TAPS; j++) pixel[j] = load(in + x * s.column + j * s.tap);
            for (int o = 0; o < OUTPUTS; o++) {
                V f = held(load(g + (size_t)o * s.output + x));
                for (int j = 0; j < TAPS; j++)
                    sum[o][j] = multiply_add<HALF>(sum[o][j], f, pixel[j]);
            }
        }
    for (int o = 0; o < OUTPUTS; o++)
        for (int j = 0; j < TAPS; j++) sums[o * TAPS + j] = sum[o][j];
}

template <bool HALF>
using Taps = void (*)(const Strides &, const Element<HALF> *, const Element<HALF> *, V *);

template <int OUTPUTS, int TAPS, bool HALF> constexpr Taps<HALF> taps_that_fit() {
    if constexpr (fits<OUTPUTS, TAPS>) return taps<OUTPUTS, TAPS, HALF>;
    return nullptr;
}

template <bool HALF, size_t... I> constexpr auto all_taps(std::index_sequence<I...>) {
    return std::array<Taps<HALF>, sizeof...(I)>{
        taps_that_fit<I / MOST_TAPS + 1, I % MOST_TAPS + 1, HALF>()...};
}

// The gradient of one group's weights, (output, input, tap), from its g and its padded `in`.
//
// Taps of a row of the kernel go together; where the kernel is one pixel, those of neighbouring
// input channels do, and a plane is a single row. The sums of all taps stand in `room`, and a few
// rows of g go through all of them before the next: they stay in the cache.
template <bool HALF>
static void weight_gradient(const Window &w, const Element<HALF> *g, const Element<HALF> *in,
                            int g_width, int in_width, float *result, Room &room) {
    static const auto TAP = all_taps<HALF>(std::make_index_sequence<MOST_OUTPUTS * MOST_TAPS>{});
    constexpr int BAND = HALF ? 4 : 2, CHUNK = 64;  // rows, or pixels of a single row
    bool flat = w.taps() == 1 && w.stride == 1;
    int taps = flat ? w.inputs : w.kernel_x, widest = std::min(taps, flat ? 3 : MOST_TAPS);
    int rows = flat ? 1 : w.rows, columns = flat ? w.rows * w.columns : w.columns;
    int g_plane = rows * g_width, in_plane = (flat ? 1 : w.height) * in_width;
    int most = std::max(1, std::min(MOST_OUTPUTS, (REGISTERS - 1) / widest - 1));
    int part = part_of(w.outputs, most), lines = flat ? 1 : w.inputs * w.kernel_y;
    V *sums = room.of<V>((size_t)part * w.inputs * w.taps());
    for (int from = 0; from < w.outputs; from += part) {
        int outputs = std::min(part, w.outputs - from);
        std::fill_n(sums, (size_t)outputs * w.inputs * w.taps(), V{});
        auto each = [&](auto visit) {  // the kernel's lines, in pieces of at most `widest` taps
            V *sum = sums;
            for (int line = 0; line < lines; line++)
                for (int t = 0; t < taps; t += widest) {
                    int piece = std::min(widest, taps - t);
                    visit(line, t, piece, sum);
                    sum += outputs * piece;
                }
        };
        for (int y = 0; y < rows; y += BAND)
            for (int x = 0; x < columns; x += flat ? CHUNK : columns)
                each([&](int line, int t, int piece, V *sum) {
                    int length = flat ? std::min(CHUNK, columns - x) : columns;
                    int c = line / w.kernel_y, dy = line % w.kernel_y;
                    size_t at = flat ? (size_t)t * in_plane + x
                                     : (size_t)c * in_plane + (y * w.stride + dy) * in_width + t;
                    Strides s{g_plane,  flat ? in_plane : 1,     length,  w.stride,
                              std::min(BAND, rows - y), g_width, w.stride * in_width};
                    TAP[(outputs - 1) * MOST_TAPS + piece - 1](
                        s, g + (size_t)from * g_plane + y * g_width + x, in + at, sum);
                });
        each([&](int line, int t, int piece, V *sum) {
            for (int o = 0; o < outputs; o++)
                for (int j = 0; j < piece; j++)
                    result[((size_t)(from + o) * lines + line) * taps + t + j] = total(*sum++);
        });
    }
}
