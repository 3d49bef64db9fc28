/* What the kernels of plane/ share: drawing numbers in pieces that stay in the first cache, by instruction set.
 *
 * Whole numbers and single multiplications and additions only, never one rounding for two (setup.py turns that off):
 * no bit depends on the instruction set. Loops are plain C that compilers vectorise, compiled once for each set.
 */

#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_X86 1
#define ALIGNED __attribute__((aligned(64))) /* a vector of 64 bytes is a line of the cache */
#define INLINE static inline __attribute__((always_inline))
#define AVX2 __attribute__((target("avx2")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl")))
#define AVX512_2019 __attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vbmi,avx512vnni")))
#else
#define HAS_X86 0
#define ALIGNED
#define INLINE static inline
#endif

enum { PIECE = 1024 }; /* numbers between two loops; 65536, the indices that share keys, is a multiple */

/* A direction's numbers for a tensor: its two keys, and the table of plane/counter.py, three rows of 32. */
struct stream {
    uint64_t first, second;
    const int32_t *table;
};

/* Returns the pair of 32-bit keys of the block of an index, the first one in the low half. */
uint64_t landscape_keys(uint64_t index, const struct stream *stream);

/* Draws the numbers `index` to `index + count - 1`, at most PIECE, into a buffer of PIECE floats, by the instruction
 * set `level`: 3 is AVX-512 with VBMI and VNNI, 2 is AVX-512, 1 is AVX2, 0 what every machine has. Overwrites the rest
 * of the buffer. */
void landscape_draw(float *buffer, uint64_t index, long count, const struct stream *stream, int level);

enum kind { FLOAT32, BFLOAT16, FLOAT16 };

/* Takes the numbers `first` to `first + n - 1` of an array, at most PIECE, to float32. */
void landscape_widen(float *to, const void *from, enum kind kind, long first, long n, int level);

/* How a direction is made: stored; or drawn, times one number, times a number a row, or times theta; or theta. */
enum part { STORED, SCALED, BY_ROW, BY_WEIGHT, ITSELF };

struct step {
    float coordinate, scale;     /* scale: SCALED */
    const float *numbers;        /* STORED: [count]; BY_ROW: the scale of every row of the whole tensor */
    uint64_t width;              /* BY_ROW: numbers in a row */
    uint64_t first, second;      /* keys of what is drawn */
    enum part part;
};

#if HAS_X86
enum { MOST_STEPS = 3 };

/* Draws a PIECE from place `inner` of a block with two keys on. */
void landscape_piece_512(float *buffer, uint32_t inner, uint32_t one, uint32_t other, const int32_t *table);
void landscape_piece_2019(float *buffer, uint32_t inner, uint32_t one, uint32_t other, const int32_t *table);

/* What landscape_rebuild does, in one pass, for at most MOST_STEPS steps that are SCALED or BY_ROW. `count`, `start`
 * and widths are multiples of 16, and scales times 2^-21 are no subnormal numbers. */
void landscape_sixteens_512(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                            const struct step *steps, int taken, const int32_t *table);
void landscape_sixteens_2019(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                             const struct step *steps, int taken, const int32_t *table);
#endif
