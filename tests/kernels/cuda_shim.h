// A small CUDA for the host: enough of it to compile a kernel's .cuh with g++ and to run it honestly.
//
// Every thread of a block is a fiber (ucontext) with its own stack. A fiber runs until it meets a barrier or
// a warp shuffle, then the next one runs; when all have arrived, all go on. So barriers and shuffles have
// their real meaning, in one thread of the operating system, the same on every run, and a debugger works.
//
// It finds what a GPU would not tell:
// - a divergent barrier: threads that wait at different lines, or for one that has left: launch() throws;
// - a read or write out of bounds, of the dynamic shared memory too: with -fsanitize=address;
// - a missing barrier: with -fsanitize=thread, to which every fiber is a thread of its own and only barriers
//   bring order. A shuffle exchanges values but orders no memory, as in CUDA;
// - a result that hangs on the order of threads: run forward and backward, and compare;
// - shared memory read before it is written: the dynamic part is filled with NaN for every block.
// It does not see speed, bank conflicts, or the rounding of a GPU's approximate functions.
//
// Use: include this file, then the .cuh with the device templates, and call them through shim::launch().
// Dynamic shared memory reaches a template as a pointer: extern __shared__ stays in the .cu, which only nvcc reads.
// __shared__ arrays work, but keep what the block before left in them.
#pragma once

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __shared__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
typedef dim3 uint3;
struct alignas(4) uchar4 {
    unsigned char x, y, z, w;
};
struct uchar3 {
    unsigned char x, y, z;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};

using std::max;
using std::min;

// IEEE binary16, of which kernels only need the way to float.
struct __half {
    std::uint16_t bits;
};
inline float __half2float(__half value) {
    const int exponent = value.bits >> 10 & 31, fraction = value.bits & 1023;
    float size = exponent == 0    ? std::ldexp(float(fraction), -24)
                 : exponent == 31 ? (fraction ? NAN : INFINITY)
                                  : std::ldexp(float(fraction + 1024), exponent - 25);
    return value.bits >> 15 ? -size : size;
}

template <typename T>
T __ldg(const T* address) {
    return *address;
}
inline int __float2int_rn(float value) { return int(std::nearbyint(value)); }
inline int __float2int_rd(float value) { return int(std::floor(value)); }

namespace shim {

// The shim's own state is shared by all fibers on purpose: the thread sanitizer must not look at it.
#define SHIM_UNSEEN __attribute__((no_sanitize("thread"), noinline))

constexpr int kWarp = 32;
constexpr int kMostThreads = 1024;
constexpr std::size_t kStack = 64 * 1024;

enum class State { ready, at_barrier, in_warp, left };

struct Fiber {
    ucontext_t context;
    State state;
    dim3 thread;
    const char* file;       // where it waits
    int line;
    unsigned mask;          // of the lanes it waits for in a shuffle
    unsigned barriers, shuffles;  // passed so far: their parity picks one of two slots
    std::uint64_t slot[2];  // what this lane shows in a shuffle
    char* stack;
    void* fake_stack;
    void* tsan;
};

struct Machine {
    Fiber fibers[kMostThreads];
    int threads, running;
    dim3 grid, block, index;
    const std::function<void()>* kernel;
    ucontext_t host;
    void* shared;
    void* fake_stack;
    const void* host_stack;
    std::size_t host_size;
    void* tsan;
    char order[2];  // addresses for the thread sanitizer: barrier n is order[n % 2]
    char begin, end;
};

inline Machine machine;
inline bool backward = false;  // run the threads from the last to the first

SHIM_UNSEEN inline Fiber& self() { return machine.fibers[machine.running]; }
SHIM_UNSEEN inline dim3 thread_index() { return self().thread; }
SHIM_UNSEEN inline dim3 block_index() { return machine.index; }
SHIM_UNSEEN inline dim3 block_size() { return machine.block; }
SHIM_UNSEEN inline dim3 grid_size() { return machine.grid; }

SHIM_UNSEEN inline void to_host(bool last) {
    Fiber& fiber = self();
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(last ? nullptr : &fiber.fake_stack, machine.host_stack, machine.host_size);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(machine.tsan, __tsan_switch_to_fiber_no_sync);
#endif
    if (last) setcontext(&machine.host);
    swapcontext(&fiber.context, &machine.host);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber.fake_stack, &machine.host_stack, &machine.host_size);
#endif
}

SHIM_UNSEEN inline void to_fiber(int number) {
    machine.running = number;
    Fiber& fiber = machine.fibers[number];
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&machine.fake_stack, fiber.stack, kStack);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_switch_to_fiber(fiber.tsan, __tsan_switch_to_fiber_no_sync);
#endif
    swapcontext(&machine.host, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(machine.fake_stack, nullptr, nullptr);
#endif
}

SHIM_UNSEEN inline void enter() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &machine.host_stack, &machine.host_size);
#endif
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&machine.begin);
#endif
    (*machine.kernel)();
#if defined(__SANITIZE_THREAD__)
    __tsan_release(&machine.end);
#endif
    self().state = State::left;
    to_host(true);
}

SHIM_UNSEEN inline void barrier(const char* file, int line) {
    Fiber& fiber = self();
    fiber.state = State::at_barrier;
    fiber.file = file, fiber.line = line;
#if defined(__SANITIZE_THREAD__)
    __tsan_release(&machine.order[fiber.barriers % 2]);
#endif
    to_host(false);
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&machine.order[fiber.barriers % 2]);
#endif
    ++fiber.barriers;
}

// Shows a value to the lanes of a warp and takes the one of another lane. Two slots are enough: nobody comes to
// the second shuffle from here before all have read in this one.
SHIM_UNSEEN inline std::uint64_t exchange(unsigned mask, std::uint64_t value, int source, const char* file, int line) {
    Fiber& fiber = self();
    const int first = machine.running / kWarp * kWarp;
    const unsigned parity = fiber.shuffles++ % 2;
    fiber.slot[parity] = value;
    fiber.state = State::in_warp;
    fiber.file = file, fiber.line = line, fiber.mask = mask;
    to_host(false);
    if (source < 0 || source >= kWarp || first + source >= machine.threads) source = machine.running - first;
    return machine.fibers[first + source].slot[parity];
}

inline std::string place(const Fiber& fiber) {
    if (fiber.state == State::left) return "has left the kernel";
    return std::string(fiber.state == State::in_warp ? "waits in a shuffle at " : "waits at ") + fiber.file + ":" +
           std::to_string(fiber.line);
}

// Throws the names of two threads that will never meet.
[[noreturn]] inline void divergent(int one, int other) {
    throw std::runtime_error("divergent barrier: thread " + std::to_string(one) + " " +
                             place(machine.fibers[one]) + ", thread " + std::to_string(other) + " " +
                             place(machine.fibers[other]));
}

// Lets a warp go on whose lanes have all come to the same shuffle.
SHIM_UNSEEN inline bool release_warp(int first) {
    bool released = false;
    const int count = std::min(kWarp, machine.threads - first);
    for (int lane = 0; lane < count; ++lane) {
        const Fiber& fiber = machine.fibers[first + lane];
        if (fiber.state != State::in_warp) continue;
        bool all = true;
        for (int other = 0; other < count; ++other) {
            if (!(fiber.mask >> other & 1)) continue;
            const Fiber& mate = machine.fibers[first + other];
            if (mate.state == State::left) divergent(first + lane, first + other);
            all = all && mate.state == State::in_warp;
        }
        if (!all) continue;
        for (int other = 0; other < count; ++other) {
            Fiber& mate = machine.fibers[first + other];
            if (!(fiber.mask >> other & 1)) continue;
            if (mate.line != fiber.line || mate.mask != fiber.mask) divergent(first + lane, first + other);
        }
        const unsigned mask = fiber.mask;
        for (int other = 0; other < count; ++other)
            if (mask >> other & 1) machine.fibers[first + other].state = State::ready;
        released = true;
    }
    return released;
}

// Lets the block go on when all have come to the same barrier. False: everybody has left.
SHIM_UNSEEN inline bool release_block() {
    const Fiber& first = machine.fibers[0];
    for (int number = 1; number < machine.threads; ++number) {
        const Fiber& fiber = machine.fibers[number];
        if (fiber.state != first.state || (first.state != State::left && fiber.line != first.line))
            divergent(0, number);
    }
    if (first.state == State::left) return false;
    for (int number = 0; number < machine.threads; ++number) machine.fibers[number].state = State::ready;
    return true;
}

SHIM_UNSEEN inline void prepare(int number) {
    Fiber& fiber = machine.fibers[number];
    const unsigned n = unsigned(number), width = machine.block.x, area = width * machine.block.y;
    fiber.thread = dim3(n % width, n % area / width, n / area);
    fiber.state = State::ready;
    fiber.barriers = fiber.shuffles = 0;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack;
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
}

SHIM_UNSEEN inline void run_block() {
    for (int number = 0; number < machine.threads; ++number) prepare(number);
    const int warps = (machine.threads + kWarp - 1) / kWarp;
    do {
        for (int turn = 0; turn < warps; ++turn) {
            const int first = (backward ? warps - 1 - turn : turn) * kWarp;
            const int count = std::min(kWarp, machine.threads - first);
            do {
                for (int step = 0; step < count; ++step) {
                    const int number = first + (backward ? count - 1 - step : step);
                    if (machine.fibers[number].state == State::ready) to_fiber(number);
                }
            } while (release_warp(first));
        }
    } while (release_block());
}

// Runs kernel() once for every thread of every block.
//
// shared_bytes of dynamic shared memory lie at shim::shared<T>(). Throws std::runtime_error at a divergent barrier.
inline void launch(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& kernel) {
    machine.threads = int(block.x * block.y * block.z);
    if (machine.threads < 1 || machine.threads > kMostThreads) throw std::runtime_error("1 to 1024 threads a block");
    machine.grid = grid, machine.block = block, machine.kernel = &kernel;
    const std::size_t bytes = kStack * std::size_t(machine.threads);
    void* stacks = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stacks == MAP_FAILED) throw std::runtime_error("no memory for the stacks");
    for (int number = 0; number < machine.threads; ++number) {
        machine.fibers[number].stack = static_cast<char*>(stacks) + kStack * std::size_t(number);
#if defined(__SANITIZE_THREAD__)
        machine.fibers[number].tsan = __tsan_create_fiber(0);
#endif
    }
#if defined(__SANITIZE_THREAD__)
    machine.tsan = __tsan_get_current_fiber();
#endif
    machine.shared = std::malloc(std::max<std::size_t>(shared_bytes, 1));
    std::string error;
    try {
        for (unsigned z = 0; z < grid.z; ++z)
            for (unsigned y = 0; y < grid.y; ++y)
                for (unsigned x = 0; x < grid.x; ++x) {
                    machine.index = dim3(x, y, z);
                    std::memset(machine.shared, 0xff, shared_bytes);
#if defined(__SANITIZE_THREAD__)
                    __tsan_release(&machine.begin);
#endif
                    run_block();
#if defined(__SANITIZE_THREAD__)
                    __tsan_acquire(&machine.end);
#endif
                }
    } catch (const std::runtime_error& found) {
        error = found.what();
    }
    std::free(machine.shared);
#if defined(__SANITIZE_THREAD__)
    for (int number = 0; number < machine.threads; ++number) __tsan_destroy_fiber(machine.fibers[number].tsan);
#endif
    munmap(stacks, bytes);
    if (!error.empty()) throw std::runtime_error(error);
}

template <typename T>
SHIM_UNSEEN T* shared() {
    return static_cast<T*>(machine.shared);
}

template <typename T>
T shuffle(unsigned mask, T value, int source, const char* file, int line) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t), "a shuffle moves at most 8 bytes");
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = exchange(mask, bits, source, file, line);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}
SHIM_UNSEEN inline int lane() { return machine.running % kWarp; }

}  // namespace shim

#define threadIdx (shim::thread_index())
#define blockIdx (shim::block_index())
#define blockDim (shim::block_size())
#define gridDim (shim::grid_size())
#define __syncthreads() shim::barrier(__FILE__, __LINE__)
#define __shfl_sync(mask, value, source) shim::shuffle(mask, value, source, __FILE__, __LINE__)
#define __shfl_xor_sync(mask, value, bits) shim::shuffle(mask, value, shim::lane() ^ int(bits), __FILE__, __LINE__)
#define __shfl_down_sync(mask, value, by) shim::shuffle(mask, value, shim::lane() + int(by), __FILE__, __LINE__)
