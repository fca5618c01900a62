// Decoding: cached keys and values in blocks, attention of one query per sequence, and sampling.
//
// Position p of a sequence is slot table[p / BLOCK] · BLOCK + p % BLOCK, where `table` is the sequence's own list of
// blocks.

#define BLOCK 64
#define TILE 128
#define HEADS 8

// Writes row r of k and v [rows, width] to slot slots[r]; one block per row.
template <typename T>
__device__ void write_slots(const T *k, const T *v, const int *slots, T *keys, T *values, int width) {
    const int P = Pack<T>::size;
    i64 from = (i64)blockIdx.x * width, to = (i64)slots[blockIdx.x] * width;
    for (int at = threadIdx.x * P; at < width; at += blockDim.x * P) {
        *reinterpret_cast<uint4 *>(keys + to + at) = *reinterpret_cast<const uint4 *>(k + from + at);
        *reinterpret_cast<uint4 *>(values + to + at) = *reinterpret_cast<const uint4 *>(v + from + at);
    }
}

// Softmax attention of one query per sequence over its first lengths[row] positions, at most the last `window` of
// them if that is not 0: q and y [rows, heads, dim], keys and values [slots, kv_heads, dim], tables [rows, blocks].
// A block of 128 threads computes up to HEADS query heads of one kv head: gridDim = (rows · kv_heads, parts). Each
// thread computes the scores of one key of a tile; each warp adds up a quarter of the tile's values, E elements
// per lane. cap is 0 or the soft cap of scores. dim is a multiple of a pack, at most 32·E.
template <typename T, int E>
__device__ void attend_blocks(const T *q, const T *keys, const T *values, const int *tables, const int *lengths, T *y,
                              int heads, int kv_heads, int dim, int blocks, int window, float scale, float cap) {
    const int P = Pack<T>::size;
    __shared__ __align__(16) float query[HEADS][32 * E];
    __shared__ float scores[HEADS][TILE];
    __shared__ float tops[HEADS], sums[HEADS], factors[HEADS];
    __shared__ int slots[TILE];
    int row = blockIdx.x / kv_heads, kv = blockIdx.x % kv_heads, group = heads / kv_heads;
    int first_head = blockIdx.y * HEADS, count = min(HEADS, group - first_head);
    i64 out = ((i64)row * heads + kv * group + first_head) * dim;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    for (int at = threadIdx.x; at < HEADS * 32 * E; at += blockDim.x) {
        int head = at / (32 * E), d = at % (32 * E);
        query[head][d] = head < count && d < dim ? wide(q[out + (i64)head * dim + d]) * scale : 0.f;
    }
    if (threadIdx.x < HEADS) {
        tops[threadIdx.x] = -1e30f;
        sums[threadIdx.x] = 0.f;
    }
    float mixed[HEADS][E];
#pragma unroll
    for (int h = 0; h < HEADS; h++)
#pragma unroll
        for (int e = 0; e < E; e++) mixed[h][e] = 0.f;
    int length = lengths[row], oldest = window > 0 ? max(0, length - window) : 0;
    const int *table = tables + (i64)row * blocks;
    for (int start = oldest / TILE * TILE; start < length; start += TILE) {
        __syncthreads();
        int position = start + threadIdx.x;
        bool seen = position < length && position >= oldest;
        int slot = seen ? table[position / BLOCK] * BLOCK + position % BLOCK : 0;
        slots[threadIdx.x] = seen ? slot : -1;
        float dots[HEADS];
#pragma unroll
        for (int h = 0; h < HEADS; h++) dots[h] = 0.f;
        if (seen) {
            const T *key = keys + ((i64)slot * kv_heads + kv) * dim;
            for (int d = 0; d < dim; d += P) {
                float k[P];
                load(key + d, k);
#pragma unroll
                for (int h = 0; h < HEADS; h++)
#pragma unroll
                    for (int i = 0; i < P; i++) dots[h] += query[h][d + i] * k[i];
            }
        }
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            float score = cap > 0.f ? cap * tanhf(dots[h] / cap) : dots[h];
            scores[h][threadIdx.x] = seen ? score : -1e30f;
        }
        __syncthreads();
        for (int h = warp; h < HEADS; h += 4) {
            float mine[TILE / 32], top = tops[h];
#pragma unroll
            for (int i = 0; i < TILE / 32; i++) {
                mine[i] = scores[h][lane + 32 * i];
                top = fmaxf(top, mine[i]);
            }
#pragma unroll
            for (int step = 16; step > 0; step >>= 1) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, step));
            float sum = 0.f;
#pragma unroll
            for (int i = 0; i < TILE / 32; i++) {
                float weight = mine[i] > -1e29f ? __expf(mine[i] - top) : 0.f;
                scores[h][lane + 32 * i] = weight;
                sum += weight;
            }
#pragma unroll
            for (int step = 16; step > 0; step >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, step);
            if (lane == 0) {
                float factor = __expf(tops[h] - top);
                factors[h] = factor;
                sums[h] = sums[h] * factor + sum;
                tops[h] = top;
            }
        }
        __syncthreads();
#pragma unroll
        for (int h = 0; h < HEADS; h++)
#pragma unroll
            for (int e = 0; e < E; e++) mixed[h][e] *= factors[h];
        for (int at = warp * 32; at < warp * 32 + 32; at++) {
            if (slots[at] < 0) continue;
            const T *value = values + ((i64)slots[at] * kv_heads + kv) * dim;
#pragma unroll
            for (int e = 0; e < E; e++) {
                int d = lane + 32 * e;
                float v = d < dim ? wide(value[d]) : 0.f;
#pragma unroll
                for (int h = 0; h < HEADS; h++) mixed[h][e] += scores[h][at] * v;
            }
        }
    }
    // The warps add up their parts one after the other, in the memory of the queries.
    for (int w = 0; w < 4; w++) {
        __syncthreads();
        if (warp == w)
#pragma unroll
            for (int h = 0; h < HEADS; h++)
#pragma unroll
                for (int e = 0; e < E; e++) {
                    float before = w == 0 ? 0.f : query[h][lane + 32 * e];
                    query[h][lane + 32 * e] = before + mixed[h][e];
                }
    }
    __syncthreads();
    for (int at = threadIdx.x; at < count * dim; at += blockDim.x) {
        int head = at / dim, d = at % dim;
        y[out + (i64)head * dim + d] = narrow<T>(query[head][d] / sums[head]);
    }
}

#define DECODE(T, name)                                                                                                \
    extern "C" __global__ void write_slots_##name(const T *k, const T *v, const int *slots, T *keys, T *values,        \
                                                  int width) {                                                         \
        write_slots(k, v, slots, keys, values, width);                                                                 \
    }
#define ATTEND(T, name, E)                                                                                             \
    extern "C" __global__ void __launch_bounds__(128)                                                                  \
        attend_blocks_##E##_##name(const T *q, const T *keys, const T *values, const int *tables, const int *lengths,  \
                                   T *y, int heads, int kv_heads, int dim, int blocks, int window, float scale,        \
                                   float cap) {                                                                        \
        attend_blocks<T, E>(q, keys, values, tables, lengths, y, heads, kv_heads, dim, blocks, window, scale, cap);    \
    }
DECODE(float, f32)
DECODE(bf16, bf16)
ATTEND(float, f32, 2)
ATTEND(float, f32, 4)
ATTEND(float, f32, 8)
ATTEND(bf16, bf16, 2)
ATTEND(bf16, bf16, 4)
ATTEND(bf16, bf16, 8)

#define SPAN 256

__device__ __forceinline__ float shaped(float logit, float cap, float factor) {
    return (cap > 0.f ? cap * tanhf(logit / cap) : logit) * factor;
}

// Samples a token per row of logits [rows, vocabulary] from softmax(z), z = c·tanh(l / c)·factor: the first token at
// which the cumulative probability exceeds the row's uniform, or the most likely one if greedy. results[row] is
// the token, results[rows + row] the bits of ln p. A block per row; the shared memory holds a float per span of
// SPAN tokens.
template <typename T>
__device__ void sample(const T *logits, const float *uniforms, int *results, int rows, int vocabulary, float cap,
                       float factor, int greedy) {
    extern __shared__ float spans[];
    __shared__ float warp_tops[32];
    __shared__ int warp_ids[32];
    __shared__ double all;
    __shared__ int chosen;
    __shared__ double left;
    const T *row = logits + (i64)blockIdx.x * vocabulary;
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    float top = -1e30f;
    int most = 0;
    for (int at = threadIdx.x; at < vocabulary; at += blockDim.x) {
        float z = shaped(wide(row[at]), cap, factor);
        if (z > top) {
            top = z;
            most = at;
        }
    }
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        float other = __shfl_xor_sync(0xffffffffu, top, step);
        int id = __shfl_xor_sync(0xffffffffu, most, step);
        if (other > top || (other == top && id < most)) {
            top = other;
            most = id;
        }
    }
    if (lane == 0) {
        warp_tops[warp] = top;
        warp_ids[warp] = most;
    }
    __syncthreads();
    for (int w = 0; w < warps; w++)
        if (warp_tops[w] > top || (warp_tops[w] == top && warp_ids[w] < most)) {
            top = warp_tops[w];
            most = warp_ids[w];
        }
    int count = (vocabulary + SPAN - 1) / SPAN;
    for (int span = warp; span < count; span += warps) {
        float sum = 0.f;
        for (int at = span * SPAN + lane; at < min(vocabulary, (span + 1) * SPAN); at += 32)
            sum += __expf(shaped(wide(row[at]), cap, factor) - top);
#pragma unroll
        for (int step = 16; step > 0; step >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, step);
        if (lane == 0) spans[span] = sum;
    }
    __syncthreads();
    if (warp > 0) return;
    // One warp finds the span, each lane over its share of them.
    int share = (count + 31) / 32, from = lane * share, to = min(count, from + share);
    double own = 0.0;
    for (int span = from; span < to; span++) own += spans[span];
    double upto = own;
#pragma unroll
    for (int step = 1; step < 32; step <<= 1) {
        double before = __shfl_up_sync(0xffffffffu, upto, step);
        if (lane >= step) upto += before;
    }
    if (lane == 31) all = upto;
    if (lane == 0) chosen = -1;
    __syncwarp();
    double target = (double)uniforms[blockIdx.x] * all;
    u32 passed = __ballot_sync(0xffffffffu, upto > target);
    if (passed && lane == __ffs(passed) - 1) {
        double rest = target - (upto - own);
        int span = from;
        for (; span + 1 < to && rest >= spans[span]; span++) rest -= spans[span];
        chosen = span;
        left = rest;
    }
    __syncwarp();
    int id = most;
    if (!greedy && chosen >= 0) {
        // Each lane has eight consecutive tokens of the span.
        float weights[SPAN / 32], sum = 0.f;
        int base = chosen * SPAN + lane * (SPAN / 32);
#pragma unroll
        for (int i = 0; i < SPAN / 32; i++) {
            weights[i] = base + i < vocabulary ? __expf(shaped(wide(row[base + i]), cap, factor) - top) : 0.f;
            sum += weights[i];
        }
        float before = sum;
#pragma unroll
        for (int step = 1; step < 32; step <<= 1) {
            float other = __shfl_up_sync(0xffffffffu, before, step);
            if (lane >= step) before += other;
        }
        float rest = (float)left;
        u32 past = __ballot_sync(0xffffffffu, before > rest);
        // Sums are rounded: past the last of them, the span's last possible token is taken.
        u32 possible = __ballot_sync(0xffffffffu, sum > 0.f);
        int holder = past ? __ffs(past) - 1 : 31 - __clz(possible);
        int mine = -1;
        rest -= before - sum;
#pragma unroll
        for (int i = 0; i < SPAN / 32; i++) {
            if (weights[i] > 0.f && (mine < 0 || rest >= 0.f)) mine = base + i;
            rest -= weights[i];
        }
        mine = __shfl_sync(0xffffffffu, mine, holder & 31);
        if (mine >= 0 && possible) id = mine;
    }
    if (lane == 0) {
        float log_p = shaped(wide(row[id]), cap, factor) - top - (float)log(all);
        results[blockIdx.x] = id;
        results[rows + blockIdx.x] = __float_as_int(log_p);
    }
}

#define SAMPLE(T, name)                                                                                                \
    extern "C" __global__ void sample_##name(const T *logits, const float *uniforms, int *results, int rows,           \
                                             int vocabulary, float cap, float factor, int greedy) {                    \
        sample(logits, uniforms, results, rows, vocabulary, cap, factor, greedy);                                      \
    }
SAMPLE(float, f32)
SAMPLE(bf16, bf16)
