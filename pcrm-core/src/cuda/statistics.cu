// Log-probabilities and entropies of the rows of logits [rows, vocabulary], and the gradient of the logits, each in
// one pass over them. z = c·tanh(l / c)·factor, without the cap if c is 0.

// Calls f(index, z) for the elements of a row that belong to this thread.
template <typename T, typename F>
__device__ __forceinline__ void each_logit(const T *row, int vocabulary, float cap, float factor, F f) {
    const int P = Pack<T>::size;
    if (vocabulary % P == 0) {
        for (int at = threadIdx.x * P; at < vocabulary; at += blockDim.x * P) {
            float logits[P];
            load(row + at, logits);
#pragma unroll
            for (int i = 0; i < P; i++) f(at + i, shaped(logits[i], cap, factor));
        }
    } else {
        for (int at = threadIdx.x; at < vocabulary; at += blockDim.x) f(at, shaped(wide(row[at]), cap, factor));
    }
}

// Adds (top, sum, weighted) of other elements: Σ eᶻ⁻ᵗᵒᵖ and Σ (z − top)·eᶻ⁻ᵗᵒᵖ.
__device__ __forceinline__ void join(float &top, float &sum, float &weighted, float top2, float sum2, float weighted2) {
    float highest = fmaxf(top, top2);
    float own = __expf(top - highest), other = __expf(top2 - highest);
    weighted = own * (weighted + (top - highest) * sum) + other * (weighted2 + (top2 - highest) * sum2);
    sum = own * sum + other * sum2;
    top = highest;
}

// Computes totals = ln Σ eᶻ [rows], entropies −Σ p ln p [rows] unless null, and for each of the row's targets
// [rows, per_row] ln p and whether no token is more likely. A block per row.
template <typename T>
__device__ void token_stats(const T *logits, const i64 *targets, float *picked, float *correct, float *totals,
                            float *entropies, int vocabulary, int per_row, float cap, float factor) {
    __shared__ float parts[3][32];
    const T *row = logits + (i64)blockIdx.x * vocabulary;
    float top = -1e30f, sum = 0.f, weighted = 0.f;
    each_logit(row, vocabulary, cap, factor, [&](int, float z) {
        if (z > top) {
            float less = __expf(top - z);
            weighted = less * (weighted + (top - z) * sum);
            sum *= less;
            top = z;
        }
        float e = __expf(z - top);
        sum += e;
        weighted += (z - top) * e;
    });
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        float top2 = __shfl_xor_sync(0xffffffffu, top, step), sum2 = __shfl_xor_sync(0xffffffffu, sum, step);
        float weighted2 = __shfl_xor_sync(0xffffffffu, weighted, step);
        join(top, sum, weighted, top2, sum2, weighted2);
    }
    if (lane == 0) {
        parts[0][warp] = top;
        parts[1][warp] = sum;
        parts[2][warp] = weighted;
    }
    __syncthreads();
    top = parts[0][0], sum = parts[1][0], weighted = parts[2][0];
    for (int w = 1; w < warps; w++) join(top, sum, weighted, parts[0][w], parts[1][w], parts[2][w]);
    float total = top + logf(sum);
    if (threadIdx.x == 0) {
        totals[blockIdx.x] = total;
        if (entropies) entropies[blockIdx.x] = logf(sum) - weighted / sum;
    }
    for (int k = threadIdx.x; k < per_row; k += blockDim.x) {
        i64 at = (i64)blockIdx.x * per_row + k;
        float z = shaped(wide(row[targets[at]]), cap, factor);
        picked[at] = z - total;
        correct[at] = z >= top ? 1.f : 0.f;
    }
}

// Computes d_l of every logit: with p = eᶻ⁻ᵗᵒᵗᵃˡ, H the entropy, g the gradients of the row's log-probabilities and s
// that of its entropy (slopes, or null), d_z = Σ g·onehot − p·(Σ g + s·(ln p + H)). A block per row.
template <typename T>
__device__ void token_stats_backward(const T *logits, const i64 *targets, const float *g, const float *totals,
                                     const float *entropies, const float *slopes, T *d_logits, int vocabulary,
                                     int per_row, float cap, float factor) {
    const int P = Pack<T>::size;
    const T *row = logits + (i64)blockIdx.x * vocabulary;
    T *to = d_logits + (i64)blockIdx.x * vocabulary;
    i64 first = (i64)blockIdx.x * per_row;
    float level = 0.f, total = totals[blockIdx.x];
    for (int k = 0; k < per_row; k++) level += g[first + k];
    float slope = slopes ? slopes[blockIdx.x] : 0.f, entropy = slopes ? entropies[blockIdx.x] : 0.f;
    auto gradient = [&](float z, float own) {
        float log_p = z - total;
        float d = own - __expf(log_p) * (level + slope * (log_p + entropy));
        if (cap > 0.f) {
            float share = z / factor / cap;
            d *= 1.f - share * share;
        }
        return d * factor;
    };
    if (vocabulary % P == 0) {
        for (int at = threadIdx.x * P; at < vocabulary; at += blockDim.x * P) {
            float d[P];
            load(row + at, d);
#pragma unroll
            for (int i = 0; i < P; i++) d[i] = gradient(shaped(d[i], cap, factor), 0.f);
            store(d, to + at);
        }
    } else {
        for (int at = threadIdx.x; at < vocabulary; at += blockDim.x)
            to[at] = narrow<T>(gradient(shaped(wide(row[at]), cap, factor), 0.f));
    }
    __syncthreads();
    // The targets' own gradients; the first of equal targets writes for all of them.
    for (int k = threadIdx.x; k < per_row; k += blockDim.x) {
        i64 id = targets[first + k];
        float own = 0.f;
        bool is_first = true;
        for (int other = 0; other < per_row; other++)
            if (targets[first + other] == id) {
                own += g[first + other];
                if (other < k) is_first = false;
            }
        if (is_first) to[id] = narrow<T>(gradient(shaped(wide(row[id]), cap, factor), own));
    }
}

#define STATISTICS(T, name)                                                                                            \
    extern "C" __global__ void token_stats_##name(const T *logits, const i64 *targets, float *picked, float *correct,  \
                                                  float *totals, float *entropies, int vocabulary, int per_row,        \
                                                  float cap, float factor) {                                           \
        token_stats(logits, targets, picked, correct, totals, entropies, vocabulary, per_row, cap, factor);            \
    }                                                                                                                  \
    extern "C" __global__ void token_stats_backward_##name(                                                            \
        const T *logits, const i64 *targets, const float *g, const float *totals, const float *entropies,              \
        const float *slopes, T *d_logits, int vocabulary, int per_row, float cap, float factor) {                      \
        token_stats_backward(logits, targets, g, totals, entropies, slopes, d_logits, vocabulary, per_row, cap,        \
                             factor);                                                                                  \
    }
STATISTICS(float, f32)
STATISTICS(bf16, bf16)
