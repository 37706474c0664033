// What examples/cpp/main.cpp uses of CUDA, on the host: answers come back when the stream is synchronised, not before.
#pragma once

#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

enum cudaError_t { cudaSuccess, cudaErrorMemoryAllocation };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
struct FakeStream {
    std::vector<std::function<void()>> queue;
};
using cudaStream_t = FakeStream*;

inline char const* cudaGetErrorString(cudaError_t) { return "out of memory"; }

inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
    *memory = std::getenv("FAKE_NO_MEMORY") ? nullptr : std::malloc(bytes);
    return *memory ? cudaSuccess : cudaErrorMemoryAllocation;
}

inline cudaError_t cudaFree(void* memory) {
    std::free(memory);
    return cudaSuccess;
}

inline cudaError_t cudaStreamCreate(cudaStream_t* stream) {
    *stream = new FakeStream;
    return cudaSuccess;
}

inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    delete stream;
    return cudaSuccess;
}

inline cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
    stream->queue.push_back([=] { std::memcpy(to, from, bytes); });
    return cudaSuccess;
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    for (auto const& work : stream->queue)
        work();
    stream->queue.clear();
    return cudaSuccess;
}
