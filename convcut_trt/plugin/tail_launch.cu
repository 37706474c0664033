// The GPU side of the plugin. The runtime API, linked statically: it carries the kernels for all architectures in the
// library itself, works in whatever context TensorRT has made current, and asks for no CUDA library at load.
#include <cuda_runtime.h>

#include "tail.cuh"
#include "tail_launch.h"

namespace {

// TensorRT hands the map over as NCHW, so the NHWC kernels are not here. Nor is the batch attention: a face's
// answer must not depend on its neighbours in an engine.
template <typename Element, Attention attention>
__global__ void __launch_bounds__(kTailThreads, 4)
    kernel(const Element* __restrict__ map, const float* __restrict__ parameters, float* __restrict__ logits,
           float* __restrict__ probabilities, TailShape shape) {
    extern __shared__ float shared[];
    tail<Element, Layout::nchw, attention>(map, parameters, logits, probabilities, shape, shared);
}

template <typename Element>
const void* pick(Attention attention) {
    switch (attention) {
        case Attention::channel: return reinterpret_cast<const void*>(kernel<Element, Attention::channel>);
        case Attention::spatial: return reinterpret_cast<const void*>(kernel<Element, Attention::spatial>);
        default: return reinterpret_cast<const void*>(kernel<Element, Attention::none>);
    }
}

const char* reason(cudaError_t error) { return error == cudaSuccess ? nullptr : cudaGetErrorString(error); }

}  // namespace

namespace convcut {

const char* upload(const float* values, std::size_t count, float** device) noexcept {
    void* memory = nullptr;
    cudaError_t error = cudaMalloc(&memory, count * sizeof(float));
    if (error != cudaSuccess) return reason(error);
    error = cudaMemcpy(memory, values, count * sizeof(float), cudaMemcpyHostToDevice);
    if (error != cudaSuccess) cudaFree(memory), memory = nullptr;
    *device = static_cast<float*>(memory);
    return reason(error);
}

void release(float* device) noexcept { cudaFree(device); }

const char* launch_tail(const TailCall& call, const void* map, const float* parameters, float* logits,
                        float* probabilities, void* stream) noexcept {
    TailShape shape{call.faces, call.channels, call.positions, call.projection, call.classes};
    const Attention attention = static_cast<Attention>(call.attention);
    const std::size_t bytes = std::size_t(TailRoom(shape, attention).floats) * sizeof(float);
    void* arguments[] = {&map, &parameters, &logits, &probabilities, &shape};
    return reason(cudaLaunchKernel(call.half ? pick<__half>(attention) : pick<float>(attention),
                                   dim3(unsigned(call.faces)), dim3(kTailThreads), arguments, bytes,
                                   static_cast<cudaStream_t>(stream)));
}

}  // namespace convcut
