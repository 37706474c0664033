// Face boxes of one camera frame -> the engine's input, uint8 RGB [N, size, size, 3], in one launch.
//
// The rule is that of convcut_trt/preprocess.py, bit for bit: Pillow's resize(BILINEAR, box=...). It is done in
// whole numbers. An output pixel looks at a window of the source, a triangle around its centre that is wide
// enough that no source pixel is skipped. The weights of a window are rounded to 22 bits behind the point. First
// every row is made narrow, then every column short; each pass rounds its sums to 8 bits.
//
//   source, one face          lines                      face
//   +---------------+         +------+
//   |               |  rows   |      |  columns          +------+
//   |     crop      | ------> |      | -------->         |      |
//   |               |         |      |                   +------+
//   +---------------+         +------+
//
// One block makes one tile of one face, `rows` x `columns` output pixels, in four steps with a barrier between:
//   1. one thread an output row or column: where its window lies, and the sum of its weights (double)
//   2. one thread a weight: the triangle over that sum, as a whole number
//   3. one thread a pixel of `lines`: source rows of the tile, made narrow, kept in shared memory
//   4. one thread a byte of the result: the columns of `lines`
//
// Why device and host agree: +, -, * and / of doubles are correctly rounded on both (IEEE 754), in the order of
// Pillow's C. nvcc would fuse a * b + c, which rounds once and not twice: mul() forbids it. The weights that step 2
// leaves are whole numbers, and so are all sums of them: any order gives the same.
//
// Operations and bytes, for a face whose crop has `side` pixels a side, s = max(side / size, 1), c channels:
//   multiply-adds   step 3: c * size * side * 2s, step 4: c * size * size * 2s, so 2c * (side^2 + size * side)
//                   when shrinking; rows at the edges of tiles are made twice, (rows + 1) / rows times step 3
//   double          about 20 operations a weight, 2s weights an output row and column of every tile
//   bytes           side^2 * bytes of a pixel read once from memory (again from the cache), 3 * size^2 written
// Floor: 8 faces of 300 x 300 pixels in rgb8 to 48 x 48 move 2.2 MB: 0.46 microseconds at the 4.8 TB/s of an
// H200's datasheet, 21 at the 102 GB/s of an Orin NX's. Their 5.0 million multiply-adds take less. So the launch
// and the four barriers are the floor on a large GPU. Not measured.
#pragma once

namespace convcut {

enum class Format { rgb8, bgr8, rgba8, mono8, nv12 };

constexpr int kBits = 22;  // of a weight's fraction: Pillow's PRECISION_BITS

struct Frame {
    const unsigned char* pixels;
    const unsigned char* chroma;  // of nv12: rows of U, V pairs, each for 2 x 2 pixels; the same pitch
    long long pitch;              // bytes from row to row
    int width, height;
};

// How the work is cut. The host chooses it so that the shared memory suffices for the largest box.
struct Tile {
    int size;           // of a face
    int rows, columns;  // of a tile, in output pixels
    int taps;           // at least 2 * ceil(s) + 1, odd: then no two threads of step 3 meet in a bank
};

// a * b, never fused with an addition.
__device__ __forceinline__ double mul(double a, double b) {
#ifdef __CUDA_ARCH__
    return __dmul_rn(a, b);
#else
    return a * b;  // the host compiler is told -ffp-contract=off
#endif
}

// The triangle around an output pixel's centre, 1 / inverse wide to each side.
__device__ __forceinline__ double triangle(double centre, double inverse, int pixel) {
    const double distance = fabs(mul(pixel - centre + 0.5, inverse));
    return distance < 1.0 ? 1.0 - distance : 0.0;
}

// Reads one pixel of a row into c[0], c[1], c[2]: red, green, blue. Of mono8 only c[0].
template <Format F>
__device__ __forceinline__ void read_pixel(const Frame& frame, int x, int y, int* c) {
    const unsigned char* row = frame.pixels + y * frame.pitch;
    if constexpr (F == Format::mono8) {
        c[0] = row[x];
    } else if constexpr (F == Format::nv12) {
        const unsigned char* pair = frame.chroma + (y >> 1) * frame.pitch + (x & ~1);
        const int luma = 298 * (row[x] - 16) + 128, u = pair[0] - 128, v = pair[1] - 128;
        c[0] = min(max((luma + 409 * v) >> 8, 0), 255);
        c[1] = min(max((luma - 100 * u - 208 * v) >> 8, 0), 255);
        c[2] = min(max((luma + 516 * u) >> 8, 0), 255);
    } else {
        const unsigned char* pixel = row + x * (F == Format::rgba8 ? 4 : 3);
        c[0] = pixel[F == Format::bgr8 ? 2 : 0];
        c[1] = pixel[1];
        c[2] = pixel[F == Format::bgr8 ? 0 : 2];
    }
}

// A sum of weighted pixels, started at one half, to 8 bits: Pillow's clip8. It is never negative.
__device__ __forceinline__ unsigned char to_byte(int sum) { return (unsigned char)min(sum >> kBits, 255); }

// boxes: float [N, 4], left, top, right, bottom of every crop, inside the frame. faces: [N, size, size, 3].
// Grid: (tiles across, tiles down, N); any number of threads. `shared`: for every row and column of a tile
// 32 bytes and 4 a tap, then a byte for every line, column and channel.
template <Format F>
__device__ void preprocess(const Frame& frame, const float4* boxes, unsigned char* faces, const Tile& tile,
                           double* shared) {
    constexpr int C = F == Format::mono8 ? 1 : 3;
    const int x0 = blockIdx.x * tile.columns, y0 = blockIdx.y * tile.rows, face = blockIdx.z;
    const int columns = min(tile.columns, tile.size - x0), rows = min(tile.rows, tile.size - y0);
    const int outputs = columns + rows;  // the columns first
    const int thread = threadIdx.x, threads = blockDim.x;

    double* centre = shared;
    double* inverse = centre + outputs;
    double* total = inverse + outputs;
    int* first = reinterpret_cast<int*>(total + outputs);
    int* count = first + outputs;
    int* taps = count + outputs;
    unsigned char* lines = reinterpret_cast<unsigned char*>(taps + outputs * tile.taps);

    const float4 box = boxes[face];
    for (int i = thread; i < outputs; i += threads) {
        const bool across = i < columns;
        const float from = across ? box.x : box.y, to = across ? box.z : box.w;
        const double scale = double(to - from) / tile.size, support = scale < 1.0 ? 1.0 : scale;
        centre[i] = from + mul((across ? x0 + i : y0 + i - columns) + 0.5, scale);
        inverse[i] = 1.0 / support;
        first[i] = max(int(centre[i] - support + 0.5), 0);
        count[i] = min(int(centre[i] + support + 0.5), across ? frame.width : frame.height) - first[i];
        double sum = 0.0;
#pragma unroll 1
        for (int tap = 0; tap < count[i]; ++tap) sum += triangle(centre[i], inverse[i], first[i] + tap);
        total[i] = sum;
    }
    __syncthreads();

    for (int item = thread; item < outputs * tile.taps; item += threads) {
        const int i = item / tile.taps, tap = item % tile.taps;
        if (tap >= count[i]) continue;
        const double weight = triangle(centre[i], inverse[i], first[i] + tap) / total[i];
        taps[item] = int(0.5 + mul(weight, 1 << kBits));
    }
    __syncthreads();

    const int top = first[columns], bottom = first[outputs - 1] + count[outputs - 1];
    for (int item = thread; item < (bottom - top) * columns; item += threads) {
        const int i = item % columns, y = top + item / columns;
        int sum[C], c[C];
        for (int k = 0; k < C; ++k) sum[k] = 1 << (kBits - 1);
        for (int tap = 0; tap < count[i]; ++tap) {
            read_pixel<F>(frame, first[i] + tap, y, c);
            for (int k = 0; k < C; ++k) sum[k] += c[k] * taps[i * tile.taps + tap];
        }
        for (int k = 0; k < C; ++k) lines[item * C + k] = to_byte(sum[k]);
    }
    __syncthreads();

    for (int item = thread; item < rows * columns * C; item += threads) {
        const int i = item / (columns * C), at = item % (columns * C), row = columns + i;
        const unsigned char* column = lines + (first[row] - top) * columns * C + at;
        int sum = 1 << (kBits - 1);
        for (int tap = 0; tap < count[row]; ++tap) sum += column[tap * columns * C] * taps[row * tile.taps + tap];
        const long long line = ((long long)face * tile.size + y0 + i) * tile.size + x0;
        if constexpr (C == 3) {
            faces[line * 3 + at] = to_byte(sum);
        } else {
            for (int k = 0; k < 3; ++k) faces[(line + at) * 3 + k] = to_byte(sum);
        }
    }
}

}  // namespace convcut
