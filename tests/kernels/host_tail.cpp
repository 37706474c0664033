// tail.cuh on the host: a function for ctypes, and a program that runs a grid of cases under a sanitizer.
#include "cuda_shim.h"

#include "tail.cuh"

#include <cstdio>
#include <random>

namespace {

template <typename Element, Layout layout, Attention attention>
void run(const void* map, const float* parameters, float* logits, float* probabilities, TailShape shape,
         std::size_t bytes) {
    shim::launch(unsigned(shape.faces), kTailThreads, bytes, [&] {
        tail<Element, layout, attention>(static_cast<const Element*>(map), parameters, logits, probabilities, shape,
                                         shim::shared<float>());
    });
}

using Run = decltype(&run<float, Layout::nchw, Attention::none>);

template <typename Element, Layout layout>
Run pick(int attention) {
    static constexpr Run runs[] = {run<Element, layout, Attention::none>, run<Element, layout, Attention::channel>,
                                   run<Element, layout, Attention::spatial>, run<Element, layout, Attention::batch>};
    return runs[attention];
}

}  // namespace

// Returns nullptr, or why the kernel cannot run.
extern "C" const char* host_tail(bool half, bool nhwc, int attention, const void* map, const float* parameters,
                                 float* logits, float* probabilities, TailShape shape, std::size_t shared_bytes,
                                 bool backward) {
    static std::string error;
    const Run chosen = half ? (nhwc ? pick<__half, Layout::nhwc>(attention) : pick<__half, Layout::nchw>(attention))
                            : (nhwc ? pick<float, Layout::nhwc>(attention) : pick<float, Layout::nchw>(attention));
    shim::backward = backward;
    try {
        chosen(map, parameters, logits, probabilities, shape, shared_bytes);
    } catch (const std::runtime_error& found) {
        error = found.what();
        return error.c_str();
    }
    return nullptr;
}

extern "C" std::size_t host_shared_bytes(int attention, TailShape shape) {
    return std::size_t(TailRoom(shape, Attention(attention)).floats) * sizeof(float);
}

// Buffers of exactly the size that the kernel may touch, so that one step further is seen. Prints the number of runs.
int main(int count, char** arguments) {
    const int attention = count > 1 ? std::atoi(arguments[1]) : -1;
    const TailShape shapes[] = {{2, 32, 4, 0, 8}, {1, 40, 9, 12, 7}, {1, 70, 64, 0, 3}, {2, 257, 1, 33, 64}, {1, 20, 4, 300, 5}};
    std::mt19937 random(0);
    std::normal_distribution<float> normal;
    int runs = 0;
    for (const TailShape& shape : shapes)
        for (int kind = attention < 0 ? 0 : attention; kind < (attention < 0 ? 4 : attention + 1); ++kind)
            for (int form = 0; form < 4; ++form) {
                const bool half = form & 1, nhwc = form & 2;
                const int width = shape.projection ? shape.projection : shape.channels;
                const std::size_t size = std::size_t(shape.faces) * shape.channels * shape.positions;
                std::vector<float> map(half ? (size + 1) / 2 : size), logits(shape.faces * shape.classes),
                    probabilities(logits), parameters(2 + shape.projection * (shape.channels + 3) +
                                                      shape.classes * (width + 1));
                for (float& value : map) value = normal(random);
                for (float& value : parameters) value = normal(random) / 8;
                std::vector<__half> halves;
                for (std::size_t n = 0; half && n < size; ++n)
                    halves.push_back({std::uint16_t(random() % 0x4000 + (random() & 0x8000))});
                halves.shrink_to_fit();
                const char* error = host_tail(half, nhwc, kind, half ? static_cast<const void*>(halves.data()) : map.data(),
                                              parameters.data(), logits.data(), probabilities.data(), shape,
                                              host_shared_bytes(kind, shape), runs % 2);
                if (error) return std::printf("%s\n", error), 1;
                ++runs;
            }
    std::printf("%d runs\n", runs);
}
