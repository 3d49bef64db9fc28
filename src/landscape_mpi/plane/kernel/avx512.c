/* Drawing numbers, and weights at a point along drawn directions, by AVX-512: the bits of normal.c and rebuild.c.
 *
 * For two sets of instructions: the first one's, and that of processors from 2019 on, which has single instructions
 * for two of the steps (VBMI and VNNI).
 */

#include "normal.h"

#if HAS_X86
#include <immintrin.h>

#define EACH for (int j = 0; j < many; j++)

typedef __m512i vec;

/* A step on its way through a tensor. */
struct way {
    vec counter, other;  /* what is hashed for the next sixteen numbers; the second key of their block */
    __m512 scale, alpha; /* the scale of the row, times 2^-21 */
    uint64_t row, left;  /* the row, and how many of its numbers follow */
};

AVX512 INLINE __m512 unit(void) { return _mm512_set1_ps(1.0f / 2097152.0f); } /* 2^-21 */

/* What is hashed of sixteen indices, from place `inner` of a block on. */
AVX512 INLINE vec counters(uint32_t inner, uint32_t one)
{
    const vec places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const vec steps = _mm512_mullo_epi32(places, _mm512_set1_epi32((int)0x9E3779B1));
    return _mm512_add_epi32(steps, _mm512_set1_epi32((int)(inner * UINT32_C(0x9E3779B1) + one)));
}

/* Sets a way to where a step begins. */
AVX512 INLINE void begin(struct way *way, const struct step *step, uint64_t start)
{
    way->alpha = _mm512_set1_ps(step->coordinate);
    way->scale = _mm512_mul_ps(_mm512_set1_ps(step->scale), unit());
    way->row = step->part == BY_ROW ? start / step->width : 0;
    way->left = step->part == BY_ROW ? (way->row + 1) * step->width - start : UINT64_MAX;
    if (step->part == BY_ROW) way->scale = _mm512_mul_ps(_mm512_set1_ps(step->numbers[way->row]), unit());
    way->counter = way->other = _mm512_setzero_si512();
}

/* Takes a way on to the row and the keys of `index`, and returns how many numbers from there on, at most n, share them. */
AVX512 INLINE long run(struct way *way, const struct step *step, uint64_t index, long n, int first)
{
    const uint32_t inner = (uint32_t)index & 0xFFFFu;
    if (first || inner == 0) {
        const struct stream stream = {step->first, step->second, NULL};
        const uint64_t keys = landscape_keys(index, &stream);
        way->counter = counters(inner, (uint32_t)keys);
        way->other = _mm512_set1_epi32((int)(keys >> 32));
    }
    if (way->left == 0) {
        way->left = step->width;
        way->scale = _mm512_mul_ps(_mm512_set1_ps(step->numbers[++way->row]), unit());
    }
    const long of_block = 65536 - inner;
    n = n < of_block ? n : of_block;
    return way->left < (uint64_t)n ? (long)way->left : n;
}

/* Theta of sixteen indices. */
AVX512 INLINE __m512 load_16(const void *theta, enum kind kind, long i)
{
    if (kind == FLOAT32) return _mm512_loadu_ps((const float *)theta + i);
    const __m256i halves = _mm256_loadu_si256((const __m256i *)((const uint16_t *)theta + i));
    if (kind == FLOAT16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

/* The 16 bits below the leading one of a word without its sign, twice. */
AVX512 INLINE vec fraction(vec word, vec leading)
{
    const vec high_twice = _mm512_broadcast_i32x4(
        _mm_setr_epi8(2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15));
    const vec shift = _mm512_add_epi32(leading, _mm512_set1_epi32(1));
    return _mm512_shuffle_epi8(_mm512_sllv_epi32(word, shift), high_twice);
}

AVX512_2019 INLINE vec fraction_2019(vec word, vec leading)
{
    /* bits 15 to 22 and 23 to 30 of each half of 64 bits, twice */
    const vec places = _mm512_set1_epi64(INT64_C(0x372F372F170F170F));
    return _mm512_multishift_epi64_epi8(places, _mm512_sllv_epi32(word, leading));
}

AVX512 INLINE vec sum(vec total, vec terms, vec coefficients)
{
    return _mm512_add_epi32(total, _mm512_madd_epi16(terms, coefficients));
}

#define SET(name) name##_512
#define TARGET AVX512
#define FRACTION fraction
#define SUM sum
#include "sixteens.h"
#undef SET
#undef TARGET
#undef FRACTION
#undef SUM

#define SET(name) name##_2019
#define TARGET AVX512_2019
#define FRACTION fraction_2019
#define SUM _mm512_dpwssd_epi32
#include "sixteens.h"

#endif
