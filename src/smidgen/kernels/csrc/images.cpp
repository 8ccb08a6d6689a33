// Images out of a set, each through its own affine map, normalized: what a batch is made of.
//
// For each row of the result, places and weights of its pixels are computed side by side, which the
// compiler turns into vectors; then each pixel reads its four neighbours from a copy of the image
// that has a border, so that none needs a test.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

struct Images {
    const uint8_t *pixels;  // (image, channel, height, width)
    int32_t channels, height, width, edge;  // edge: beyond the border is its nearest pixel, not 0
    const float *factor, *offset;           // of a channel: pixel * factor - offset
};

// A place along one side, in pixels, from that of torch's grid, which runs from -1 to 1.
static inline float in_pixels(float place, int side) { return ((place + 1) * side - 1) / 2; }

// The image, normalized, with a frame of `frame` pixels around it.
static void framed(const Images &from, const uint8_t *image, int frame, float *to) {
    int width = from.width + 2 * frame, height = from.height + 2 * frame;
    for (int c = 0; c < from.channels; c++)
        for (int y = 0; y < height; y++) {
            int row = y - frame, inside = std::clamp(row, 0, from.height - 1);
            const uint8_t *source = image + ((size_t)c * from.height + inside) * from.width;
            float *target = to + ((size_t)c * height + y) * width, beyond = -from.offset[c];
            auto value = [&](int x) { return source[x] * from.factor[c] - from.offset[c]; };
            bool outside = row != inside && !from.edge;
            for (int x = 0; x < from.width; x++) target[frame + x] = outside ? beyond : value(x);
            for (int x = 0; x < frame; x++) {
                target[x] = outside || !from.edge ? beyond : value(0);
                target[frame + from.width + x] =
                    outside || !from.edge ? beyond : value(from.width - 1);
            }
        }
}

// One image; `map` is (2, 3), from a place in the result to the place in the image that it shows.
static void warp(const Images &from, const float *framed_image, const float *map, float *to) {
    constexpr int MOST = 256;  // pixels of a row at a time
    int width = from.width + 2, plane = width * (from.height + 2);
    float right[MOST], below[MOST];
    int32_t place[MOST];
    for (int y = 0; y < from.height; y++)
        for (int start = 0; start < from.width; start += MOST) {
            int count = std::min(MOST, from.width - start);
            float v = (2 * y + 1) / (float)from.height - 1;
            for (int i = 0; i < count; i++) {
                float u = (2 * (start + i) + 1) / (float)from.width - 1;
                float x = in_pixels(map[0] * u + map[1] * v + map[2], from.width);
                float z = in_pixels(map[3] * u + map[4] * v + map[5], from.height);
                // A whole pixel out, there is nothing but what is beyond. (NaN becomes -1.)
                x = std::min(std::max(-1.f, x), (float)from.width);
                z = std::min(std::max(-1.f, z), (float)from.height);
                int left = std::min((int)(x + 1), from.width);
                int top = std::min((int)(z + 1), from.height);
                right[i] = x + 1 - left;
                below[i] = z + 1 - top;
                place[i] = top * width + left;
            }
            for (int c = 0; c < from.channels; c++) {
                const float *source = framed_image + (size_t)c * plane;
                float *target = to + ((size_t)c * from.height + y) * from.width + start;
#pragma omp simd  // gathers, a tenth faster; the compiler would not dare
                for (int i = 0; i < count; i++) {
                    const float *q = source + place[i];
                    float upper = q[0] + (q[1] - q[0]) * right[i];
                    float lower = q[width] + (q[width + 1] - q[width]) * right[i];
                    target[i] = upper + (lower - upper) * below[i];
                }
            }
        }
}

// The images `chosen`, normalized, into `to` (chosen, channel, height, width); `maps` may be null.
extern "C" void lanes_prepare(const Images *from, const int64_t *chosen, int64_t count,
                              const float *maps, float *to, int32_t threads) {
    size_t size = (size_t)from->channels * from->height * from->width;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        std::vector<float> room((size_t)from->channels * (from->height + 2) * (from->width + 2));
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++) {
            const uint8_t *image = from->pixels + size * chosen[i];
            if (!maps) {
                framed(*from, image, 0, to + size * i);
            } else {
                framed(*from, image, 1, room.data());
                warp(*from, room.data(), maps + 6 * i, to + size * i);
            }
        }
    }
}
