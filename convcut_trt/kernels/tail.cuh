// The tail of Conv-cut in one launch: from the map [N, C, P] of the trunk to logits and probabilities [N, K].
//
//   pool (mean over the P positions) -> [projection: linear, ReLU, scale and shift] -> attention -> head
//   -> softmax(logits / T);   spatial attention comes first, over the positions, and then the pool
//
// One block of 256 threads does one face. Blocks share nothing, and every sum has a fixed order, so a face has
// the same answer to the last bit in any batch and at any place in it. All arithmetic is FP32.
//
// How to read it: a block is 8 warps of 32 lanes. Shared memory is the block's own scratch; __syncthreads() lets
// nobody go on before everybody has come, so what stands above it is written when what stands below reads. A
// warp adds up its lanes by shuffles, each of which hands every lane the value of another lane.
//
// `#pragma unroll 1` stands where a copy of a large loop body would only make the code longer.
//
// What it costs, for one face, C = 256, P = 9, K = 8, FP16 map (channel / spatial attention):
//   operations   0.33 M: C x C exponentials and 4 more operations on each / 0.03 M: P(P+1)/2 dot products of C
//   bytes        4.6 KB of map and 8 KB of head, from the L2 cache where the trunk left them; 64 B out
//   floor        bandwidth: 3 ns at 4.8 TB/s (H200), 45 ns at 288 GB/s (RTX 4060 Ti), from memory even.
//                arithmetic: a multiprocessor does 16 exponentials a clock: 4096 clocks, 2.1 us at 1.98 GHz,
//                for channel attention at C = 256; 64 clocks at C = 32; spatial attention needs P x P of them.
//                launch: 2 to 3 us. So the launch is the floor, and one launch in place of the 5 to 10 of a
//                graph is what this kernel gains. It does not gain bandwidth: there is hardly any to gain.
// The figures are arithmetic on data sheets, not measurements.
#pragma once

// TAIL_WITHOUT_HALF: kernels for FP32 maps alone need no header of the toolkit, which a robot may lack.
#if defined(__CUDACC__) && !defined(TAIL_WITHOUT_HALF)
#include <cuda_fp16.h>
#endif

constexpr int kTailThreads = 256;
constexpr int kTailWarps = kTailThreads / 32;
constexpr int kTailParts = 8;  // of the sums over channels
constexpr float kTailLargest = 3.4e38f;
constexpr int kTailStaged = 6144;  // floats of the map in shared memory at a time: 24 KB

enum class Layout { nchw, nhwc };
// batch is what the paper's released code computes: softmax(s Y Y^T) Y over the faces of a batch. It is here to
// reproduce that: a face's answer then depends on its neighbours, and every block computes all faces anew.
enum class Attention { none, channel, spatial, batch };

struct TailShape {
    int faces, channels, positions;
    int projection;  // units, 0 for none
    int classes;
};

// Shared memory, in floats, one part behind the other. Python's tail.shared_bytes says the same.
struct TailRoom {
    int chunk;    // channels staged at a time
    int stride;   // of a channel in staged: odd, so that 32 lanes reading 32 channels meet 32 banks
    int staged, weights, scores, pooled, features, own, sum, logits, floats;

    __host__ __device__ TailRoom(TailShape shape, Attention attention) {
        const int width = shape.projection ? shape.projection : shape.channels;
        stride = shape.positions | 1;
        chunk = kTailStaged / stride < shape.channels ? kTailStaged / stride : shape.channels;
        staged = 0;
        weights = staged + chunk * stride;
        scores = weights + shape.positions;
        pooled = scores + (attention == Attention::spatial ? shape.positions * shape.positions : 0);
        features = pooled + (width > shape.channels ? width : shape.channels);  // attention writes there too
        own = features + width;
        sum = own + (attention == Attention::batch ? width : 0);
        logits = sum + (attention == Attention::batch ? width : 0);
        floats = logits + shape.classes;
    }
};

// The parameters, in the order of Python's Tail.pack().
struct TailParameters {
    const float *projection, *projection_bias, *scale, *shift, *head, *head_bias;
    float score;    // score scale * log2(e): softmax by powers of two
    float sharpen;  // log2(e) / T

    __device__ TailParameters(const float* at, TailShape shape) {
        const int width = shape.projection ? shape.projection : shape.channels;
        score = at[0];
        sharpen = at[1];
        projection = at + 2;
        projection_bias = projection + shape.projection * shape.channels;
        scale = projection_bias + shape.projection;
        shift = scale + shape.projection;
        head = shift + shape.projection;
        head_bias = head + shape.classes * width;
    }
};

__device__ inline float to_float(float value) { return value; }
#ifndef TAIL_WITHOUT_HALF
__device__ inline float to_float(__half value) { return __half2float(value); }
#endif

// 2^x with a relative error below 2^-22: the GPU's own instruction, which flushes results below 2^-126 to zero.
__device__ inline float power_of_two(float x) {
#ifdef __CUDA_ARCH__
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return exp2f(x);
#endif
}

__device__ inline float warp_sum(float value) {
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}
__device__ inline float warp_max(float value) {
    for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
    return value;
}
// The smallest and the largest of values, in every lane. NaN is passed over: it comes back in what is computed next.
__device__ inline void warp_range(const float* values, int count, float& low, float& high) {
    low = kTailLargest, high = -kTailLargest;
    for (int n = int(threadIdx.x) % 32; n < count; n += 32) low = fminf(low, values[n]), high = fmaxf(high, values[n]);
    low = -warp_max(-low);
    high = warp_max(high);
}

__device__ inline float dot(const float* a, const float* b, int count, int stride) {
    float sum = 0;
    for (int n = int(threadIdx.x) % 32; n < count; n += 32) sum = fmaf(a[n * stride], b[n * stride], sum);
    return warp_sum(sum);
}

// finish(row, weight[row] . x) for every row of a linear layer: one warp a row.
template <typename Finish>
__device__ void linear(const float* weight, const float* x, int inputs, int outputs, Finish finish) {
    for (int row = int(threadIdx.x) / 32; row < outputs; row += kTailWarps) {
        const float sum = dot(weight + row * inputs, x, inputs, 1);
        if (threadIdx.x % 32 == 0) finish(row, sum);
    }
}

// Copies channels [first, first + count) of a face's map to staged, [channel][position]. Threads read neighbours.
template <Layout layout, typename Element>
__device__ void stage(const Element* map, TailShape shape, int first, int count, int stride, float* staged) {
    // inner runs fastest in memory; stepping the pair (outer, inner) on saves a division for every element.
    const int inner_size = layout == Layout::nchw ? shape.positions : count;
    const int outer_step = kTailThreads / inner_size, inner_step = kTailThreads % inner_size;
    int outer = int(threadIdx.x) / inner_size, inner = int(threadIdx.x) % inner_size;
#pragma unroll 4
    for (int n = int(threadIdx.x); n < count * shape.positions; n += kTailThreads) {
        const int channel = layout == Layout::nchw ? outer : inner;
        const int position = layout == Layout::nchw ? inner : outer;
        const int from = layout == Layout::nchw ? (first + channel) * shape.positions + position
                                                : position * shape.channels + first + channel;
        staged[channel * stride + position] = to_float(map[from]);
        outer += outer_step;
        inner += inner_step;
        if (inner >= inner_size) inner -= inner_size, ++outer;
    }
}

// scores[i][j] += z_i . z_j over the staged channels, one warp a pair i <= j.
__device__ inline void add_scores(const float* staged, int positions, int count, int stride, float* scores) {
    int i = 0, beyond = int(threadIdx.x) / 32;  // j = i + beyond
#pragma unroll 1
    while (true) {
        while (i < positions && beyond >= positions - i) beyond -= positions - i, ++i;
        if (i == positions) return;
        const float sum = dot(staged + i, staged + i + beyond, count, stride);
        if (threadIdx.x % 32 == 0) scores[i * positions + i + beyond] += sum;
        beyond += kTailWarps;
    }
}

// Turns scores (upper half) into what each position weighs in the mean of the attended ones: the mean over the
// rows i of softmax_j(s z_i . z_j). The attended map itself is never needed.
__device__ inline void softmax_positions(float* scores, int positions, float score, float* weights) {
    const int lane = int(threadIdx.x) % 32;
    for (int n = int(threadIdx.x); n < positions * positions; n += kTailThreads) {
        const int i = n / positions, j = n % positions;
        if (i > j) scores[n] = scores[j * positions + i];
    }
    __syncthreads();
#pragma unroll 1
    for (int i = int(threadIdx.x) / 32; i < positions; i += kTailWarps) {
        float* row = scores + i * positions;
        float low, high, sum = 0;
        warp_range(row, positions, low, high);
        // The largest of s * row[j], taken away before the product: then the largest power is exactly 1.
        const float largest = score < 0 ? low : high;
        for (int j = lane; j < positions; j += 32) sum += row[j] = power_of_two(score * (row[j] - largest));
        sum = warp_sum(sum);
        for (int j = lane; j < positions; j += 32) row[j] /= sum;
    }
    __syncthreads();
    for (int j = int(threadIdx.x); j < positions; j += kTailThreads) {
        float sum = 0;
        for (int i = 0; i < positions; ++i) sum += scores[i * positions + j];
        weights[j] = sum / float(positions);
    }
    __syncthreads();
}

// The C values of a face behind the pool, into pooled: the mean over its positions, weighted where they attended.
template <Layout layout, Attention attention, typename Element>
__device__ void pool(const Element* map, TailShape shape, const TailRoom& room, float score, float* shared) {
    float *staged = shared + room.staged, *weights = shared + room.weights, *scores = shared + room.scores;
    const int positions = shape.positions;
    if (attention == Attention::spatial)
        for (int n = int(threadIdx.x); n < positions * positions; n += kTailThreads) scores[n] = 0;
#pragma unroll 1
    for (int pass = attention == Attention::spatial ? 0 : 1; pass < 2; ++pass) {
        // What is still there from the pass before need not come again.
        const bool fresh = pass == 0 || attention != Attention::spatial || room.chunk < shape.channels;
#pragma unroll 1
        for (int first = 0; first < shape.channels; first += room.chunk) {
            const int left = shape.channels - first, count = left < room.chunk ? left : room.chunk;
            if (fresh) stage<layout>(map, shape, first, count, room.stride, staged);
            __syncthreads();
            if (pass == 0) {
                add_scores(staged, positions, count, room.stride, scores);
            } else {
                for (int channel = int(threadIdx.x); channel < count; channel += kTailThreads) {
                    const float* values = staged + channel * room.stride;
                    float sum = 0;
                    for (int position = 0; position < positions; ++position)
                        sum = attention == Attention::spatial ? fmaf(weights[position], values[position], sum)
                                                              : sum + values[position];
                    // One division at the end: sums of opposite values then cancel to exactly zero, which
                    // channel attention can tell from nearly zero.
                    shared[room.pooled + first + channel] =
                        attention == Attention::spatial ? sum : sum / float(positions);
                }
            }
            __syncthreads();
        }
        if (pass == 0) softmax_positions(scores, positions, score, weights);
    }
}

// Pool and projection. Returns where the values lie: all threads may read them.
template <Layout layout, Attention attention, typename Element>
__device__ const float* front(const Element* map, TailShape shape, const TailRoom& room,
                              const TailParameters& parameters, float* shared) {
    pool<layout, attention>(map, shape, room, parameters.score, shared);
    if (shape.projection == 0) return shared + room.pooled;
    float* features = shared + room.features;
    linear(parameters.projection, shared + room.pooled, shape.channels, shape.projection,
           [&](int row, float sum) {
               sum += parameters.projection_bias[row];
               sum = sum < 0 ? 0 : sum;  // fmaxf would turn NaN into 0
               features[row] = fmaf(sum, parameters.scale[row], parameters.shift[row]);
           });
    __syncthreads();
    return features;
}

// out_i = sum_j softmax_j(s y_i y_j) y_j. The largest of t * y_j, t = s y_i, is at the largest or the smallest y by
// the sign of t, so that no thread has to look for it; taken away from y first, no power exceeds 1.
__device__ inline void attend_channels(const float* y, int width, float score, float* out) {
    float low, high;
    warp_range(y, width, low, high);
    for (int i = int(threadIdx.x); i < width; i += kTailThreads) {
        const float t = score * y[i], largest = t < 0 ? low : high;
        // In parts: each sum is of so few terms that its rounding stays small beside largest, which goes in last.
        float powers[kTailParts] = {}, sums[kTailParts] = {};
        for (int first = 0; first < width; first += kTailParts) {
#pragma unroll
            for (int part = 0; part < kTailParts; ++part) {
                const int j = first + part;
                if (j < width) {
                    const float below = y[j] - largest, power = power_of_two(t * below);
                    powers[part] += power;
                    sums[part] = fmaf(power, below, sums[part]);
                }
            }
        }
        float all_powers = 0, sum = 0;
#pragma unroll
        for (int part = 0; part < kTailParts; ++part) all_powers += powers[part], sum += sums[part];
        out[i] = largest + sum / all_powers;
    }
}

template <typename Element, Layout layout, Attention attention>
__device__ void tail(const Element* map, const float* packed, float* logits, float* probabilities, TailShape shape,
                     float* shared) {
    const TailRoom room(shape, attention);
    const TailParameters parameters(packed, shape);
    const int thread = int(threadIdx.x), width = shape.projection ? shape.projection : shape.channels;
    const unsigned long long face = blockIdx.x, size = 1ull * shape.channels * shape.positions;

    const float* y = front<layout, attention>(map + face * size, shape, room, parameters, shared);
    if (attention == Attention::channel) {
        // Pooled and features take turns: neither is read while it is written.
        float* out = shared + (shape.projection ? room.pooled : room.features);
        attend_channels(y, width, parameters.score, out);
        __syncthreads();
        y = out;
    }
    if (attention == Attention::batch) {
        float *own = shared + room.own, *mean = shared + room.sum;
        for (int n = thread; n < width; n += kTailThreads) own[n] = y[n], mean[n] = 0;
        // A softmax that goes along: what was added up shrinks whenever a larger score appears.
        float largest = -kTailLargest, powers = 0;
#pragma unroll 1
        for (int other = 0; other < shape.faces; ++other) {
            y = front<layout, attention>(map + other * size, shape, room, parameters, shared);
            const float scaled = parameters.score * dot(own, y, width, 1), before = largest;
            largest = fmaxf(largest, scaled);
            const float shrink = power_of_two(before - largest), power = power_of_two(scaled - largest);
            powers = powers * shrink + power;
            for (int n = thread; n < width; n += kTailThreads) mean[n] = mean[n] * shrink + power * y[n];
        }
        for (int n = thread; n < width; n += kTailThreads) mean[n] /= powers;
        __syncthreads();
        y = mean;
    }

    float* scores = shared + room.logits;
    linear(parameters.head, y, width, shape.classes, [&](int row, float sum) {
        sum += parameters.head_bias[row];
        scores[row] = sum;
        logits[face * shape.classes + row] = sum;
    });
    __syncthreads();
    if (thread < 32) {
        float smallest, largest, sum = 0;
        warp_range(scores, shape.classes, smallest, largest);
        for (int k = thread; k < shape.classes; k += 32)
            sum += scores[k] = power_of_two(parameters.sharpen * (scores[k] - largest));
        sum = warp_sum(sum);
        for (int k = thread; k < shape.classes; k += 32)
            probabilities[face * shape.classes + k] = scores[k] / sum;
    }
}
