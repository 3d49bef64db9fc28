/* Standard normal numbers by counter: the numbers of plane/counter.py, which is the reference, bit for bit.
 *
 * Whole numbers up to one exact conversion to float32: no bit depends on the instruction set. The loops are plain C
 * that compilers vectorise, compiled for three instruction sets; the caller names the one to use.
 */

#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HAS_X86 1
#define INLINE static inline __attribute__((always_inline))
#else
#define HAS_X86 0
#define INLINE static inline
#endif

enum { BLOCK = 1024 }; /* words between the two loops: they stay in the first cache */

/* One half of the hash: the finaliser of MurmurHash3. */
INLINE uint64_t mix(uint64_t word)
{
    word = (word ^ (word >> 33)) * UINT64_C(0xFF51AFD7ED558CCD);
    word = (word ^ (word >> 33)) * UINT64_C(0xC4CEB9FE1A85EC53);
    return word ^ (word >> 33);
}

/* A normal number for 64 uniform bits. An entry of the table holds the quantile in units of 2^-20 in its lower half,
 * and by how much the next quantile is less in its upper half. */
INLINE float normal_of(uint64_t word, const uint64_t *table)
{
    /* 52 bits, odd, as a float64: put behind the leading one of 2^52, from which 2^52 is then taken away, exactly */
    union { uint64_t bits; double value; } uniform = {.bits = (word >> 12) | 1 | UINT64_C(0x4330000000000000)};
    uniform.value -= 4503599627370496.0;
    uint64_t entry = table[(uniform.bits >> 45) - 1023 * 128]; /* 1023: the bias of its exponent; 128 entries each */
    uint64_t fraction = uniform.bits >> 13 & 0xFFFFFFFFu;
    int32_t size = (int32_t)((entry & 0xFFFFFFFFu) - ((entry >> 32) * fraction >> 32));
    int32_t sign = -(int32_t)(word & 1);
    return (float)((size ^ sign) - sign) * (1.0f / 1048576.0f);
}

INLINE void fill(float *numbers, uint64_t start, long count, uint64_t first, uint64_t second, const uint64_t *table)
{
    const uint64_t increment = UINT64_C(0x9E3779B97F4A7C15);
    uint64_t words[BLOCK], counter = start * increment + first;
    for (long done = 0; done < count; done += BLOCK) {
        int n = count - done < BLOCK ? (int)(count - done) : BLOCK;
        for (int i = 0; i < n; i++, counter += increment) words[i] = mix(mix(counter) ^ second);
        for (int i = 0; i < n; i++) numbers[done + i] = normal_of(words[i], table);
    }
}

static void fill_plain(float *numbers, uint64_t start, long count, uint64_t first, uint64_t second,
                       const uint64_t *table)
{
    fill(numbers, start, count, first, second, table);
}

#if HAS_X86
__attribute__((target("avx2"))) static void fill_avx2(float *numbers, uint64_t start, long count, uint64_t first,
                                                      uint64_t second, const uint64_t *table)
{
    fill(numbers, start, count, first, second, table);
}

__attribute__((target("avx512f,avx512dq,avx512vl"))) static void fill_avx512(float *numbers, uint64_t start,
                                                                             long count, uint64_t first,
                                                                             uint64_t second, const uint64_t *table)
{
    fill(numbers, start, count, first, second, table);
}
#endif

/* The widest instruction set of this machine: 2 is AVX-512, 1 is AVX2, 0 what every machine has. */
int landscape_normal_level(void)
{
#if HAS_X86
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return 2;
    if (__builtin_cpu_supports("avx2")) return 1;
#endif
    return 0;
}

/* The numbers `start` to `start + count - 1` of the stream with two keys, by an instruction set that is there. */
void landscape_normal(float *numbers, uint64_t start, long count, uint64_t first, uint64_t second,
                      const uint64_t *table, int level)
{
#if HAS_X86
    if (level == 2) fill_avx512(numbers, start, count, first, second, table);
    if (level == 1) fill_avx2(numbers, start, count, first, second, table);
#endif
    if (level == 0) fill_plain(numbers, start, count, first, second, table);
}
