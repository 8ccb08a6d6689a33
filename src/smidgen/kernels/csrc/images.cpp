// Batches of training images: each image sampled through its own affine map and normalized.
//
// For each row of the result, the positions and weights of its pixels are computed together, which
// the compiler turns into vectors; then each pixel reads its four neighbors from a copy of the
// image that has a border, so that none needs a test. All memory comes from the caller.
#include "fields.hpp"
#include <algorithm>
#if defined(_OPENMP)
#include <omp.h>
#endif

struct Images {
    const uint8_t *pixels;                 // (image, channel, height, width)
    int32_t channels, height, width, edge; // edge: outside is the nearest pixel, otherwise 0
    const float *factor, *offset;          // of a channel: pixel * factor - offset
    float *scratch;                        // for each thread one image with a border of one pixel
};

extern "C" const Field *smidgen_images_fields() {
    static const Field fields[] = {
        FIELD(Images, pixels), FIELD(Images, channels), FIELD(Images, height),
        FIELD(Images, width),  FIELD(Images, edge),     FIELD(Images, factor),
        FIELD(Images, offset), FIELD(Images, scratch),  {nullptr, 0, sizeof(Images)},
    };
    return fields;
}

// From a position on torch's grid, which runs from -1 to 1 along a side, to pixels.
static inline float in_pixels(float position, int side) { return ((position + 1) * side - 1) / 2; }

// The normalized image with a border of `border` pixels.
static void normalize(const Images &from, const uint8_t *image, int border, float *to) {
    int width = from.width + 2 * border, height = from.height + 2 * border;
    for (int c = 0; c < from.channels; c++)
        for (int y = 0; y < height; y++) {
            int row = y - border, nearest = std::clamp(row, 0, from.height - 1);
            const uint8_t *source = image + ((size_t)c * from.height + nearest) * from.width;
            float *target = to + ((size_t)c * height + y) * width, background = -from.offset[c];
            auto value = [&](int x) { return source[x] * from.factor[c] - from.offset[c]; };
            bool outside = row != nearest && !from.edge;
            for (int x = 0; x < from.width; x++)
                target[border + x] = outside ? background : value(x);
            for (int x = 0; x < border; x++) {
                target[x] = outside || !from.edge ? background : value(0);
                target[border + from.width + x] =
                    outside || !from.edge ? background : value(from.width - 1);
            }
        }
}

// `map` is (2, 3), from a position in the result to the position in the image that it shows.
static void sample(const Images &from, const float *bordered, const float *map, float *to) {
    constexpr int MOST = 256; // pixels of a row at a time
    int width = from.width + 2, plane = width * (from.height + 2);
    float right[MOST], below[MOST];
    int32_t corner[MOST];
    for (int y = 0; y < from.height; y++)
        for (int start = 0; start < from.width; start += MOST) {
            int count = std::min(MOST, from.width - start);
            float v = (2 * y + 1) / (float)from.height - 1;
            for (int i = 0; i < count; i++) {
                float u = (2 * (start + i) + 1) / (float)from.width - 1;
                float x = in_pixels(map[0] * u + map[1] * v + map[2], from.width);
                float z = in_pixels(map[3] * u + map[4] * v + map[5], from.height);
                // More than a pixel outside, there is only background. (NaN becomes -1.)
                x = std::min(std::max(-1.f, x), (float)from.width);
                z = std::min(std::max(-1.f, z), (float)from.height);
                int left = std::min((int)(x + 1), from.width);
                int top = std::min((int)(z + 1), from.height);
                right[i] = x + 1 - left;
                below[i] = z + 1 - top;
                corner[i] = top * width + left;
            }
            for (int c = 0; c < from.channels; c++) {
                const float *source = bordered + (size_t)c * plane;
                float *target = to + ((size_t)c * from.height + y) * from.width + start;
#pragma omp simd // gathers, which is a tenth faster; the compiler would not choose them itself
                for (int i = 0; i < count; i++) {
                    const float *q = source + corner[i];
                    float upper = q[0] + (q[1] - q[0]) * right[i];
                    float lower = q[width] + (q[width + 1] - q[width]) * right[i];
                    target[i] = upper + (lower - upper) * below[i];
                }
            }
        }
}

// The images at `indices`, normalized, into `to` (index, channel, height, width); `maps` may be null.
extern "C" void smidgen_prepare_batch(const Images *from, const int64_t *indices, int64_t count,
                                      const float *maps, float *to, int32_t threads) {
    size_t size = (size_t)from->channels * from->height * from->width;
    size_t bordered = (size_t)from->channels * (from->height + 2) * (from->width + 2);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        float *scratch = from->scratch;
#if defined(_OPENMP)
        scratch += bordered * omp_get_thread_num();
#endif
#pragma omp for schedule(static)
        for (int64_t i = 0; i < count; i++) {
            const uint8_t *image = from->pixels + size * indices[i];
            if (!maps) {
                normalize(*from, image, 0, to + size * i);
            } else {
                normalize(*from, image, 1, scratch);
                sample(*from, scratch, maps + 6 * i, to + size * i);
            }
        }
    }
}
