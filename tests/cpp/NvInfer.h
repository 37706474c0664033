// What examples/cpp/main.cpp uses of TensorRT, on the host. A plan is the text "SIDE CLASSES MIN MAX OUTPUT...". The
// probability of class c is (c + the face's first byte) mod CLASSES, of the sum of all.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#define NV_TENSORRT_MAJOR 10

namespace nvinfer1 {

struct ILogger {
    enum class Severity { kINTERNAL_ERROR, kERROR, kWARNING, kINFO, kVERBOSE };
    virtual void log(Severity severity, char const* text) noexcept = 0;
    virtual ~ILogger() = default;
};

struct Dims {
    std::int32_t nbDims;
    std::int64_t d[8];
};

enum class DataType { kFLOAT, kUINT8 };
enum class TensorIOMode { kNONE, kINPUT, kOUTPUT };

// What is there of one kind; TensorRT wants contexts to go before their engine, and engines before their runtime.
template <class Kind, class Below>
struct Counted {
    static inline int alive = 0;
    Counted() { ++alive; }
    ~Counted() {
        --alive;
        if constexpr (!std::is_void_v<Below>)
            if (Below::alive)
                std::abort();
    }
};

struct Plan {
    std::int64_t side = 0, classes = 0, least = 0, most = 0;
    std::vector<std::string> names{"images"};
};

struct IExecutionContext : Counted<IExecutionContext, void> {
    explicit IExecutionContext(Plan const& plan) : plan(plan) {}
    bool setInputShape(char const* name, Dims const& dims) {
        batch = dims.d[0];
        return name == std::string("images") && plan.least <= batch && batch <= plan.most;
    }
    bool setTensorAddress(char const* name, void* memory) {
        addresses[name] = memory;
        return true;
    }
    Dims getTensorShape(char const* name) const {
        if (name == std::string("map"))
            return {4, {batch, 2, 3, 3}};
        return {2, {batch, plan.classes}};
    }
    bool enqueueV3(cudaStream_t stream) {
        for (auto const& name : plan.names)
            if (!addresses.count(name))
                return false;
        stream->queue.push_back([this] { compute(); });
        return true;
    }
    void compute() {
        auto const* faces = static_cast<unsigned char const*>(addresses["images"]);
        auto* answers = static_cast<float*>(addresses["probabilities"]);
        auto const sum = static_cast<float>(plan.classes * (plan.classes - 1) / 2);
        for (std::int64_t face = 0; face < batch; ++face)
            for (std::int64_t c = 0; c < plan.classes; ++c)
                *answers++ = static_cast<float>((c + faces[face * plan.side * plan.side * 3]) % plan.classes) / sum;
    }
    Plan plan;
    std::int64_t batch = 0;
    std::map<std::string, void*> addresses;
};

struct ICudaEngine : Counted<ICudaEngine, IExecutionContext> {
    explicit ICudaEngine(Plan const& plan) : plan(plan) {}
    IExecutionContext* createExecutionContext() { return new IExecutionContext(plan); }
    Dims getTensorShape(char const*) const { return {4, {-1, plan.side, plan.side, 3}}; }
    DataType getTensorDataType(char const*) const { return DataType::kUINT8; }
    TensorIOMode getTensorIOMode(char const* wanted) const {
        for (auto const& name : plan.names)
            if (name == wanted)
                return name == "images" ? TensorIOMode::kINPUT : TensorIOMode::kOUTPUT;
        return TensorIOMode::kNONE;
    }
    std::int32_t getNbIOTensors() const { return static_cast<std::int32_t>(plan.names.size()); }
    char const* getIOTensorName(std::int32_t index) const { return plan.names.at(static_cast<std::size_t>(index)).c_str(); }
    Plan plan;
};

struct IRuntime : Counted<IRuntime, ICudaEngine> {
    explicit IRuntime(ILogger& logger) : logger(logger) {}
    ICudaEngine* deserializeCudaEngine(void const* bytes, std::size_t size) {
        std::istringstream text(std::string(static_cast<char const*>(bytes), size));
        Plan plan;
        if (!(text >> plan.side >> plan.classes >> plan.least >> plan.most)) {
            logger.log(ILogger::Severity::kERROR, "no magic number");
            return nullptr;
        }
        for (std::string name; text >> name;)
            plan.names.push_back(name);
        return new ICudaEngine(plan);
    }
    ILogger& logger;
};

inline IRuntime* createInferRuntime(ILogger& logger) {
    return std::getenv("FAKE_NO_GPU") ? nullptr : new IRuntime(logger);
}

}  // namespace nvinfer1
