/* Standard normal numbers by counter: the numbers of plane/counter.py, which is the reference, bit for bit.
 *
 * Two loops over a piece: indices are hashed to words of 32 bits, and words become numbers. The second is written with
 * intrinsics for AVX2, as the first eight entries of its table then stay in registers; for AVX-512 see avx512.c.
 */

#include "normal.h"

#include <string.h>

#if HAS_X86
#include <immintrin.h>
#endif

static const float UNIT = 1.0f / 2097152.0f; /* 2^-21 */

/* The finaliser of MurmurHash3, 64 bits. */
static uint64_t mix(uint64_t word)
{
    word = (word ^ (word >> 33)) * UINT64_C(0xFF51AFD7ED558CCD);
    word = (word ^ (word >> 33)) * UINT64_C(0xC4CEB9FE1A85EC53);
    return word ^ (word >> 33);
}

/* Hashes the places of PIECE indices in their block, from `inner` on, with the block's two keys. */
INLINE void hash(uint32_t *words, uint32_t inner, uint32_t one, uint32_t other)
{
    uint32_t counter = inner * UINT32_C(0x9E3779B1) + one;
    for (int i = 0; i < PIECE; i++, counter += UINT32_C(0x9E3779B1)) {
        uint32_t word = (counter ^ (counter >> 16)) * UINT32_C(0x7FEB352D);
        word = (word ^ (word >> 15) ^ other) * UINT32_C(0x846CA68B);
        words[i] = (word ^ (word >> 16)) * UINT32_C(0xC2B2AE35);
    }
}

INLINE float normal_of(uint32_t word, const int32_t *table)
{
    union { double value; uint64_t bits; } tail = {.value = (int32_t)(word & 0x7FFFFFFFu)}; /* exact */
    int exponent = (int)(tail.bits >> 52), g = (int)(tail.bits >> 36 & 0xFFFFu) - 32768;
    int entry = (1023 + 31 - (exponent < 1022 ? 1022 : exponent)) % 32; /* 1023: the bias; 0 where there is no bit */
    int g2 = g * g >> 16, g3 = g * g2 >> 16, g4 = g2 * g2 >> 16, c12 = table[32 + entry], c34 = table[64 + entry];
    int total = (int16_t)c12 * g + (c12 >> 16) * g2 + (int16_t)c34 * g3 + (c34 >> 16) * g4;
    union { float value; uint32_t bits; } number = {.value = (float)(table[entry] + (total >> 10)) * UNIT};
    number.bits ^= word & 0x80000000u;
    return number.value;
}

static void piece_plain(float *buffer, uint32_t inner, uint32_t one, uint32_t other, const int32_t *table)
{
    ALIGNED uint32_t words[PIECE];
    hash(words, inner, one, other);
    for (int i = 0; i < PIECE; i++) buffer[i] = normal_of(words[i], table);
}

#if HAS_X86
AVX2 static void piece_avx2(float *buffer, uint32_t inner, uint32_t one, uint32_t other, const int32_t *table)
{
    typedef __m256i vec;
    ALIGNED uint32_t words[PIECE];
    hash(words, inner, one, other);
    const vec tail_mask = _mm256_set1_epi32(0x7FFFFFFF), middle = _mm256_set1_epi32((int)0x80008000);
    const vec high_twice = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15, 14, 15));
    /* entries 1 to 8 in places 1 to 7 and 0 */
    const vec order = _mm256_setr_epi32(8, 1, 2, 3, 4, 5, 6, 7);
    vec near[3];
    for (int row = 0; row < 3; row++) near[row] = _mm256_i32gather_epi32(table + 32 * row, order, 4);
    for (int i = 0; i < PIECE; i += 8) {
        vec word = _mm256_loadu_si256((const vec *)(words + i)), tail = _mm256_and_si256(word, tail_mask);
        /* the bit below the leading one is cleared, so that the conversion cannot round up to the next power of two */
        vec rounded = _mm256_andnot_si256(_mm256_srli_epi32(tail, 1), tail);
        vec exponent = _mm256_srli_epi32(_mm256_castps_si256(_mm256_cvtepi32_ps(rounded)), 23);
        vec leading = _mm256_sub_epi32(_mm256_set1_epi32(127 + 31), exponent); /* 158 where there is no bit */
        vec fraction = _mm256_sllv_epi32(word, _mm256_add_epi32(leading, _mm256_set1_epi32(1)));
        vec g = _mm256_xor_si256(_mm256_shuffle_epi8(fraction, high_twice), middle);
        vec g2 = _mm256_mulhi_epi16(g, g);
        vec terms12 = _mm256_blend_epi16(g, g2, 0xAA), terms34 = _mm256_mulhi_epi16(terms12, g2);
        vec size, c12, c34;
        if (_mm256_movemask_epi8(_mm256_cmpgt_epi32(leading, _mm256_set1_epi32(8))) == 0) {
            size = _mm256_permutevar8x32_epi32(near[0], leading);
            c12 = _mm256_permutevar8x32_epi32(near[1], leading);
            c34 = _mm256_permutevar8x32_epi32(near[2], leading);
        } else { /* one time in thirty */
            vec entry = _mm256_and_si256(_mm256_min_epu32(leading, _mm256_set1_epi32(32)), _mm256_set1_epi32(31));
            size = _mm256_i32gather_epi32(table, entry, 4);
            c12 = _mm256_i32gather_epi32(table + 32, entry, 4);
            c34 = _mm256_i32gather_epi32(table + 64, entry, 4);
        }
        vec total = _mm256_add_epi32(_mm256_madd_epi16(terms12, c12), _mm256_madd_epi16(terms34, c34));
        size = _mm256_add_epi32(size, _mm256_srai_epi32(total, 10));
        __m256 number = _mm256_mul_ps(_mm256_cvtepi32_ps(size), _mm256_set1_ps(UNIT));
        __m256 sign = _mm256_castsi256_ps(_mm256_andnot_si256(tail_mask, word));
        _mm256_storeu_ps(buffer + i, _mm256_xor_ps(number, sign));
    }
}
#endif

/* The widest instruction set of this machine. */
int landscape_normal_level(void)
{
#if HAS_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni") ? 3 : 2;
    if (__builtin_cpu_supports("avx2")) return 1;
#endif
    return 0;
}

uint64_t landscape_keys(uint64_t index, const struct stream *stream)
{
    return mix(mix((index >> 16) * UINT64_C(0x9E3779B97F4A7C15) + stream->first) ^ stream->second);
}

void landscape_draw(float *buffer, uint64_t index, long count, const struct stream *stream, int level)
{
    for (long done = 0; done < count;) {
        uint64_t keys = landscape_keys(index + done, stream);
        uint32_t inner = (uint32_t)(index + done) & 0xFFFFu, one = (uint32_t)keys, other = (uint32_t)(keys >> 32);
        long n = 65536 - inner < count - done ? 65536 - inner : count - done;
        ALIGNED float piece[PIECE], *there = done ? piece : buffer;
#if HAS_X86
        if (level == 3) landscape_piece_2019(there, inner, one, other, stream->table);
        if (level == 2) landscape_piece_512(there, inner, one, other, stream->table);
        if (level == 1) piece_avx2(there, inner, one, other, stream->table);
#endif
        if (level == 0) piece_plain(there, inner, one, other, stream->table);
        if (done) memcpy(buffer + done, piece, n * sizeof *piece);
        done += n;
    }
}

/* The numbers `start` to `start + count - 1` of the stream with two keys, by an instruction set that is there. */
void landscape_normal(float *numbers, uint64_t start, long count, uint64_t first, uint64_t second,
                      const int32_t *table, int level)
{
    const struct stream stream = {first, second, table};
    for (long done = 0; done < count; done += PIECE) {
        long n = count - done < PIECE ? count - done : PIECE;
        ALIGNED float piece[PIECE], *there = n < PIECE ? piece : numbers + done;
        landscape_draw(there, start + done, n, &stream, level);
        if (n < PIECE) memcpy(numbers + done, piece, n * sizeof *piece);
    }
}
