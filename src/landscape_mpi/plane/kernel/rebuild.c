/* Weights at a point of a plane, W = theta + alpha d + beta e, piece by piece: those of plane/rebuild.py, bit for bit.
 *
 * Whatever lies between theta and W stays in the first cache.
 */

#include "normal.h"

#include <string.h>

#if HAS_X86
#include <immintrin.h>
#endif

enum { LARGE = 1 << 22 }; /* weights, 16 MB */

/* How a direction is made: stored; or drawn, times one number, times a number a row, or times theta; or theta. */
enum part { STORED, SCALED, BY_ROW, BY_WEIGHT, ITSELF };

struct step {
    float coordinate, scale;     /* scale: SCALED */
    const float *numbers;        /* STORED: [count]; BY_ROW: the scale of every row of the whole tensor */
    uint64_t width;              /* BY_ROW: numbers in a row */
    uint64_t first, second;      /* keys of what is drawn */
    enum part part;
};

/* to = from + alpha d for one step, n numbers from flat index `index` on; `origin` is theta, and z is scratch. */
INLINE void add_step(float *to, const float *from, const struct step *step, const float *origin, float *z, long done,
                     uint64_t index, long n, const int32_t *table, int level)
{
    const struct stream stream = {step->first, step->second, table};
    const float alpha = step->coordinate;
    const float *d = step->part == ITSELF ? origin : step->numbers + done;
    if (step->part == STORED || step->part == ITSELF) {
        for (long i = 0; i < n; i++) to[i] = from[i] + alpha * d[i];
        return;
    }
    landscape_draw(z, index, n, &stream, level);
    if (step->part == BY_WEIGHT) {
        for (long i = 0; i < n; i++) to[i] = from[i] + alpha * (z[i] * origin[i]);
        return;
    }
    const uint64_t width = step->part == BY_ROW ? step->width : UINT64_MAX;
    uint64_t row = index / width, end = (row + 1) * width - index; /* where the row ends, counted from index */
    for (long i = 0; i < n; row++, end += width) {
        const float scale = step->part == BY_ROW ? step->numbers[row] : step->scale;
        const long stop = end < (uint64_t)n ? (long)end : n;
        for (; i < stop; i++) to[i] = from[i] + alpha * (z[i] * scale);
    }
}

/* Copies a piece into an array so large that it will not stay in the caches: its lines are not read before. */
static void copy_past_caches(float *out, const float *weights, long n)
{
    long i = 0;
#if HAS_X86
    if ((uintptr_t)out % 16 == 0)
        for (; i + 4 <= n; i += 4) _mm_stream_ps(out + i, _mm_load_ps(weights + i));
#endif
    memcpy(out + i, weights + i, (n - i) * sizeof *out);
}

/* Whatever lies between theta and W is in buffers of a piece; the last step writes W where it may stay in the caches. */
INLINE void rebuild(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                    const struct step *steps, int taken, const int32_t *table, int level)
{
    ALIGNED float origin[PIECE], weights[PIECE], z[PIECE];
    for (long done = 0; done < count; done += PIECE) {
        const long n = count - done < PIECE ? count - done : PIECE;
        landscape_widen(origin, theta, kind, done, n, level);
        for (int i = 0; i < taken; i++) {
            float *to = i + 1 < taken || count > LARGE ? weights : out + done;
            add_step(to, i ? weights : origin, steps + i, origin, z, done, start + done, n, table, level);
        }
        if (count > LARGE) copy_past_caches(out + done, weights, n);
    }
}

static void rebuild_plain(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                          const struct step *steps, int taken, const int32_t *table)
{
    rebuild(out, theta, kind, count, start, steps, taken, table, 0);
}

#if HAS_X86
AVX2 static void rebuild_avx2(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                              const struct step *steps, int taken, const int32_t *table)
{
    rebuild(out, theta, kind, count, start, steps, taken, table, 1);
}

AVX512 static void rebuild_avx512(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                                  const struct step *steps, int taken, const int32_t *table)
{
    rebuild(out, theta, kind, count, start, steps, taken, table, 2);
}
#endif

/* Fills out [count] for the flat indices from `start` on; theta [count] is of these indices, and may be `out`. */
void landscape_rebuild(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                       const struct step *steps, int taken, const int32_t *table, int level)
{
#if HAS_X86
    if (level == 2) rebuild_avx512(out, theta, kind, count, start, steps, taken, table);
    if (level == 1) rebuild_avx2(out, theta, kind, count, start, steps, taken, table);
#endif
    if (level == 0) rebuild_plain(out, theta, kind, count, start, steps, taken, table);
#if HAS_X86
    _mm_sfence(); /* other threads see what went past the caches */
#endif
}
