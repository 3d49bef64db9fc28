/* Sixteen numbers a vector, for one set of AVX-512 instructions: avx512.c includes this once for each of them.
 *
 * The includer defines SET(name), the name of a function for its set, TARGET, its attribute, and the two steps that
 * differ: FRACTION and SUM. Four vectors go side by side, as each step waits for the one before.
 */

typedef struct {
    vec low[3], high[3]; /* the table's three rows */
} SET(table);

TARGET INLINE SET(table) SET(loaded)(const int32_t *table)
{
    SET(table) loaded;
    for (int row = 0; row < 3; row++) {
        loaded.low[row] = _mm512_loadu_si512(table + 32 * row);
        loaded.high[row] = _mm512_loadu_si512(table + 32 * row + 16);
    }
    return loaded;
}

/* Draws `many` vectors of numbers times 2^21, from the first one's counters on; returns the counters after the last. */
TARGET INLINE vec SET(draw)(__m512 *numbers, int many, vec counter, vec other, const SET(table) *table)
{
    const vec sign = _mm512_set1_epi32(INT32_MIN), middle = _mm512_set1_epi32((int)0x80008000);
    vec word[4], leading[4], g[4], g2[4], size[4], total[4];
    EACH {
        word[j] = _mm512_xor_si512(counter, _mm512_srli_epi32(counter, 16));
        counter = _mm512_add_epi32(counter, _mm512_set1_epi32((int)(16 * UINT32_C(0x9E3779B1))));
    }
    EACH word[j] = _mm512_mullo_epi32(word[j], _mm512_set1_epi32(0x7FEB352D));
    EACH word[j] = _mm512_ternarylogic_epi32(word[j], _mm512_srli_epi32(word[j], 15), other, 0x96); /* xor of three */
    EACH word[j] = _mm512_mullo_epi32(word[j], _mm512_set1_epi32((int)0x846CA68B));
    EACH word[j] = _mm512_xor_si512(word[j], _mm512_srli_epi32(word[j], 16));
    EACH word[j] = _mm512_mullo_epi32(word[j], _mm512_set1_epi32((int)0xC2B2AE35));
    EACH leading[j] = _mm512_lzcnt_epi32(_mm512_andnot_si512(sign, word[j]));
    EACH size[j] = _mm512_permutex2var_epi32(table->low[0], leading[j], table->high[0]);
    EACH g[j] = FRACTION(word[j], leading[j]);
    EACH g[j] = _mm512_xor_si512(g[j], middle);
    EACH g2[j] = _mm512_mulhi_epi16(g[j], g[j]);
    EACH g[j] = _mm512_mask_blend_epi16(0xAAAAAAAA, g[j], g2[j]);
    EACH g2[j] = _mm512_mulhi_epi16(g[j], g2[j]);
    EACH total[j] = _mm512_madd_epi16(g[j], _mm512_permutex2var_epi32(table->low[1], leading[j], table->high[1]));
    EACH total[j] = SUM(total[j], g2[j], _mm512_permutex2var_epi32(table->low[2], leading[j], table->high[2]));
    EACH size[j] = _mm512_add_epi32(size[j], _mm512_srai_epi32(total[j], 10));
    EACH size[j] = _mm512_castps_si512(_mm512_cvtepi32_ps(size[j]));
    EACH numbers[j] = _mm512_castsi512_ps(_mm512_ternarylogic_epi32(size[j], word[j], sign, 0x78)); /* a ^ (b & c) */
    return counter;
}

TARGET void SET(landscape_piece)(float *buffer, uint32_t inner, uint32_t one, uint32_t other, const int32_t *table)
{
    const SET(table) loaded = SET(loaded)(table);
    vec counter = counters(inner, one);
    for (int i = 0; i < PIECE; i += 64) {
        __m512 numbers[4];
        counter = SET(draw)(numbers, 4, counter, _mm512_set1_epi32((int)other), &loaded);
        for (int j = 0; j < 4; j++) _mm512_storeu_ps(buffer + i + 16 * j, _mm512_mul_ps(numbers[j], unit()));
    }
}

/* Sets `many` vectors of weights to those of theta and the steps there, which go on to what follows. */
TARGET INLINE void SET(set)(float *out, const void *theta, enum kind kind, long first, int many, struct way *ways,
                            int taken, const SET(table) *table)
{
    __m512 weights[4], d[4];
    EACH weights[j] = load_16(theta, kind, first + 16 * j);
    for (struct way *way = ways; way < ways + taken; way++) {
        way->counter = SET(draw)(d, many, way->counter, way->other, table);
        EACH d[j] = _mm512_mul_ps(d[j], way->scale);
        EACH weights[j] = _mm512_add_ps(weights[j], _mm512_mul_ps(way->alpha, d[j]));
    }
    EACH _mm512_storeu_ps(out + first + 16 * j, weights[j]);
}

TARGET INLINE void SET(rebuild)(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                                const struct step *steps, int taken, const int32_t *table)
{
    const SET(table) loaded = SET(loaded)(table);
    struct way ways[MOST_STEPS];
    for (int i = 0; i < taken; i++) begin(ways + i, steps + i, start);
    for (long done = 0, n; done < count; done += n) {
        n = count - done;
        for (int i = 0; i < taken; i++) n = run(ways + i, steps + i, start + done, n, done == 0);
        long first = done;
        for (; first + 64 <= done + n; first += 64) SET(set)(out, theta, kind, first, 4, ways, taken, &loaded);
        for (; first < done + n; first += 16) SET(set)(out, theta, kind, first, 1, ways, taken, &loaded);
        for (int i = 0; i < taken; i++) ways[i].left -= n;
    }
}

TARGET void SET(landscape_sixteens)(float *out, const void *theta, enum kind kind, long count, uint64_t start,
                                    const struct step *steps, int taken, const int32_t *table)
{
    if (kind == FLOAT32) SET(rebuild)(out, theta, FLOAT32, count, start, steps, taken, table);
    if (kind == BFLOAT16) SET(rebuild)(out, theta, BFLOAT16, count, start, steps, taken, table);
    if (kind == FLOAT16) SET(rebuild)(out, theta, FLOAT16, count, start, steps, taken, table);
}
