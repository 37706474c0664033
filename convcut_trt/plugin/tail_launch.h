// What the plugin needs of a GPU. tail_launch.cu does it with the CUDA runtime; a test may do it on the host.
#pragma once

#include <cstddef>

namespace convcut {

struct TailCall {
    bool half;      // the map is FP16, else FP32
    int attention;  // in the order of Attention in tail.cuh, without batch
    int faces, channels, positions;
    int projection;  // units, 0 for none
    int classes;
};

// Those that can fail return nullptr, or why they failed.

// Copies values into new memory of the current device.
const char* upload(const float* values, std::size_t count, float** device) noexcept;
void release(float* device) noexcept;

// Starts the kernel on a stream (a cudaStream_t): map [N, C, P] -> logits and probabilities [N, K].
const char* launch_tail(const TailCall& call, const void* map, const float* parameters, float* logits,
                        float* probabilities, void* stream) noexcept;

}  // namespace convcut
