/* Norms of rows, of an array or of numbers that are drawn: those of plane/normalise.py, bit for bit.
 *
 * Square j of a row is added to sum j % 16; squares of float32 are exact in float64.
 */

#include "normal.h"

#include <math.h>
#include <string.h>

enum { LANES = 16 };

/* Adds the squares of n numbers, a multiple of LANES, to the sums. */
INLINE void add_squares(double *sums, const float *numbers, long n)
{
    double total[LANES]; /* these stay in registers */
    memcpy(total, sums, sizeof total);
    for (long i = 0; i < n; i += LANES)
        for (int lane = 0; lane < LANES; lane++) total[lane] += (double)numbers[i + lane] * numbers[i + lane];
    memcpy(sums, total, sizeof total);
}

static void squares_plain(double *sums, const float *numbers, long n) { add_squares(sums, numbers, n); }

#if HAS_X86
AVX2 static void squares_avx2(double *sums, const float *numbers, long n) { add_squares(sums, numbers, n); }

AVX512 static void squares_avx512(double *sums, const float *numbers, long n) { add_squares(sums, numbers, n); }
#endif

/* Adds the squares of numbers `place` to `place + n - 1` of a row. */
static void add_part(double *sums, const float *numbers, long place, long n, int level)
{
    long i = 0;
    for (; i < n && (place + i) % LANES; i++) sums[(place + i) % LANES] += (double)numbers[i] * numbers[i];
    const long whole = (n - i) / LANES * LANES;
#if HAS_X86
    if (whole && level >= 2) squares_avx512(sums, numbers + i, whole);
    if (whole && level == 1) squares_avx2(sums, numbers + i, whole);
#endif
    if (whole && level == 0) squares_plain(sums, numbers + i, whole);
    for (i += whole; i < n; i++) sums[(place + i) % LANES] += (double)numbers[i] * numbers[i];
}

/* The norm of a row whose sums are complete; they are cleared. */
static double joined(double *sums)
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) sums[i] += sums[half + i];
    double norm = sqrt(sums[0]);
    memset(sums, 0, LANES * sizeof *sums);
    return norm;
}

/* Fills norms [rows] of an array, or, where it is null, of the numbers of a stream from index 0 on. Rows of width 0
 * are left as they are. */
void landscape_norms(double *norms, const void *array, enum kind kind, uint64_t first, uint64_t second,
                     const int32_t *table, long rows, long width, int level)
{
    const struct stream stream = {first, second, table};
    ALIGNED float numbers[PIECE];
    double sums[LANES] = {0};
    long row = 0, place = 0;
    for (long done = 0, count = rows * width; done < count; done += PIECE) {
        const long n = count - done < PIECE ? count - done : PIECE;
        if (array) landscape_widen(numbers, array, kind, done, n, level);
        else landscape_draw(numbers, done, n, &stream, level);
        for (long i = 0; i < n;) {
            const long some = width - place < n - i ? width - place : n - i;
            add_part(sums, numbers + i, place, some, level);
            i += some;
            place += some;
            if (place == width) norms[row++] = joined(sums), place = 0;
        }
    }
}
