/* Winograd's F(4x4, 3x3) with bias, residual and ReLU, float32, channels last; knows no Python and keeps nothing.
 *
 * Compiled for three instruction sets; the machine it runs on decides. Tiles go through in blocks that fit the cache:
 * transform a block's patches (V), 36 matrix products (M), transform back. The sums of a pixel are taken in an order
 * that depends on the shape of the layer alone, never on how many images come at once.
 */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HAS_X86 1
#else
#define HAS_X86 0
#endif

struct convolution {
    int images, height, width, in, out, relu;
};

/* The points of the interpolation are 0, +-P, +-Q and infinity, as in layers.py, which transforms the weights. */
#define P 0.75f
#define Q 1.5f

enum { MOST_ACC = 24, SCRATCH_FLOATS = 96 * 1024 };

static int whole(int count, int of) { return (count + of - 1) / of * of; }

/* Tiles in a block: V and M take about SCRATCH_FLOATS. */
static int block_of(const struct convolution *s)
{
    int block = SCRATCH_FLOATS / (36 * (s->in + s->out)) / MOST_ACC * MOST_ACC;
    return block < MOST_ACC ? MOST_ACC : block;
}

static long step_of(int block, int channels) { return (long)block * channels + 16; }

#if HAS_X86
#pragma GCC push_options
#pragma GCC target("avx512f,fma")
#define NAME(x) x##_16
#define LANES 16
#define ACC 24
#include "lanes.h"
#pragma GCC pop_options

#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define NAME(x) x##_8
#define LANES 8
#define ACC 12
#include "lanes.h"
#pragma GCC pop_options
#endif

#define NAME(x) x##_4
#define LANES 4
#define ACC 12
#include "lanes.h"

/* The floats of scratch that `landscape_winograd` needs, whatever the number of images. */
long landscape_winograd_scratch(int in, int out)
{
    struct convolution s = {.in = in, .out = out};
    int block = block_of(&s);
    return 36 * (step_of(block, in) + step_of(block, out));
}

/* The floats in a vector for these channels on this machine: 16, 8 or 4; 0 where the channels divide by none. */
int landscape_winograd_lanes(int in, int out)
{
    int both = in | out;
#if HAS_X86
    if (both % 16 == 0 && __builtin_cpu_supports("avx512f")) return 16;
    if (both % 8 == 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 8;
#endif
    return both % 4 == 0 ? 4 : 0;
}

/* y = relu(x * u + bias + residual): x [images, height, width, in], u [36, in, out] transformed, bias [out],
 * residual and y [images, height, width, out]; residual may be null. Returns the lanes, 0 where nothing was done. */
int landscape_winograd(const float *x, const float *u, const float *bias, const float *residual, float *y,
                       float *scratch, int images, int height, int width, int in, int out, int relu)
{
    struct convolution s = {images, height, width, in, out, relu};
    int lanes = landscape_winograd_lanes(in, out);
#if HAS_X86
    if (lanes == 16) convolve_16(&s, x, u, bias, residual, y, scratch);
    if (lanes == 8) convolve_8(&s, x, u, bias, residual, y, scratch);
#endif
    if (lanes == 4) convolve_4(&s, x, u, bias, residual, y, scratch);
    return lanes;
}
