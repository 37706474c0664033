// The kernels of preprocess.cuh by name, one for each frame format: preprocess_rgb8 and so on.
// The launch bounds hold the compiler to 64 registers a thread: 4 blocks fit a multiprocessor of any kind.
#include "preprocess.cuh"

#define CONVCUT_PREPROCESS(format)                                                                             \
    extern "C" __global__ void __launch_bounds__(256, 4) preprocess_##format(                                  \
        const unsigned char* pixels, const unsigned char* chroma, long long pitch, int width, int height,      \
        const float4* boxes, unsigned char* faces, int size, int rows, int columns, int taps) {                \
        extern __shared__ double shared[];                                                                     \
        convcut::preprocess<convcut::Format::format>({pixels, chroma, pitch, width, height}, boxes, faces,     \
                                                     {size, rows, columns, taps}, shared);                     \
    }

CONVCUT_PREPROCESS(rgb8)
CONVCUT_PREPROCESS(bgr8)
CONVCUT_PREPROCESS(rgba8)
CONVCUT_PREPROCESS(mono8)
CONVCUT_PREPROCESS(nv12)
