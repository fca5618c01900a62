// Softmax attention over the packed rows of sequence trees, in bf16 on tensor cores (compute capability 8.0
// and newer), with its backward. Compiled at run time with -DDIM=64 or -DDIM=128; includes nothing.
//
// q, out and their gradients are [queries, heads, DIM], k, v and their gradients [rows, kv_heads, DIM], all
// contiguous. Scores live in registers only: the forward keeps log2 Σ 2^(s·log2 e) of every query and head,
// [heads, queries], and the backward recomputes the scores (Dao, arXiv 2307.08691).
//
// The keys of a query are its chain: the rows of its ancestors from the root down, then its own segment.
// Chains are gathered inside the kernels through `chain`, the row of every position of every chain. A query
// at position p sees the positions p - back ..= p + ahead. All sums have a fixed order, so equal inputs give
// equal bits.

typedef unsigned short bf16;
typedef unsigned int u32;

// Consecutive queries of one segment, at most TILE.
struct Block {
    int first;  // the first row of q
    int count;  // the number of queries
    int chain;  // where the chain begins in `chain`
    int begin;  // the first position that any of the queries sees
    int end;    // one past the last
};

// A part of the work on the gradient of some keys: consecutive rows of one segment, at most TILE, and the
// blocks whose queries see any of them, as a range of `visits`.
struct Item {
    int row;       // the first row of k
    int count;     // the number of rows
    int position;  // the position of the first row
    int begin;     // the first visit
    int end;       // one past the last
    int slot;      // the place of the result among `parts`
};

// Rows of k and v, and the items whose results add up to their gradients.
struct Keys {
    int row;
    int count;
    int slot;   // the first slot
    int slots;  // the number of slots; none for rows that no query sees
};

// The rows of a block of queries, and of an item.
constexpr int TILE = 64;
constexpr int THREADS = 128;  // four warps of sixteen rows each
// The length of a row in shared memory: eight elements more than a head, so that ldmatrix meets no bank
// twice.
constexpr int ROW = DIM + 8;
// The keys of a step of the gradient of q, and the queries of a step of the gradients of k and v: what the
// registers hold.
constexpr int STEP = DIM == 64 ? 64 : 32;
// The thread blocks that share a multiprocessor, which bounds their registers.
constexpr int TOGETHER = DIM == 64 ? 3 : 2;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr float NEVER = -1e30f;

__device__ __forceinline__ u32 shared_address(const void* at) {
    u32 address;
    asm("{ .reg .u64 whole; cvta.to.shared.u64 whole, %1; cvt.u32.u64 %0, whole; }"
        : "=r"(address)
        : "l"(at));
    return address;
}

// Starts a copy of 16 bytes into shared memory, or of zeros.
__device__ __forceinline__ void copy_16(bf16* to, const bf16* from, bool exists) {
    const int bytes = exists ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(bytes)
                 : "memory");
}

__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

template <int PENDING>
__device__ __forceinline__ void wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Starts the copy of ROWS rows into shared memory: row r is `row_of(r)` of `from`, zeros from `count` on.
template <int ROWS, typename RowOf>
__device__ __forceinline__ void copy_rows(bf16* tile, const bf16* from, long long stride, int count,
                                          RowOf row_of) {
    constexpr int PIECES = DIM / 8;
    static_assert(ROWS * PIECES % THREADS == 0, "every thread copies equally many pieces");
#pragma unroll
    for (int i = 0; i < ROWS * PIECES / THREADS; i++) {
        const int at = threadIdx.x + i * THREADS;
        const int row = at / PIECES, column = at % PIECES * 8;
        const bool exists = row < count;
        const bf16* source = exists ? from + row_of(row) * stride + column : from;
        copy_16(tile + row * ROW + column, source, exists);
    }
}

__device__ __forceinline__ void load_matrices(u32 (&x)[4], const bf16* at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(shared_address(at)));
}

__device__ __forceinline__ void load_transposed(u32 (&x)[4], const bf16* at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(shared_address(at)));
}

// The 16 x 16 left operand at a tile's row and column.
__device__ __forceinline__ void load_left(u32 (&x)[4], const bf16* tile, int row, int column) {
    const int lane = threadIdx.x % 32;
    load_matrices(x, tile + (row + lane % 16) * ROW + column + lane / 16 * 8);
}

// Two right operands of a product with the tile's transpose: x[0..2] for the rows `row ..+ 8`, x[2..4] for
// the next eight.
__device__ __forceinline__ void load_right(u32 (&x)[4], const bf16* tile, int row, int column) {
    const int lane = threadIdx.x % 32;
    load_matrices(x, tile + (row + lane % 8 + lane / 16 * 8) * ROW + column + lane / 8 % 2 * 8);
}

// Two right operands of a product with the tile itself: x[0..2] for the columns `column ..+ 8`, x[2..4] for
// the next eight.
__device__ __forceinline__ void load_right_rows(u32 (&x)[4], const bf16* tile, int row, int column) {
    const int lane = threadIdx.x % 32;
    load_transposed(x, tile + (row + lane % 16) * ROW + column + lane / 16 * 8);
}

// sum += left · right for a 16 x 8 sum: a thread has elements 0 and 1 of row lane / 4, 2 and 3 of eight rows
// below, in the columns lane % 4 * 2 and the next.
__device__ __forceinline__ void multiply(float (&sum)[4], const u32 (&left)[4], u32 right_0, u32 right_1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right_0), "r"(right_1));
}

__device__ __forceinline__ u32 pack(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

// The left operand of the columns 16·at ..+ 16 of a sum.
template <int N>
__device__ __forceinline__ void as_left(u32 (&x)[4], const float (&sums)[N][4], int at) {
    x[0] = pack(sums[2 * at][0], sums[2 * at][1]);
    x[1] = pack(sums[2 * at][2], sums[2 * at][3]);
    x[2] = pack(sums[2 * at + 1][0], sums[2 * at + 1][1]);
    x[3] = pack(sums[2 * at + 1][2], sums[2 * at + 1][3]);
}

__device__ __forceinline__ float low(u32 both) { return __uint_as_float(both << 16); }

__device__ __forceinline__ float high(u32 both) { return __uint_as_float(both & 0xffff0000u); }

__device__ __forceinline__ float power_of_2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float log_2(float x) {
    float y;
    asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// The largest number of the four threads that share a row, and their sum.
__device__ __forceinline__ float largest_of_row(float x) {
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ float sum_of_row(float x) {
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

template <int N>
__device__ __forceinline__ void clear(float (&sums)[N][4]) {
#pragma unroll
    for (int i = 0; i < N; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] = 0.0f;
    }
}

// sums[16 x 8·N] += left · tileᵀ, over a whole head; the left operand is given for every 16 of its elements.
template <int N, typename Left>
__device__ __forceinline__ void multiply_heads(float (&sums)[N][4], const bf16* tile, Left left) {
#pragma unroll
    for (int part = 0; part < DIM / 16; part++) {
        u32 a[4];
        left(a, part);
#pragma unroll
        for (int pair = 0; pair < N / 2; pair++) {
            u32 b[4];
            load_right(b, tile, pair * 16, part * 16);
            multiply(sums[2 * pair], a, b[0], b[1]);
            multiply(sums[2 * pair + 1], a, b[2], b[3]);
        }
    }
}

// sums[16 x DIM] += weights[16 x 8·N] · tile
template <int N>
__device__ __forceinline__ void multiply_rows(float (&sums)[DIM / 8][4], const float (&weights)[N][4],
                                              const bf16* tile) {
#pragma unroll
    for (int part = 0; part < N / 2; part++) {
        u32 a[4];
        as_left(a, weights, part);
#pragma unroll
        for (int pair = 0; pair < DIM / 16; pair++) {
            u32 b[4];
            load_right_rows(b, tile, part * 16, pair * 16);
            multiply(sums[2 * pair], a, b[0], b[1]);
            multiply(sums[2 * pair + 1], a, b[2], b[3]);
        }
    }
}

// Writes the sixteen rows of a warp in bf16, through the warp's own rows of a tile that no other warp reads.
__device__ __forceinline__ void write_rows(bf16* to, long long stride, int count, bf16* tile,
                                           const float (&sums)[DIM / 8][4]) {
    const int lane = threadIdx.x % 32, top = threadIdx.x / 32 * 16;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < DIM / 8; i++) {
        bf16* at = tile + (top + lane / 4) * ROW + i * 8 + lane % 4 * 2;
        *reinterpret_cast<u32*>(at) = pack(sums[i][0], sums[i][1]);
        *reinterpret_cast<u32*>(at + 8 * ROW) = pack(sums[i][2], sums[i][3]);
    }
    __syncwarp();
    constexpr int PIECES = DIM / 8;
#pragma unroll
    for (int i = 0; i < 16 * PIECES / 32; i++) {
        const int at = lane + i * 32;
        const int row = top + at / PIECES, column = at % PIECES * 8;
        if (row < count) {
            *reinterpret_cast<uint4*>(to + row * stride + column) =
                *reinterpret_cast<const uint4*>(tile + row * ROW + column);
        }
    }
}

// Shared memory: five tiles of TILE rows.
// Grid [blocks · heads].
extern "C" __global__ void __launch_bounds__(THREADS, TOGETHER)
    attention_forward(const bf16* __restrict__ q, const bf16* __restrict__ k, const bf16* __restrict__ v,
                      bf16* __restrict__ out, float* __restrict__ totals, const Block* __restrict__ blocks,
                      const int* __restrict__ chain, const int* __restrict__ positions, int heads,
                      int kv_heads, int queries, int back, int ahead, float scale) {
    extern __shared__ __align__(16) bf16 shared[];
    bf16* const q_tile = shared;
    bf16* const k_tiles = q_tile + TILE * ROW;
    bf16* const v_tiles = k_tiles + 2 * TILE * ROW;

    const int head = blockIdx.x % heads;
    const Block block = blocks[blockIdx.x / heads];
    const long long q_stride = (long long)heads * DIM, k_stride = (long long)kv_heads * DIM;
    const long long q_start = block.first * q_stride + head * DIM;
    k += head / (heads / kv_heads) * DIM;
    v += head / (heads / kv_heads) * DIM;
    chain += block.chain;

    const int lane = threadIdx.x % 32, top = threadIdx.x / 32 * 16;
    int position[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = min(top + lane / 4 + half * 8, block.count - 1);
        position[half] = positions[block.first + row];
    }
    const int first_position = positions[block.first],
              last_position = positions[block.first + block.count - 1];

    const auto copy_keys = [&](int start, int stage) {
        const auto row_of = [&](int row) { return (long long)chain[start + row]; };
        copy_rows<TILE>(k_tiles + stage * TILE * ROW, k, k_stride, block.end - start, row_of);
        copy_rows<TILE>(v_tiles + stage * TILE * ROW, v, k_stride, block.end - start, row_of);
        commit();
    };
    copy_rows<TILE>(q_tile, q + q_start, q_stride, block.count, [](int row) { return (long long)row; });
    copy_keys(block.begin, 0);

    const float scale_2 = scale * LOG2_E;
    u32 q_left[DIM / 16][4];
    float sums[DIM / 8][4];
    clear(sums);
    float top_score[2] = {NEVER, NEVER}, total[2] = {0.0f, 0.0f};
    const int steps = (block.end - block.begin + TILE - 1) / TILE;
    for (int step = 0; step < steps; step++) {
        const int start = block.begin + step * TILE, stage = step % 2;
        if (step + 1 < steps) {
            copy_keys(start + TILE, 1 - stage);
            wait<1>();
        } else {
            wait<0>();
        }
        __syncthreads();
        if (step == 0) {
#pragma unroll
            for (int part = 0; part < DIM / 16; part++) load_left(q_left[part], q_tile, top, part * 16);
        }
        float scores[TILE / 8][4];
        clear(scores);
        multiply_heads(scores, k_tiles + stage * TILE * ROW, [&](u32(&a)[4], int part) {
#pragma unroll
            for (int i = 0; i < 4; i++) a[i] = q_left[part][i];
        });
        const int last = start + TILE - 1;
        const bool all_seen =
            last < block.end && last <= first_position + ahead && start >= last_position - back;
        if (!all_seen) {
#pragma unroll
            for (int i = 0; i < TILE / 8; i++) {
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const int key = start + i * 8 + lane % 4 * 2 + j % 2, at = position[j / 2];
                    const bool seen = key < block.end && key <= at + ahead && key >= at - back;
                    if (!seen) scores[i][j] = NEVER;
                }
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float best = top_score[half];
#pragma unroll
            for (int i = 0; i < TILE / 8; i++) {
                best = fmaxf(best, fmaxf(scores[i][2 * half], scores[i][2 * half + 1]));
            }
            best = largest_of_row(best);
            const float shrunk = power_of_2((top_score[half] - best) * scale_2);
            // No key of a row seen so far: all its weights must be zero, not 2^0.
            const float level = best == NEVER ? 0.0f : best * scale_2;
            top_score[half] = best;
            float sum = 0.0f;
#pragma unroll
            for (int i = 0; i < TILE / 8; i++) {
#pragma unroll
                for (int j = 2 * half; j < 2 * half + 2; j++) {
                    scores[i][j] = power_of_2(scores[i][j] * scale_2 - level);
                    sum += scores[i][j];
                }
            }
            total[half] = total[half] * shrunk + sum;
#pragma unroll
            for (int i = 0; i < DIM / 8; i++) {
                sums[i][2 * half] *= shrunk;
                sums[i][2 * half + 1] *= shrunk;
            }
        }
        multiply_rows(sums, scores, v_tiles + stage * TILE * ROW);
        __syncthreads();
    }

#pragma unroll
    for (int half = 0; half < 2; half++) {
        const float sum = sum_of_row(total[half]);
        const int row = top + lane / 4 + half * 8;
        if (lane % 4 == 0 && row < block.count) {
            totals[(long long)head * queries + block.first + row] = top_score[half] * scale_2 + log_2(sum);
        }
        const float inverse = 1.0f / sum;
#pragma unroll
        for (int i = 0; i < DIM / 8; i++) {
            sums[i][2 * half] *= inverse;
            sums[i][2 * half + 1] *= inverse;
        }
    }
    write_rows(out + q_start, q_stride, block.count, q_tile, sums);
}

// levels[head, query] = Σ gradient · out over a head. Grid [⌈queries · heads / 4⌉], a warp for each.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_levels(const bf16* __restrict__ out, const bf16* __restrict__ gradient,
                     float* __restrict__ levels, int heads, int queries) {
    const long long at = (long long)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    if (at >= (long long)queries * heads) return;
    const int lane = threadIdx.x % 32;
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < DIM / 64; i++) {
        const long long pair = at * (DIM / 2) + i * 32 + lane;
        const u32 x = reinterpret_cast<const u32*>(out)[pair],
                  y = reinterpret_cast<const u32*>(gradient)[pair];
        sum += low(x) * low(y) + high(x) * high(y);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    if (lane == 0) levels[at % heads * queries + at / heads] = sum;
}

// With P the probabilities and dS = P ∘ (dO·Vᵀ − levels): dQ = scale · dS·K. Grid [blocks · heads]. Shared
// memory: two tiles of TILE rows and four of STEP rows.
extern "C" __global__ void __launch_bounds__(THREADS, TOGETHER)
    attention_backward_queries(const bf16* __restrict__ q, const bf16* __restrict__ k,
                               const bf16* __restrict__ v, const bf16* __restrict__ gradient,
                               const float* __restrict__ totals, const float* __restrict__ levels,
                               bf16* __restrict__ d_q, const Block* __restrict__ blocks,
                               const int* __restrict__ chain, const int* __restrict__ positions, int heads,
                               int kv_heads, int queries, int back, int ahead, float scale) {
    extern __shared__ __align__(16) bf16 shared[];
    bf16* const q_tile = shared;
    bf16* const g_tile = q_tile + TILE * ROW;
    bf16* const k_tiles = g_tile + TILE * ROW;
    bf16* const v_tiles = k_tiles + 2 * STEP * ROW;

    const int head = blockIdx.x % heads;
    const Block block = blocks[blockIdx.x / heads];
    const long long q_stride = (long long)heads * DIM, k_stride = (long long)kv_heads * DIM;
    const long long q_start = block.first * q_stride + head * DIM;
    k += head / (heads / kv_heads) * DIM;
    v += head / (heads / kv_heads) * DIM;
    chain += block.chain;

    const int lane = threadIdx.x % 32, top = threadIdx.x / 32 * 16;
    int position[2];
    float total[2], level[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = top + lane / 4 + half * 8;
        position[half] = positions[block.first + min(row, block.count - 1)];
        const long long at = (long long)head * queries + block.first + row;
        total[half] = row < block.count ? totals[at] : 0.0f;
        level[half] = row < block.count ? levels[at] : 0.0f;
    }
    const int first_position = positions[block.first],
              last_position = positions[block.first + block.count - 1];

    const auto copy_keys = [&](int start, int stage) {
        const auto row_of = [&](int row) { return (long long)chain[start + row]; };
        copy_rows<STEP>(k_tiles + stage * STEP * ROW, k, k_stride, block.end - start, row_of);
        copy_rows<STEP>(v_tiles + stage * STEP * ROW, v, k_stride, block.end - start, row_of);
        commit();
    };
    const auto own_row = [](int row) { return (long long)row; };
    copy_rows<TILE>(q_tile, q + q_start, q_stride, block.count, own_row);
    copy_rows<TILE>(g_tile, gradient + q_start, q_stride, block.count, own_row);
    copy_keys(block.begin, 0);

    const float scale_2 = scale * LOG2_E;
    u32 q_left[DIM / 16][4], g_left[DIM / 16][4];
    float sums[DIM / 8][4];
    clear(sums);
    const int steps = (block.end - block.begin + STEP - 1) / STEP;
    for (int step = 0; step < steps; step++) {
        const int start = block.begin + step * STEP, stage = step % 2;
        if (step + 1 < steps) {
            copy_keys(start + STEP, 1 - stage);
            wait<1>();
        } else {
            wait<0>();
        }
        __syncthreads();
        if (step == 0) {
#pragma unroll
            for (int part = 0; part < DIM / 16; part++) {
                load_left(q_left[part], q_tile, top, part * 16);
                load_left(g_left[part], g_tile, top, part * 16);
            }
        }
        const bf16* const k_tile = k_tiles + stage * STEP * ROW;
        float weights[STEP / 8][4], slopes[STEP / 8][4];
        clear(weights);
        clear(slopes);
        multiply_heads(weights, k_tile, [&](u32(&a)[4], int part) {
#pragma unroll
            for (int i = 0; i < 4; i++) a[i] = q_left[part][i];
        });
        multiply_heads(slopes, v_tiles + stage * STEP * ROW, [&](u32(&a)[4], int part) {
#pragma unroll
            for (int i = 0; i < 4; i++) a[i] = g_left[part][i];
        });
        const int last = start + STEP - 1;
        const bool all_seen =
            last < block.end && last <= first_position + ahead && start >= last_position - back;
#pragma unroll
        for (int i = 0; i < STEP / 8; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float weight = power_of_2(weights[i][j] * scale_2 - total[j / 2]);
                const int key = start + i * 8 + lane % 4 * 2 + j % 2, at = position[j / 2];
                const bool seen = all_seen || (key < block.end && key <= at + ahead && key >= at - back);
                weights[i][j] = seen ? weight * (slopes[i][j] - level[j / 2]) : 0.0f;
            }
        }
        multiply_rows(sums, weights, k_tile);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < DIM / 8; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) sums[i][j] *= scale;
    }
    write_rows(d_q + q_start, q_stride, block.count, q_tile, sums);
}

// The parts of dV = Pᵀ·dO and dK = scale · dSᵀ·Q that an item's queries give, f32 [slots, 2, TILE, kv_heads,
// DIM] with dK first. Grid [items · kv_heads]. Shared memory: two tiles of TILE rows, four of STEP rows, and
// six lists of STEP numbers of 4 bytes.
extern "C" __global__ void __launch_bounds__(THREADS, TOGETHER)
    attention_backward_keys(const bf16* __restrict__ q, const bf16* __restrict__ k,
                            const bf16* __restrict__ v, const bf16* __restrict__ gradient,
                            const float* __restrict__ totals, const float* __restrict__ levels,
                            float* __restrict__ parts, const Block* __restrict__ blocks,
                            const Item* __restrict__ items, const int* __restrict__ visits,
                            const int* __restrict__ positions, int heads, int kv_heads, int queries, int back,
                            int ahead, float scale) {
    extern __shared__ __align__(16) bf16 shared[];
    bf16* const k_tile = shared;
    bf16* const v_tile = k_tile + TILE * ROW;
    bf16* const q_tiles = v_tile + TILE * ROW;
    bf16* const g_tiles = q_tiles + 2 * STEP * ROW;
    float* const total_of = reinterpret_cast<float*>(g_tiles + 2 * STEP * ROW);
    float* const level_of = total_of + 2 * STEP;
    int* const position_of = reinterpret_cast<int*>(level_of + 2 * STEP);

    const int kv_head = blockIdx.x % kv_heads, group = heads / kv_heads;
    const Item item = items[blockIdx.x / kv_heads];
    const long long q_stride = (long long)heads * DIM, k_stride = (long long)kv_heads * DIM;
    const long long k_start = item.row * k_stride + kv_head * DIM;
    const int lane = threadIdx.x % 32, top = threadIdx.x / 32 * 16;

    // A step is a part of a block, for one head of the group.
    constexpr int PARTS = TILE / STEP;
    const int steps = (item.end - item.begin) * group * PARTS;
    const auto own_row = [](int row) { return (long long)row; };
    const auto copy_queries = [&](int step, int stage) {
        const Block block = blocks[visits[item.begin + step / (group * PARTS)]];
        const int head = kv_head * group + step / PARTS % group, part = step % PARTS * STEP;
        const int first = block.first + part, count = block.count - part;
        const long long start = first * q_stride + head * DIM;
        copy_rows<STEP>(q_tiles + stage * STEP * ROW, q + start, q_stride, count, own_row);
        copy_rows<STEP>(g_tiles + stage * STEP * ROW, gradient + start, q_stride, count, own_row);
        commit();
        if (threadIdx.x < STEP) {
            const bool exists = (int)threadIdx.x < count;
            const long long at = (long long)head * queries + first + threadIdx.x;
            total_of[stage * STEP + threadIdx.x] = exists ? totals[at] : 0.0f;
            level_of[stage * STEP + threadIdx.x] = exists ? levels[at] : 0.0f;
            // Missing queries have no gradient, so any position does; the block's last keeps the order.
            position_of[stage * STEP + threadIdx.x] =
                positions[block.first + min(part + (int)threadIdx.x, block.count - 1)];
        }
    };
    copy_rows<TILE>(k_tile, k + k_start, k_stride, item.count, own_row);
    copy_rows<TILE>(v_tile, v + k_start, k_stride, item.count, own_row);
    copy_queries(0, 0);

    const float scale_2 = scale * LOG2_E;
    // Heads of 64 leave registers for the keys and values; those of 128 are read from shared memory every
    // time.
    constexpr int KEPT = DIM == 64 ? DIM / 16 : 1;
    u32 k_left[KEPT][4], v_left[KEPT][4];
    float d_keys[DIM / 8][4], d_values[DIM / 8][4];
    clear(d_keys);
    clear(d_values);
    for (int step = 0; step < steps; step++) {
        const int stage = step % 2;
        if (step + 1 < steps) {
            copy_queries(step + 1, 1 - stage);
            wait<1>();
        } else {
            wait<0>();
        }
        __syncthreads();
        if (step == 0 && DIM == 64) {
#pragma unroll
            for (int part = 0; part < KEPT; part++) {
                load_left(k_left[part], k_tile, top, part * 16);
                load_left(v_left[part], v_tile, top, part * 16);
            }
        }
        const bf16* const q_tile = q_tiles + stage * STEP * ROW;
        const bf16* const g_tile = g_tiles + stage * STEP * ROW;
        const int* const position = position_of + stage * STEP;
        float weights[STEP / 8][4], slopes[STEP / 8][4];  // [16 keys, STEP queries]
        clear(weights);
        multiply_heads(weights, q_tile, [&](u32(&a)[4], int part) {
            if (DIM == 64) {
#pragma unroll
                for (int i = 0; i < 4; i++) a[i] = k_left[part % KEPT][i];
            } else {
                load_left(a, k_tile, top, part * 16);
            }
        });
        const bool all_seen =
            item.position + TILE - 1 <= position[0] + ahead && item.position >= position[STEP - 1] - back;
#pragma unroll
        for (int i = 0; i < STEP / 8; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int query = i * 8 + lane % 4 * 2 + j % 2;
                const int key = item.position + top + lane / 4 + j / 2 * 8, at = position[query];
                const bool seen = all_seen || (key <= at + ahead && key >= at - back);
                const float weight = power_of_2(weights[i][j] * scale_2 - total_of[stage * STEP + query]);
                weights[i][j] = seen ? weight : 0.0f;
            }
        }
        multiply_rows(d_values, weights, g_tile);
        clear(slopes);
        multiply_heads(slopes, g_tile, [&](u32(&a)[4], int part) {
            if (DIM == 64) {
#pragma unroll
                for (int i = 0; i < 4; i++) a[i] = v_left[part % KEPT][i];
            } else {
                load_left(a, v_tile, top, part * 16);
            }
        });
#pragma unroll
        for (int i = 0; i < STEP / 8; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int query = i * 8 + lane % 4 * 2 + j % 2;
                weights[i][j] *= slopes[i][j] - level_of[stage * STEP + query];
            }
        }
        multiply_rows(d_keys, weights, q_tile);
        __syncthreads();
    }

    const long long size = (long long)TILE * k_stride;
    float* const keys_out = parts + item.slot * 2 * size + kv_head * DIM;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int row = top + lane / 4 + half * 8;
        if (row < item.count) {
#pragma unroll
            for (int i = 0; i < DIM / 8; i++) {
                float* const at = keys_out + row * k_stride + i * 8 + lane % 4 * 2;
                *reinterpret_cast<float2*>(at) =
                    make_float2(d_keys[i][2 * half] * scale, d_keys[i][2 * half + 1] * scale);
                *reinterpret_cast<float2*>(at + size) =
                    make_float2(d_values[i][2 * half], d_values[i][2 * half + 1]);
            }
        }
    }
}

// Adds up the parts of every row in the order of the slots. Grid [keys, TILE / 8, 2]: eight rows of dK or of
// dV.
extern "C" __global__ void __launch_bounds__(THREADS)
    attention_sum_keys(const float* __restrict__ parts, bf16* __restrict__ d_k, bf16* __restrict__ d_v,
                       const Keys* __restrict__ all_keys, int kv_heads) {
    const Keys keys = all_keys[blockIdx.x];
    const int width = kv_heads * DIM;
    const long long size = (long long)TILE * width;
    const int first = blockIdx.y * 8, rows = min(8, keys.count - first);
    bf16* const to = (blockIdx.z == 0 ? d_k : d_v) + ((long long)keys.row + first) * width;
    const float* const from = parts + (2ll * keys.slot + blockIdx.z) * size + (long long)first * width;
    for (int at = threadIdx.x * 4; at < rows * width; at += THREADS * 4) {
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (int slot = 0; slot < keys.slots; slot++) {
            const float4 part = *reinterpret_cast<const float4*>(from + 2 * slot * size + at);
            sum.x += part.x;
            sum.y += part.y;
            sum.z += part.z;
            sum.w += part.w;
        }
        *reinterpret_cast<uint2*>(to + at) = make_uint2(pack(sum.x, sum.y), pack(sum.z, sum.w));
    }
}
