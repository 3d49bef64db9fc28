/* Numbers of three kinds as float32, exactly. */

#include "normal.h"

#include <string.h>

#if HAS_X86
#include <immintrin.h>
#endif

/* The bits of a float32 for a float16; `small` has them for one without an exponent. Masks, for want of branches. */
INLINE uint32_t widened(uint32_t half, uint32_t small)
{
    const uint32_t size = half & 0x7FFFu, shift = 112u << 23; /* between the biases of the exponents */
    const uint32_t is_small = -(uint32_t)(size < 0x0400u), is_special = -(uint32_t)(size >= 0x7C00u);
    const uint32_t quiet = -(uint32_t)(size > 0x7C00u) & 1u << 22; /* a NaN becomes a quiet one */
    const uint32_t other = ((size << 13) + shift + (is_special & shift)) | quiet;
    return (half & 0x8000u) << 16 | (small & is_small) | (other & ~is_small);
}

INLINE void widen_halves(float *to, const uint16_t *halves, enum kind kind, long n)
{
    if (kind == BFLOAT16) {
        for (long i = 0; i < n; i++) {
            const uint32_t bits = (uint32_t)halves[i] << 16;
            memcpy(to + i, &bits, sizeof bits);
        }
        return;
    }
    ALIGNED uint32_t bits[PIECE];
    for (long i = 0; i < n; i++) to[i] = (float)(int32_t)(halves[i] & 0x7FFFu) * (1.0f / 16777216.0f); /* 2^-24 */
    memcpy(bits, to, n * sizeof *to);
    for (long i = 0; i < n; i++) bits[i] = widened(halves[i], bits[i]);
    memcpy(to, bits, n * sizeof *to);
}

static void widen_plain(float *to, const uint16_t *halves, enum kind kind, long n)
{
    widen_halves(to, halves, kind, n);
}

#if HAS_X86
AVX2 static void widen_avx2(float *to, const uint16_t *halves, enum kind kind, long n)
{
    widen_halves(to, halves, kind, n);
}

AVX512 static void widen_avx512(float *to, const uint16_t *halves, enum kind kind, long n)
{
    long i = 0;
    if (kind == FLOAT16) /* what `widened` does */
        for (; i + 16 <= n; i += 16)
            _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(halves + i))));
    widen_halves(to + i, halves + i, kind, n - i);
}
#endif

void landscape_widen(float *to, const void *from, enum kind kind, long first, long n, int level)
{
    const uint16_t *halves = (const uint16_t *)from + first;
    if (kind == FLOAT32) memcpy(to, (const float *)from + first, n * sizeof *to);
#if HAS_X86
    if (kind != FLOAT32 && level >= 2) widen_avx512(to, halves, kind, n);
    if (kind != FLOAT32 && level == 1) widen_avx2(to, halves, kind, n);
#endif
    if (kind != FLOAT32 && level == 0) widen_plain(to, halves, kind, n);
}
