// The elements of all kernels: f32 or bf16, read and written 16 bytes at once, computed in f32.
//
// Compiled at run time by NVRTC, without any header, together with the kernels that follow.

typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct bf16 {
    unsigned short bits;
};

__device__ __forceinline__ float wide(float x) { return x; }
__device__ __forceinline__ float wide(bf16 x) { return __uint_as_float((u32)x.bits << 16); }

template <typename T> __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
// Rounds to the nearest, ties to even.
template <> __device__ __forceinline__ bf16 narrow<bf16>(float x) {
    u32 bits = __float_as_uint(x);
    bf16 y;
    y.bits = (x != x) ? 0x7fff : (unsigned short)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    return y;
}

template <typename T> struct Pack;
template <> struct Pack<float> {
    static const int size = 4;
};
template <> struct Pack<bf16> {
    static const int size = 8;
};

template <typename T> __device__ __forceinline__ void load(const T *from, float *to) {
    union {
        uint4 all;
        T each[Pack<T>::size];
    } pack;
    pack.all = *reinterpret_cast<const uint4 *>(from);
#pragma unroll
    for (int i = 0; i < Pack<T>::size; i++) to[i] = wide(pack.each[i]);
}

template <typename T> __device__ __forceinline__ void store(const float *from, T *to) {
    union {
        uint4 all;
        T each[Pack<T>::size];
    } pack;
#pragma unroll
    for (int i = 0; i < Pack<T>::size; i++) pack.each[i] = narrow<T>(from[i]);
    *reinterpret_cast<uint4 *>(to) = pack.all;
}

// Sums a value over the block; every thread gets the sum. Blocks have at most 1024 threads.
template <typename V> __device__ __forceinline__ V block_sum(V x) {
    __shared__ V parts[32];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = (blockDim.x + 31) >> 5;
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(0xffffffffu, x, step);
    __syncthreads();
    if (lane == 0) parts[warp] = x;
    __syncthreads();
    x = lane < warps ? parts[lane] : V(0);
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}
