// AdamW with 8-bit moments, and stochastic rounding. Follows element.cu.
//
// Results have the bits of the host's: arithmetic is that of the intrinsics with _rn, which the compiler does not
// contract, in the host's order.

// The number of elements in a block of a moment, which a warp processes.
#define MOMENTS 256
#define OF_LANE (MOMENTS / 32)

// The code of the nearest value: the number of bounds below x. The 256th bound is infinite. NaN has code 0.
__device__ __forceinline__ unsigned char code_of(const float *bounds, float x) {
    int below = 0;
#pragma unroll
    for (int step = 128; step > 0; step >>= 1)
        if (bounds[below + step - 1] < x) below += step;
    return (unsigned char)below;
}

// The largest of a value over a warp. Values are not NaN.
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
}

// Encodes a lane's elements of a block whose largest magnitude is known. As in bitsandbytes, whole blocks are
// multiplied by the reciprocal, and a partial block is divided.
__device__ __forceinline__ void encode(const float *x, const float *bounds, float largest, int lane, int length,
                                       unsigned char *codes) {
    float divisor = fmaxf(largest, 1e-38f), factor = __fdiv_rn(1.f, divisor);
#pragma unroll
    for (int i = 0; i < OF_LANE; i++) {
        int at = lane + 32 * i;
        if (at < length)
            codes[at] = code_of(bounds, length == MOMENTS ? __fmul_rn(x[i], factor) : __fdiv_rn(x[i], divisor));
    }
}

// One step of AdamW with 8-bit moments. `maps` holds the values and the bounds of the signed map, then those of the
// unsigned one, 256 each.
extern "C" __global__ void adamw_8bit(float *param, const float *gradient, unsigned char *mean, float *mean_largest,
                                      unsigned char *variance, float *variance_largest, const float *maps, i64 count,
                                      float scale, float beta1, float fresh1, float beta2, float fresh2, float keep,
                                      float rate, float root, float eps) {
    __shared__ float tables[4 * 256];
    for (int at = threadIdx.x; at < 4 * 256; at += blockDim.x) tables[at] = maps[at];
    __syncthreads();
    const float *means = tables, *variances = tables + 512;
    int lane = threadIdx.x & 31, warps = blockDim.x / 32;
    i64 blocks = (count + MOMENTS - 1) / MOMENTS;
    for (i64 block = (i64)blockIdx.x * warps + threadIdx.x / 32; block < blocks; block += (i64)gridDim.x * warps) {
        i64 start = block * MOMENTS;
        int length = count - start < MOMENTS ? (int)(count - start) : MOMENTS;
        float scale1 = mean_largest[block], scale2 = variance_largest[block];
        float m[OF_LANE], v[OF_LANE], largest1 = 0.f, largest2 = 0.f;
#pragma unroll
        for (int i = 0; i < OF_LANE; i++) {
            i64 at = start + lane + 32 * i;
            m[i] = v[i] = 0.f;
            if (lane + 32 * i < length) {
                float g = __fmul_rn(gradient[at], scale);
                m[i] = __fmul_rn(means[mean[at]], scale1);
                v[i] = __fmul_rn(variances[variance[at]], scale2);
                m[i] = __fadd_rn(__fmul_rn(m[i], beta1), __fmul_rn(g, fresh1));
                v[i] = __fadd_rn(__fmul_rn(v[i], beta2), __fmul_rn(__fmul_rn(g, g), fresh2));
                float below = __fadd_rn(__fdiv_rn(__fsqrt_rn(v[i]), root), eps);
                param[at] = __fsub_rn(__fmul_rn(param[at], keep), __fdiv_rn(__fmul_rn(rate, m[i]), below));
                // fmaxf passes over NaN.
                largest1 = fmaxf(largest1, fabsf(m[i]));
                largest2 = fmaxf(largest2, fabsf(v[i]));
            }
        }
        largest1 = warp_max(largest1);
        largest2 = warp_max(largest2);
        encode(m, means + 256, largest1, lane, length, mean + start);
        encode(v, variances + 256, largest2, lane, length, variance + start);
        if (lane == 0) {
            mean_largest[block] = largest1;
            variance_largest[block] = largest2;
        }
    }
}

// Rounds to bf16: away from 0 if the sum of the dropped bits and sixteen random bits overflows, else towards 0. The
// bits are SplitMix64 of the key and of an element's position, which begins at `first`.
extern "C" __global__ void round_at_random(const float *x, bf16 *y, i64 count, u64 key, u64 first) {
    for (i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += (i64)gridDim.x * blockDim.x) {
        u32 bits = __float_as_uint(x[at]), magnitude = bits & 0x7fffffffu;
        if (magnitude < 0x7f800000u) {
            u64 z = key + (first + (u64)at + 1) * 0x9e3779b97f4a7c15ull;
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
            z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
            bits += (u32)((z ^ (z >> 31)) >> 48);
        } else if (magnitude > 0x7f800000u) {
            bits |= 0x400000u; // a quiet NaN, whatever is dropped
        }
        y[at].bits = (unsigned short)(bits >> 16);
    }
}
