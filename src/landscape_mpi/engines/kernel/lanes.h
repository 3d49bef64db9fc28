/* Winograd's F(4x4, 3x3) for vectors of LANES floats; included once for each instruction set.
 *
 * Before: NAME(x) gives a function its suffix, LANES floats are a vector, ACC vectors fit the registers as sums.
 * Vectors run over channels, which lie last in memory. V and M hold 36 planes [block of tiles][channels], `step` floats
 * apart; a step that is no multiple of a page keeps the planes out of each other's cache lines.
 */

#define VEC NAME(vec)
#define BITS NAME(bits)
typedef float VEC __attribute__((vector_size(4 * LANES)));
typedef int BITS __attribute__((vector_size(4 * LANES)));
typedef float NAME(loose) __attribute__((vector_size(4 * LANES), aligned(4)));

static inline VEC NAME(load)(const float *p) { return *(const NAME(loose) *)p; }
static inline void NAME(store)(float *p, VEC v) { *(NAME(loose) *)p = v; }

/* r = B^T d, six values each, for the points 0, +-P, +-Q and infinity. */
static inline void NAME(before)(const VEC d[6], VEC r[6])
{
    VEC a = d[4] - Q * Q * d[2], b = d[3] - Q * Q * d[1];
    VEC e = d[4] - P * P * d[2], f = d[3] - P * P * d[1];
    r[0] = e + Q * Q * (P * P * d[0] - d[2]);
    r[1] = a + P * b;
    r[2] = a - P * b;
    r[3] = e + Q * f;
    r[4] = e - Q * f;
    r[5] = d[5] - P * P * d[3] - Q * Q * f;
}

/* y = A^T m, six values to four. */
static inline void NAME(after)(const VEC m[6], VEC y[4])
{
    VEC a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], d = m[3] - m[4];
    y[0] = m[0] + a + c;
    y[1] = P * b + Q * d;
    y[2] = P * P * a + Q * Q * c;
    y[3] = P * P * P * b + Q * Q * Q * d + m[5];
}

/* One patch of 6x6 pixels at (y0, x0), zeros outside the image, to one tile of V. */
static void NAME(patch)(const struct convolution *s, const float *image, int y0, int x0, float *v, long step)
{
    for (int c = 0; c < s->in; c += LANES) {
        VEC rows[6][6], d[6], r[6];
        for (int i = 0; i < 6; i++) {
            int y = y0 + i, inside = y >= 0 && y < s->height;
            for (int j = 0; j < 6; j++) {
                int x = x0 + j;
                d[j] = inside && x >= 0 && x < s->width
                    ? NAME(load)(image + ((long)y * s->width + x) * s->in + c) : (VEC){0};
            }
            NAME(before)(d, rows[i]);
        }
        for (int j = 0; j < 6; j++) {
            for (int i = 0; i < 6; i++) d[i] = rows[i][j];
            NAME(before)(d, r);
            for (int i = 0; i < 6; i++) NAME(store)(v + (6 * i + j) * step + c, r[i]);
        }
    }
}

/* m[tiles][out] = v[tiles][in] u[in][out], ACC / N tiles and N vectors of channels at a time; tiles divide evenly. */
#define PRODUCT(N)                                                                                                     \
    static inline __attribute__((always_inline)) void NAME(product_##N)(                                               \
        const float *v, const float *u, float *m, int tiles, int in, int out)                                          \
    {                                                                                                                  \
        for (int n = 0; n < out; n += N * LANES)                                                                       \
            for (int t = 0; t < tiles; t += ACC / N) {                                                                 \
                VEC sum[ACC / N][N];                                                                                   \
                const float *a = v + (long)t * in, *b = u + n;                                                         \
                for (int i = 0; i < ACC / N; i++)                                                                      \
                    for (int j = 0; j < N; j++) sum[i][j] = (VEC){0};                                                  \
                for (int k = 0; k < in; k++) {                                                                         \
                    VEC w[N];                                                                                          \
                    for (int j = 0; j < N; j++) w[j] = NAME(load)(b + (long)k * out + j * LANES);                      \
                    _Pragma("GCC unroll 32") for (int i = 0; i < ACC / N; i++)                                         \
                        for (int j = 0; j < N; j++) sum[i][j] += w[j] * a[(long)i * in + k];                           \
                }                                                                                                      \
                for (int i = 0; i < ACC / N; i++)                                                                      \
                    for (int j = 0; j < N; j++) NAME(store)(m + (long)(t + i) * out + n + j * LANES, sum[i][j]);       \
            }                                                                                                          \
    }
PRODUCT(1)
PRODUCT(2)
PRODUCT(4)
#undef PRODUCT

/* The widest product that divides the channels; numbers of channels that the compiler knows make shorter addresses. */
static void NAME(product)(const float *v, const float *u, float *m, int tiles, int in, int out)
{
    if (out % (4 * LANES) == 0) {
        if (in == 64) NAME(product_4)(v, u, m, tiles, 64, out);
        else NAME(product_4)(v, u, m, tiles, in, out);
    } else if (out % (2 * LANES) == 0) {
        if (in == 32) NAME(product_2)(v, u, m, tiles, 32, out);
        else if (in == 16) NAME(product_2)(v, u, m, tiles, 16, out);
        else NAME(product_2)(v, u, m, tiles, in, out);
    } else {
        if (in == 16) NAME(product_1)(v, u, m, tiles, 16, out);
        else NAME(product_1)(v, u, m, tiles, in, out);
    }
}

/* One tile of M to 4x4 pixels at (y0, x0), those inside the image: + bias + residual, ReLU. NaN stays NaN. */
static void NAME(tile)(const struct convolution *s, const float *m, long step, int y0, int x0, const float *bias,
                       const float *residual, float *image)
{
    for (int c = 0; c < s->out; c += LANES) {
        VEC columns[4][6], d[6], y[4], shift = NAME(load)(bias + c);
        for (int j = 0; j < 6; j++) {
            for (int i = 0; i < 6; i++) d[i] = NAME(load)(m + (6 * i + j) * step + c);
            NAME(after)(d, y);
            for (int i = 0; i < 4; i++) columns[i][j] = y[i];
        }
        for (int i = 0; i < 4 && y0 + i < s->height; i++) {
            NAME(after)(columns[i], y);
            for (int j = 0; j < 4 && x0 + j < s->width; j++) {
                long at = ((long)(y0 + i) * s->width + x0 + j) * s->out + c;
                VEC z = y[j] + shift;
                if (residual) z += NAME(load)(residual + at);
                if (s->relu) z = (VEC)((BITS)z & ~(z < 0.0f));
                NAME(store)(image + at, z);
            }
        }
    }
}

static void NAME(convolve)(const struct convolution *s, const float *x, const float *u, const float *bias,
                           const float *residual, float *y, float *scratch)
{
    int columns = (s->width + 3) / 4, tiles = (s->height + 3) / 4 * columns, block = block_of(s);
    long all = (long)s->images * tiles, step_v = step_of(block, s->in), step_m = step_of(block, s->out);
    float *v = scratch, *m = scratch + 36 * step_v;
    for (long first = 0; first < all; first += block) {
        int count = all - first < block ? (int)(all - first) : block;
        for (int t = 0; t < count; t++) {
            long image = (first + t) / tiles;
            int at = (int)((first + t) % tiles);
            NAME(patch)(s, x + image * s->height * s->width * s->in, at / columns * 4 - 1, at % columns * 4 - 1,
                        v + (long)t * s->in, step_v);
        }
        for (int k = 0; k < 36; k++)
            NAME(product)(v + k * step_v, u + (long)k * s->in * s->out, m + k * step_m, whole(count, ACC), s->in, s->out);
        for (int t = 0; t < count; t++) {
            long image = (first + t) / tiles, start = image * s->height * s->width * s->out;
            int at = (int)((first + t) % tiles);
            NAME(tile)(s, m + (long)t * s->out, step_m, at / columns * 4, at % columns * 4, bias,
                       residual ? residual + start : 0, y + start);
        }
    }
}

#undef VEC
#undef BITS
#undef NAME
#undef LANES
#undef ACC
