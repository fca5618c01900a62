// Fused element-wise operations, norms and optimiser steps.
//
// Arithmetic is f32 and a result is rounded once. Kernels exist as NAME_f32 and NAME_bf16. They read and write
// a pack of elements at once, so rows must be multiples of a pack and tensors contiguous and aligned to 16 bytes.

// y = x / sqrt(mean(x²) + eps) · w, one block per row; inverse[row] = 1 / sqrt(..). With an addend, x + addend
// is normalised instead and written to sum.
template <typename T>
__device__ void rms_norm(const T *x, const T *addend, const T *weight, T *sum, T *y, float *inverse, int width,
                         float eps) {
    const int P = Pack<T>::size;
    i64 row = (i64)blockIdx.x * width;
    float squares = 0.f, a[P], b[P];
    for (int at = threadIdx.x * P; at < width; at += blockDim.x * P) {
        load(x + row + at, a);
        if (addend) {
            load(addend + row + at, b);
#pragma unroll
            for (int i = 0; i < P; i++) a[i] = wide(narrow<T>(a[i] + b[i]));
            store(a, sum + row + at);
        }
#pragma unroll
        for (int i = 0; i < P; i++) squares += a[i] * a[i];
    }
    float scale = rsqrtf(block_sum(squares) / width + eps);
    if (inverse && threadIdx.x == 0) inverse[blockIdx.x] = scale;
    // Every thread reads only what it wrote itself.
    const T *from = addend ? sum : x;
    for (int at = threadIdx.x * P; at < width; at += blockDim.x * P) {
        load(from + row + at, a);
        load(weight + at, b);
#pragma unroll
        for (int i = 0; i < P; i++) a[i] = a[i] * scale * b[i];
        store(a, y + row + at);
    }
}

// The gradients of rms_norm: with n = x·inverse and h = g·w, d_x = inverse·(h − n·mean(h·n)), plus d_sum where
// another gradient of x arrives; d_weight = Σ g·n, a part [gridDim, width] from every block. The shared memory
// holds width floats.
template <typename T>
__device__ void rms_norm_backward(const T *x, const T *weight, const T *g, const float *inverse, const T *d_sum,
                                  T *d_x, float *d_weight, int rows, int width) {
    const int P = Pack<T>::size;
    extern __shared__ float own[];
    float a[P], b[P], c[P];
    for (int at = threadIdx.x * P; at < width; at += blockDim.x * P)
#pragma unroll
        for (int i = 0; i < P; i++) own[at + i] = 0.f;
    for (int r = blockIdx.x; r < rows; r += gridDim.x) {
        i64 row = (i64)r * width;
        float scale = inverse[r], level = 0.f;
        for (int at = threadIdx.x * P; at < width; at += blockDim.x * P) {
            load(x + row + at, a);
            load(g + row + at, b);
            load(weight + at, c);
#pragma unroll
            for (int i = 0; i < P; i++) {
                float n = a[i] * scale;
                own[at + i] += b[i] * n;
                level += b[i] * c[i] * n;
            }
        }
        level = block_sum(level) / width;
        for (int at = threadIdx.x * P; at < width; at += blockDim.x * P) {
            load(x + row + at, a);
            load(g + row + at, b);
            load(weight + at, c);
#pragma unroll
            for (int i = 0; i < P; i++) a[i] = scale * (b[i] * c[i] - a[i] * scale * level);
            if (d_sum) {
                load(d_sum + row + at, b);
#pragma unroll
                for (int i = 0; i < P; i++) a[i] += b[i];
            }
            store(a, d_x + row + at);
        }
    }
    for (int at = threadIdx.x * P; at < width; at += blockDim.x * P)
#pragma unroll
        for (int i = 0; i < P; i++) d_weight[(i64)blockIdx.x * width + at + i] = own[at + i];
}

// (a, b) → (a·cos − b·sin, b·cos + a·sin), where b is half a head after a: x [rows, heads, 2·half], cos and sin
// [rows, half]. turn is 1, or −1 for the inverse, which is the gradient. A row of x begins every `stride`
// elements; y is contiguous.
template <typename T>
__device__ void rotary(const T *x, const T *cos, const T *sin, T *y, i64 rows, int heads, int half, i64 stride,
                       float turn) {
    const int P = Pack<T>::size;
    int packs = half / P;
    i64 count = rows * heads * packs;
    float a[P], b[P], c[P], s[P];
    for (i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (i64)gridDim.x * blockDim.x) {
        int pack = at % packs;
        i64 head = at / packs;
        i64 row = head / heads;
        const T *from = x + row * stride + (head % heads) * 2 * half + pack * P;
        T *to = y + head * 2 * half + pack * P;
        load(from, a);
        load(from + half, b);
        load(cos + row * half + pack * P, c);
        load(sin + row * half + pack * P, s);
#pragma unroll
        for (int i = 0; i < P; i++) {
            float turned = a[i] * c[i] - b[i] * s[i] * turn;
            b[i] = b[i] * c[i] + a[i] * s[i] * turn;
            a[i] = turned;
        }
        store(a, to);
        store(b, to + half);
    }
}

// y = silu(gate)·up.
template <typename T> __device__ void swiglu(const T *gate, const T *up, T *y, i64 count) {
    const int P = Pack<T>::size;
    float a[P], b[P];
    for (i64 at = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * P; at < count; at += (i64)gridDim.x * blockDim.x * P) {
        load(gate + at, a);
        load(up + at, b);
#pragma unroll
        for (int i = 0; i < P; i++) a[i] = a[i] / (1.f + __expf(-a[i])) * b[i];
        store(a, y + at);
    }
}

// The gradients of swiglu: with p = σ(gate), d_up = g·gate·p and d_gate = g·up·p·(1 + gate·(1 − p)).
template <typename T>
__device__ void swiglu_backward(const T *gate, const T *up, const T *g, T *d_gate, T *d_up, i64 count) {
    const int P = Pack<T>::size;
    float a[P], b[P], c[P];
    for (i64 at = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * P; at < count; at += (i64)gridDim.x * blockDim.x * P) {
        load(gate + at, a);
        load(up + at, b);
        load(g + at, c);
#pragma unroll
        for (int i = 0; i < P; i++) {
            float p = 1.f / (1.f + __expf(-a[i]));
            float d_up_i = c[i] * a[i] * p;
            b[i] = c[i] * b[i] * p * (1.f + a[i] * (1.f - p));
            a[i] = d_up_i;
        }
        store(b, d_gate + at);
        store(a, d_up + at);
    }
}

// y[row] = Σ x[place] over the places of the row, in their order: places[offsets[row]..offsets[row + 1]]; one
// block per row of `width` elements.
template <typename T>
__device__ void row_sums(const T *x, const int *offsets, const int *places, T *y, int width) {
    const int P = Pack<T>::size;
    int first = offsets[blockIdx.x], last = offsets[blockIdx.x + 1];
    float a[P], b[P];
    for (int at = threadIdx.x * P; at < width; at += blockDim.x * P) {
#pragma unroll
        for (int i = 0; i < P; i++) a[i] = 0.f;
        for (int place = first; place < last; place++) {
            load(x + (i64)places[place] * width + at, b);
#pragma unroll
            for (int i = 0; i < P; i++) a[i] += b[i];
        }
        store(a, y + (i64)blockIdx.x * width + at);
    }
}

#define EACH(T, name)                                                                                                  \
    extern "C" __global__ void rms_norm_##name(const T *x, const T *addend, const T *weight, T *sum, T *y,             \
                                               float *inverse, int width, float eps) {                                 \
        rms_norm(x, addend, weight, sum, y, inverse, width, eps);                                                      \
    }                                                                                                                  \
    extern "C" __global__ void rms_norm_backward_##name(const T *x, const T *weight, const T *g, const float *inverse, \
                                                        const T *d_sum, T *d_x, float *d_weight, int rows,             \
                                                        int width) {                                                   \
        rms_norm_backward(x, weight, g, inverse, d_sum, d_x, d_weight, rows, width);                                   \
    }                                                                                                                  \
    extern "C" __global__ void rotary_##name(const T *x, const T *cos, const T *sin, T *y, i64 rows, int heads,        \
                                             int half, i64 stride, float turn) {                                       \
        rotary(x, cos, sin, y, rows, heads, half, stride, turn);                                                       \
    }                                                                                                                  \
    extern "C" __global__ void swiglu_##name(const T *gate, const T *up, T *y, i64 count) {                            \
        swiglu(gate, up, y, count);                                                                                    \
    }                                                                                                                  \
    extern "C" __global__ void swiglu_backward_##name(const T *gate, const T *up, const T *g, T *d_gate, T *d_up,      \
                                                      i64 count) {                                                     \
        swiglu_backward(gate, up, g, d_gate, d_up, count);                                                             \
    }                                                                                                                  \
    extern "C" __global__ void row_sums_##name(const T *x, const int *offsets, const int *places, T *y, int width) {   \
        row_sums(x, offsets, places, y, width);                                                                        \
    }
EACH(float, f32)
EACH(bf16, bf16)

// The work of a block in an operation over many tensors: `length` elements of tensor `tensor` from `start`.
struct Chunk {
    i64 start;
    int tensor;
    int length;
};

// One step of AdamW for many f32 tensors, a chunk per block. `slots` holds the addresses of θ, m, v and of the
// gradient of every tensor; `decays` 1 − η·λ of every tensor; lr is η / (1 − β1^t), root √(1 − β2^t).
extern "C" __global__ void adamw(const Chunk *chunks, float *const *slots, const float *decays, float grad_scale,
                                 float beta1, float beta2, float lr, float root, float eps) {
    Chunk chunk = chunks[blockIdx.x];
    float *const *slot = slots + (i64)chunk.tensor * 4;
    float *param = slot[0] + chunk.start, *mean = slot[1] + chunk.start, *variance = slot[2] + chunk.start;
    const float *gradient = slot[3] + chunk.start;
    float keep = decays[chunk.tensor];
    for (int at = threadIdx.x; at < chunk.length; at += blockDim.x) {
        float g = gradient[at] * grad_scale;
        float m = mean[at], v = variance[at];
        m += (1.f - beta1) * (g - m);
        v += (1.f - beta2) * (g * g - v);
        mean[at] = m;
        variance[at] = v;
        param[at] = param[at] * keep - lr * m / (sqrtf(v) / root + eps);
    }
}

// Σ x² of every chunk, in f64.
template <typename T> __device__ void sum_of_squares(const Chunk *chunks, const T *const *tensors, double *sums) {
    Chunk chunk = chunks[blockIdx.x];
    const T *x = tensors[chunk.tensor] + chunk.start;
    double sum = 0.0;
    for (int at = threadIdx.x; at < chunk.length; at += blockDim.x * 8) {
        float part = 0.f;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            int k = at + i * blockDim.x;
            float value = k < chunk.length ? wide(x[k]) : 0.f;
            part += value * value;
        }
        sum += part;
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void sum_of_squares_f32(const Chunk *chunks, const float *const *tensors, double *sums) {
    sum_of_squares(chunks, tensors, sums);
}
extern "C" __global__ void sum_of_squares_bf16(const Chunk *chunks, const bf16 *const *tensors, double *sums) {
    sum_of_squares(chunks, tensors, sums);
}
