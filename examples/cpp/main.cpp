// Expressions of faces with TensorRT's C++ API alone: see docs/cpp.md.
//
//   classify ENGINE FACES.rgb LABEL...
//
// ENGINE is a plan that `convcut-trt build --backend tensorrt --tail native` published; FACES.rgb holds cropped and
// resized faces, uint8 RGB, one behind the other, each S x S x 3 bytes; the labels are the model's, in its order.

#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#if NV_TENSORRT_MAJOR < 10
#error "this needs TensorRT 10.3 or later"
#endif

namespace {

class Logger final : public nvinfer1::ILogger {
    void log(Severity severity, char const* text) noexcept override {
        if (severity <= Severity::kWARNING)
            std::fprintf(stderr, "TensorRT: %s\n", text);
    }
};

void require(bool holds, std::string const& otherwise) {
    if (!holds)
        throw std::runtime_error(otherwise);
}

void check(cudaError_t status) {
    require(status == cudaSuccess, std::string("CUDA: ") + cudaGetErrorString(status));
}

struct Stream {
    cudaStream_t handle{};
    Stream() { check(cudaStreamCreate(&handle)); }
    ~Stream() { cudaStreamDestroy(handle); }
    Stream(Stream const&) = delete;
    Stream& operator=(Stream const&) = delete;
};

struct Free {
    void operator()(void* memory) const { cudaFree(memory); }
};
using Buffer = std::unique_ptr<void, Free>;

Buffer allocate(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes));
    return Buffer(memory);
}

std::vector<char> read(std::string const& path) {
    std::ifstream file(path, std::ios::binary);
    std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    require(!bytes.empty(), path + " cannot be read, or is empty");
    return bytes;
}

void classify(std::string const& engine_path, std::string const& faces_path, std::vector<std::string> const& labels) {
    // In this order, so that what is made last is destroyed first.
    Logger logger;
    std::vector<char> const plan = read(engine_path);
    std::unique_ptr<nvinfer1::IRuntime> const runtime{nvinfer1::createInferRuntime(logger)};
    require(runtime != nullptr, "TensorRT does not start: is there a GPU, and a driver for it?");
    std::unique_ptr<nvinfer1::ICudaEngine> const engine{runtime->deserializeCudaEngine(plan.data(), plan.size())};
    require(engine != nullptr, engine_path + " is no plan for this TensorRT and this GPU: build it here");
    std::unique_ptr<nvinfer1::IExecutionContext> const context{engine->createExecutionContext()};
    require(context != nullptr, "no execution context: is there enough memory on the GPU?");

    // An engine of another network, or one that ends at the map, is told by its tensors.
    nvinfer1::Dims shape = engine->getTensorShape("images");
    require(shape.nbDims == 4 && shape.d[1] > 0 && shape.d[2] == shape.d[1] && shape.d[3] == 3 &&
                engine->getTensorDataType("images") == nvinfer1::DataType::kUINT8,
            engine_path + " does not take uint8 `images` [N, S, S, 3]");
    require(engine->getTensorIOMode("probabilities") == nvinfer1::TensorIOMode::kOUTPUT,
            engine_path + " has no output `probabilities`: build it with --tail native");

    std::vector<char> const faces = read(faces_path);
    auto const face_bytes = static_cast<std::size_t>(shape.d[1] * shape.d[2] * shape.d[3]);
    require(faces.size() % face_bytes == 0, faces_path + " does not hold whole faces of " +
                                                std::to_string(face_bytes) + " bytes");
    auto const count = static_cast<std::int64_t>(faces.size() / face_bytes);
    shape.d[0] = count;
    require(context->setInputShape("images", shape),
            "the engine was not built for a batch of " + std::to_string(count) + ": see --batch");

    // TensorRT wants an address for every tensor, also for the outputs that nobody reads. All of them are FP32.
    Stream const stream;
    Buffer const images = allocate(faces.size());
    check(cudaMemcpyAsync(images.get(), faces.data(), faces.size(), cudaMemcpyHostToDevice, stream.handle));
    require(context->setTensorAddress("images", images.get()), "the address of `images` is refused");
    std::vector<Buffer> outputs;
    void* probabilities = nullptr;
    for (std::int32_t index = 0; index < engine->getNbIOTensors(); ++index) {
        std::string const name = engine->getIOTensorName(index);
        if (engine->getTensorIOMode(name.c_str()) != nvinfer1::TensorIOMode::kOUTPUT)
            continue;
        nvinfer1::Dims const dims = context->getTensorShape(name.c_str());
        std::size_t bytes = sizeof(float);
        for (std::int32_t axis = 0; axis < dims.nbDims; ++axis)
            bytes *= static_cast<std::size_t>(dims.d[axis]);
        outputs.push_back(allocate(bytes));
        require(context->setTensorAddress(name.c_str(), outputs.back().get()), "the address of " + name + " is refused");
        if (name == "probabilities")
            probabilities = outputs.back().get();
    }

    auto const classes = static_cast<std::size_t>(context->getTensorShape("probabilities").d[1]);
    require(labels.size() == classes, "the engine knows " + std::to_string(classes) + " classes, " +
                                          std::to_string(labels.size()) + " labels are given");
    std::vector<float> answers(static_cast<std::size_t>(count) * classes);
    require(context->enqueueV3(stream.handle), "TensorRT refuses to run the engine, see its message above");
    check(cudaMemcpyAsync(answers.data(), probabilities, answers.size() * sizeof(float), cudaMemcpyDeviceToHost,
                          stream.handle));
    check(cudaStreamSynchronize(stream.handle));
    for (auto row = answers.cbegin(); row != answers.cend(); row += static_cast<std::ptrdiff_t>(classes)) {
        auto const best = std::max_element(row, row + static_cast<std::ptrdiff_t>(classes));
        std::printf("%s %.4f\n", labels[static_cast<std::size_t>(best - row)].c_str(), static_cast<double>(*best));
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 4) {
        std::fprintf(stderr, "usage: %s ENGINE FACES.rgb LABEL...\n", argv[0]);
        return 2;
    }
    try {
        classify(argv[1], argv[2], {argv + 3, argv + argc});
    } catch (std::exception const& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
