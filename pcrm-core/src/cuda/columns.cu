// Operations on the columns of a matrix: biases and their gradients. Follows element.cu.

// x[row, column] += bias[column], in place.
template <typename T>
__device__ void add_bias(T *x, const T *bias, i64 count, int width) {
    const int P = Pack<T>::size;
    float a[P], b[P];
    for (i64 at = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * P; at < count; at += (i64)gridDim.x * blockDim.x * P) {
        load(x + at, a);
        load(bias + at % width, b);
#pragma unroll
        for (int i = 0; i < P; i++) a[i] += b[i];
        store(a, x + at);
    }
}

// y[part, column] = Σ x[row, column] over the rows of a part, in a fixed order. Blocks are 32 packs wide and 8 rows
// high; the grid is [packs / 32, parts].
template <typename T, typename Y>
__device__ void column_sums(const T *x, Y *y, int rows, int width) {
    const int P = Pack<T>::size;
    __shared__ float sums[8][32 * P];
    int lane = threadIdx.x % 32, line = threadIdx.x / 32;
    int column = (blockIdx.x * 32 + lane) * P;
    float sum[P], a[P];
#pragma unroll
    for (int i = 0; i < P; i++) sum[i] = 0.f;
    if (column < width) {
        for (int row = blockIdx.y * 8 + line; row < rows; row += gridDim.y * 8) {
            load(x + (i64)row * width + column, a);
#pragma unroll
            for (int i = 0; i < P; i++) sum[i] += a[i];
        }
    }
#pragma unroll
    for (int i = 0; i < P; i++) sums[line][lane * P + i] = sum[i];
    __syncthreads();
    for (int at = threadIdx.x; at < 32 * P; at += blockDim.x) {
        int own = blockIdx.x * 32 * P + at;
        if (own < width) {
            float total = 0.f;
#pragma unroll
            for (int i = 0; i < 8; i++) total += sums[i][at];
            y[(i64)blockIdx.y * width + own] = narrow<Y>(total);
        }
    }
}

#define COLUMNS(T, name)                                                                                    \
    extern "C" __global__ void add_bias_##name(T *x, const T *bias, i64 count, int width) {                 \
        add_bias(x, bias, count, width);                                                                    \
    }                                                                                                       \
    extern "C" __global__ void column_parts_##name(const T *x, float *parts, int rows, int width) {         \
        column_sums(x, parts, rows, width);                                                                 \
    }                                                                                                       \
    extern "C" __global__ void column_sums_##name(const float *parts, T *y, int rows, int width) {          \
        column_sums(parts, y, rows, width);                                                                 \
    }
COLUMNS(float, f32)
COLUMNS(bf16, bf16)
