/* Numbers of three kinds as float32, exactly; included after normal.h. */

#include <string.h>

enum kind { FLOAT32, BFLOAT16, FLOAT16 };

/* A float16 as the bits of a float32. */
INLINE uint32_t widened(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, size = half & 0x7FFF;
    union { float value; uint32_t bits; } small = {.value = (float)(int32_t)size * (1.0f / 16777216.0f)}; /* 2^-24 */
    uint32_t normal = (size << 13) + (112u << 23);
    uint32_t special = (size << 13) | 0x7F800000u | (size > 0x7C00 ? 1u << 22 : 0); /* a NaN is a quiet one */
    return sign | (size < 0x0400 ? small.bits : size < 0x7C00 ? normal : special);
}

/* The numbers `first` to `first + n - 1` of an array. */
INLINE void widen(float *to, const void *from, enum kind kind, long first, long n)
{
    const uint16_t *halves = (const uint16_t *)from + first;
    uint32_t bits[PIECE];
    if (kind == FLOAT32) {
        memcpy(to, (const float *)from + first, n * sizeof *to);
        return;
    }
    if (kind == BFLOAT16)
        for (long i = 0; i < n; i++) bits[i] = (uint32_t)halves[i] << 16;
    else
        for (long i = 0; i < n; i++) bits[i] = widened(halves[i]);
    memcpy(to, bits, n * sizeof *to);
}
