// preprocess.cuh on the host: a function for ctypes, and a program that runs a file of cases under a sanitizer.
#include "cuda_shim.h"

#include "preprocess.cuh"

#include <cstdio>

namespace {

struct Case {
    long long format, pitch, chroma, width, height, faces, size, rows, columns, taps, across, down, threads, shared,
        frame_bytes;
};

template <convcut::Format F>
void run(const Case& c, const unsigned char* frame, const float* crops, unsigned char* faces) {
    shim::launch(dim3(unsigned(c.across), unsigned(c.down), unsigned(c.faces)), unsigned(c.threads),
                 std::size_t(c.shared), [&] {
                     convcut::preprocess<F>(
                         convcut::Frame{frame, frame + c.chroma, c.pitch, int(c.width), int(c.height)},
                         reinterpret_cast<const float4*>(crops), faces,
                         convcut::Tile{int(c.size), int(c.rows), int(c.columns), int(c.taps)},
                         shim::shared<double>());
                 });
}

constexpr decltype(&run<convcut::Format::rgb8>) kRuns[] = {
    run<convcut::Format::rgb8>, run<convcut::Format::bgr8>, run<convcut::Format::rgba8>, run<convcut::Format::mono8>,
    run<convcut::Format::nv12>};

}  // namespace

// Returns nullptr, or why the kernel cannot run.
extern "C" const char* host_preprocess(const Case* c, const unsigned char* frame, const float* crops,
                                       unsigned char* faces, bool backward) {
    static std::string error;
    shim::backward = backward;
    try {
        kRuns[c->format](*c, frame, crops, faces);
    } catch (const std::runtime_error& found) {
        error = found.what();
        return error.c_str();
    }
    return nullptr;
}

// Reads cases from a file: Case, crops, frame, expected faces. The buffers are of exactly the size that the kernel
// may touch, so that one step further is seen. Prints the number of cases; 1 when a face differs.
int main(int, char** arguments) {
    std::FILE* file = std::fopen(arguments[1], "rb");
    Case c;
    int cases = 0;
    while (std::fread(&c, sizeof c, 1, file) == 1) {
        float4* crops = new float4[std::size_t(c.faces)];
        const std::size_t bytes = std::size_t(c.faces * c.size * c.size * 3), frame_bytes = std::size_t(c.frame_bytes);
        unsigned char *frame = new unsigned char[frame_bytes], *expected = new unsigned char[bytes],
                      *faces = new unsigned char[bytes];
        const std::size_t got = std::fread(crops, sizeof *crops, std::size_t(c.faces), file) +
                                std::fread(frame, 1, frame_bytes, file) + std::fread(expected, 1, bytes, file);
        if (got != std::size_t(c.faces) + frame_bytes + bytes) return 2;
        kRuns[c.format](c, frame, &crops[0].x, faces);
        if (std::memcmp(faces, expected, bytes)) return 1;
        delete[] crops, delete[] frame, delete[] expected, delete[] faces;
        ++cases;
    }
    std::fclose(file);
    std::printf("%d cases\n", cases);
}
