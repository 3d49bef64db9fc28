/* Weights at a point of a plane, W = theta + alpha d + beta e, piece by piece: those of plane/rebuild.py, bit for bit.
 *
 * Whatever lies between theta and W stays in the first cache.
 */

#include "normal.h"
#include "widen.h"

/* How a direction is made: stored; or drawn, times one number, times a number a row, or times theta; or theta. */
enum part { STORED, SCALED, BY_ROW, BY_WEIGHT, ITSELF };

struct step {
    float coordinate, scale;     /* scale: SCALED */
    const float *numbers;        /* STORED: [count]; BY_ROW: the scale of every row of the whole tensor */
    uint64_t width;              /* BY_ROW: numbers in a row */
    uint64_t first, second;      /* keys of what is drawn */
    enum part part;
};

/* z *= the scale of the row, for the flat indices `index` to `index + n - 1`. */
INLINE void scale_rows(float *z, uint64_t index, long n, const float *scales, uint64_t width)
{
    uint64_t row = index / width;
    long end = (long)((row + 1) * width - index);
    for (long i = 0; i < n; row++, end += (long)width) {
        const float scale = scales[row];
        const long stop = end < n ? end : n;
        for (; i < stop; i++) z[i] *= scale;
    }
}

INLINE void rebuild(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                    const struct step *steps, int taken, const int32_t *table, int level)
{
    float origin[PIECE], weights[PIECE], d[PIECE];
    for (long done = 0; done < count; done += PIECE) {
        const long n = count - done < PIECE ? count - done : PIECE;
        widen(origin, theta, kind, done, n);
        memcpy(weights, origin, n * sizeof *weights);
        for (const struct step *step = steps; step < steps + taken; step++) {
            const struct stream stream = {step->first, step->second, table};
            const float alpha = step->coordinate, scale = step->scale;
            if (step->part != STORED && step->part != ITSELF) landscape_draw(d, start + done, n, &stream, level);
            if (step->part == STORED) memcpy(d, step->numbers + done, n * sizeof *d);
            if (step->part == ITSELF) memcpy(d, origin, n * sizeof *d);
            if (step->part == BY_ROW) scale_rows(d, start + done, n, step->numbers, step->width);
            if (step->part == SCALED)
                for (long i = 0; i < n; i++) d[i] *= scale;
            if (step->part == BY_WEIGHT)
                for (long i = 0; i < n; i++) d[i] *= origin[i];
            for (long i = 0; i < n; i++) weights[i] += alpha * d[i];
        }
        memcpy(out + done, weights, n * sizeof *out);
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
}
