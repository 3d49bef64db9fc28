/* Weights at a point of a plane, W = theta + alpha d + beta e, piece by piece: those of plane/rebuild.py, bit for bit.
 *
 * Whatever lies between theta and W stays in the first cache; with AVX-512 it stays in registers, where it can.
 */

#include "normal.h"

#include <math.h>
#include <string.h>

#if HAS_X86
#include <immintrin.h>
#endif

enum { LARGE = 1 << 18 }; /* weights, 1 MB: what the second cache holds */

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

#if HAS_X86
AVX512 static inline void stream_16(float *to, const float *from) { _mm512_stream_ps(to, _mm512_load_ps(from)); }
AVX2 static inline void stream_8(float *to, const float *from) { _mm256_stream_ps(to, _mm256_load_ps(from)); }
#endif

/* Copies a piece into an array that will not stay in the caches: its lines are not read before. */
INLINE void copy_past_caches(float *out, const float *weights, long n, int level)
{
    long i = 0;
#if HAS_X86
    if (level >= 2 && (uintptr_t)out % 64 == 0)
        for (; i + 16 <= n; i += 16) stream_16(out + i, weights + i);
    if (level == 1 && (uintptr_t)out % 32 == 0)
        for (; i + 8 <= n; i += 8) stream_8(out + i, weights + i);
    if ((uintptr_t)out % 16 == 0)
        for (; i + 4 <= n; i += 4) _mm_stream_ps(out + i, _mm_load_ps(weights + i));
#endif
    memcpy(out + i, weights + i, (n - i) * sizeof *out);
}

/* Whatever lies between theta and W is in buffers of a piece; the last step writes W where it may stay in the caches.
 * theta of float32 is read where it is, but for what is past the caches too: there one copy of a piece is quicker. */
INLINE void rebuild(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                    const struct step *steps, int taken, const int32_t *table, int level)
{
    ALIGNED float wide[PIECE], weights[PIECE], z[PIECE];
    const int past_caches = count > LARGE, is_there = kind == FLOAT32 && !past_caches;
    for (long done = 0; done < count; done += PIECE) {
        const long n = count - done < PIECE ? count - done : PIECE;
        const float *origin = is_there ? (const float *)theta + done : wide;
        if (!is_there) landscape_widen(wide, theta, kind, done, n, level);
        for (int i = 0; i < taken; i++) {
            float *to = i + 1 < taken || past_caches ? weights : out + done;
            add_step(to, i ? weights : origin, steps + i, origin, z, done, start + done, n, table, level);
        }
        if (past_caches) copy_past_caches(out + done, weights, n, level);
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
                                  const struct step *steps, int taken, const int32_t *table, int level)
{
    rebuild(out, theta, kind, count, start, steps, taken, table, level);
}

/* Returns for how many of the weights sixteen at a time are of one row and one pair of keys, of all steps. */
static long sixteens(long count, uint64_t start, const struct step *steps, int taken)
{
    if (start % 16 || taken > MOST_STEPS) return 0;
    for (int i = 0; i < taken; i++) {
        const float *scales = &steps[i].scale;
        uint64_t rows = 1;
        if (steps[i].part == BY_ROW) {
            if (steps[i].width % 16) return 0;
            const uint64_t first = start / steps[i].width;
            scales = steps[i].numbers + first;
            rows = (start + count + steps[i].width - 1) / steps[i].width - first;
        } else if (steps[i].part != SCALED) return 0;
        for (uint64_t row = 0; row < rows; row++)
            if (!(fabsf(scales[row]) >= 0x1p-100f || scales[row] == 0)) return 0; /* times 2^-21 it is not exact */
    }
    return count / 16 * 16;
}
#endif

/* Fills out [count] for the flat indices from `start` on; theta [count] is of these indices, and may be `out`. */
void landscape_rebuild(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                       const struct step *steps, int taken, const int32_t *table, int level)
{
#if HAS_X86
    if (level >= 2) {
        const long done = sixteens(count, start, steps, taken);
        if (level == 2 && done) landscape_sixteens_512(out, theta, kind, done, start, steps, taken, table);
        if (level == 3 && done) landscape_sixteens_2019(out, theta, kind, done, start, steps, taken, table);
        const void *rest = (const char *)theta + done * (kind == FLOAT32 ? 4 : 2);
        if (done < count) rebuild_avx512(out + done, rest, kind, count - done, start + done, steps, taken, table, level);
    }
    if (level == 1) rebuild_avx2(out, theta, kind, count, start, steps, taken, table);
#endif
    if (level == 0) rebuild_plain(out, theta, kind, count, start, steps, taken, table);
#if HAS_X86
    _mm_sfence(); /* other threads see what went past the caches */
#endif
}
