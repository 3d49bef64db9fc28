/* Norms of rows, of an array or of numbers that are drawn: those of plane/norms.py, bit for bit.
 *
 * Square j of a row is added to sum j % 16; squares of float32 are exact in float64.
 */

#include "normal.h"
#include "widen.h"

#include <math.h>

enum { LANES = 16 };

typedef double lanes __attribute__((vector_size(8 * LANES)));
typedef float narrow __attribute__((vector_size(4 * LANES), aligned(4)));

/* Adds the squares of numbers `place` to `place + n - 1` of a row. */
INLINE void add_squares(double *sums, const float *numbers, long place, long n)
{
    long i = 0;
    for (; i < n && (place + i) % LANES; i++) sums[(place + i) % LANES] += (double)numbers[i] * numbers[i];
    lanes total;
    memcpy(&total, sums, sizeof total);
    for (; i + LANES <= n; i += LANES) {
        lanes wide = __builtin_convertvector(*(const narrow *)(numbers + i), lanes);
        total += wide * wide;
    }
    memcpy(sums, &total, sizeof total);
    for (; i < n; i++) sums[(place + i) % LANES] += (double)numbers[i] * numbers[i];
}

/* The norm of a row whose sums are complete; they are cleared. */
INLINE double joined(double *sums)
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) sums[i] += sums[half + i];
    double norm = sqrt(sums[0]);
    memset(sums, 0, LANES * sizeof *sums);
    return norm;
}

/* Numbers: an array, or, where it is null, those of a stream from index 0 on. */
INLINE void row_norms(double *norms, const void *array, enum kind kind, const struct stream *stream, long rows,
                      long width, int level)
{
    float numbers[PIECE];
    double sums[LANES] = {0};
    long row = 0, place = 0;
    for (long done = 0, count = rows * width; done < count; done += PIECE) {
        const long n = count - done < PIECE ? count - done : PIECE;
        if (array) widen(numbers, array, kind, done, n);
        else landscape_draw(numbers, done, n, stream, level);
        for (long i = 0; i < n;) {
            const long some = width - place < n - i ? width - place : n - i;
            add_squares(sums, numbers + i, place, some);
            i += some;
            place += some;
            if (place == width) norms[row++] = joined(sums), place = 0;
        }
    }
}

static void norms_plain(double *norms, const void *array, enum kind kind, const struct stream *stream, long rows,
                        long width)
{
    row_norms(norms, array, kind, stream, rows, width, 0);
}

#if HAS_X86
AVX2 static void norms_avx2(double *norms, const void *array, enum kind kind, const struct stream *stream, long rows,
                            long width)
{
    row_norms(norms, array, kind, stream, rows, width, 1);
}

AVX512 static void norms_avx512(double *norms, const void *array, enum kind kind, const struct stream *stream,
                                long rows, long width)
{
    row_norms(norms, array, kind, stream, rows, width, 2);
}
#endif

/* Fills norms [rows]; rows of width 0 are left as they are. */
void landscape_norms(double *norms, const void *array, enum kind kind, uint64_t first, uint64_t second,
                     const int32_t *table, long rows, long width, int level)
{
    const struct stream stream = {first, second, table};
#if HAS_X86
    if (level == 2) norms_avx512(norms, array, kind, &stream, rows, width);
    if (level == 1) norms_avx2(norms, array, kind, &stream, rows, width);
#endif
    if (level == 0) norms_plain(norms, array, kind, &stream, rows, width);
}
