// The GPU side of the plugin on the host: the same device code under the shim.
#include "cuda_shim.h"

#include "tail.cuh"
#include "tail_launch.h"

namespace {

template <typename Element, Attention attention>
void run(const void* map, const float* parameters, float* logits, float* probabilities, TailShape shape) {
    shim::launch(unsigned(shape.faces), kTailThreads, std::size_t(TailRoom(shape, attention).floats) * sizeof(float), [&] {
        tail<Element, Layout::nchw, attention>(static_cast<const Element*>(map), parameters, logits, probabilities,
                                               shape, shim::shared<float>());
    });
}

int uploaded = 0;

}  // namespace

namespace convcut {

const char* upload(const float* values, std::size_t count, float** device) noexcept {
    *device = static_cast<float*>(std::malloc(count * sizeof(float)));
    std::memcpy(*device, values, count * sizeof(float));
    ++uploaded;
    return nullptr;
}

void release(float* device) noexcept {
    std::free(device);
    --uploaded;
}

const char* launch_tail(const TailCall& call, const void* map, const float* parameters, float* logits,
                        float* probabilities, void* stream) noexcept {
    if (stream) return "a stream that cannot be";
    using Run = decltype(&run<float, Attention::none>);
    const Run runs[2][3] = {
        {run<float, Attention::none>, run<float, Attention::channel>, run<float, Attention::spatial>},
        {run<__half, Attention::none>, run<__half, Attention::channel>, run<__half, Attention::spatial>}};
    const TailShape shape{call.faces, call.channels, call.positions, call.projection, call.classes};
    runs[call.half][call.attention](map, parameters, logits, probabilities, shape);
    return nullptr;
}

}  // namespace convcut

// How many copies of parameters there are at present.
extern "C" int convcut_uploaded() { return uploaded; }
