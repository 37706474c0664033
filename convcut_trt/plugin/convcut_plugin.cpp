// libconvcut_plugin.so: the tail of Conv-cut as a TensorRT plugin, ConvcutTail version 1, TensorRT 10.3 to 11.
//
//   map [N, C, H, W], FP32 or FP16, linear  ->  logits and probabilities [N, K], FP32
//
// An IPluginV3 with all its capabilities in one object. Nothing throws across the interface: what is wrong goes to
// TensorRT's logger where there is one, else to stderr, and the call fails. TensorRT itself is not linked: all of
// it that is used are abstract classes and, on request, a function that is looked up in the library already loaded.
#include <dlfcn.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "tail_fields.h"
#include "tail_launch.h"

namespace {

using namespace nvinfer1;

constexpr char const *kName = "ConvcutTail", *kVersion = "1", *kNamespace = "";

std::atomic<ILoggerFinder*> logger_finder{nullptr};

void report(std::string const& what) {
    std::string const text = "ConvcutTail " + what;
    ILoggerFinder* const finder = logger_finder;
    ILogger* const logger = finder ? finder->findLogger() : nullptr;
    if (logger)
        logger->log(ILogger::Severity::kERROR, text.c_str());
    else
        std::fprintf(stderr, "%s\n", text.c_str());
}

class TailPlugin final : public IPluginV3,
                         public IPluginV3OneCore,
                         public IPluginV3OneBuild,
                         public IPluginV3OneRuntime {
public:
    explicit TailPlugin(convcut::TailFields tail) : tail_(std::move(tail)), fields_(convcut::write(&tail_)) {}
    TailPlugin(TailPlugin const&) = delete;
    TailPlugin& operator=(TailPlugin const&) = delete;
    ~TailPlugin() override {
        if (parameters_) convcut::release(parameters_);
    }

    IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override {
        switch (type) {
            case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
            case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
            case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }
    IPluginV3* clone() noexcept override {
        try {
            return new TailPlugin(tail_);
        } catch (std::bad_alloc const&) {
            return nullptr;
        }
    }

    AsciiChar const* getPluginName() const noexcept override { return kName; }
    AsciiChar const* getPluginVersion() const noexcept override { return kVersion; }
    AsciiChar const* getPluginNamespace() const noexcept override { return kNamespace; }

    int32_t getNbOutputs() const noexcept override { return 2; }
    int32_t getOutputDataTypes(DataType* outputs, int32_t output_count, DataType const* inputs,
                               int32_t input_count) const noexcept override {
        if (input_count != 1 || output_count != 2 || !fits(inputs[0])) return refuse("takes one map, FP32 or FP16");
        outputs[0] = outputs[1] = DataType::kFLOAT;
        return 0;
    }
    int32_t getOutputShapes(DimsExprs const* inputs, int32_t input_count, DimsExprs const*, int32_t, DimsExprs* outputs,
                            int32_t output_count, IExprBuilder& build) noexcept override {
        if (input_count != 1 || output_count != 2 || inputs[0].nbDims != 4)
            return refuse("takes one map [N, C, H, W] and gives two outputs");
        IDimensionExpr const& channels = *inputs[0].d[1];
        if (channels.isConstant() && channels.getConstantValue() != tail_.channels) return refuse_channels();
        for (int n = 0; n < 2; ++n) {
            outputs[n].nbDims = 2;
            outputs[n].d[0] = inputs[0].d[0];
            outputs[n].d[1] = build.constant(tail_.classes);
        }
        return 0;
    }
    bool supportsFormatCombination(int32_t position, DynamicPluginTensorDesc const* tensors, int32_t input_count,
                                   int32_t output_count) noexcept override {
        if (input_count != 1 || output_count != 2) return false;
        PluginTensorDesc const& tensor = tensors[position].desc;
        if (tensor.format != TensorFormat::kLINEAR) return false;
        return position == 0 ? fits(tensor.type) : tensor.type == DataType::kFLOAT;
    }
    int32_t configurePlugin(DynamicPluginTensorDesc const* inputs, int32_t input_count, DynamicPluginTensorDesc const*,
                            int32_t) noexcept override {
        if (input_count != 1) return refuse("takes one map");
        return check(inputs[0].max);
    }

    int32_t onShapeChange(PluginTensorDesc const* inputs, int32_t input_count, PluginTensorDesc const*,
                          int32_t) noexcept override {
        if (input_count != 1) return refuse("takes one map");
        if (int32_t const wrong = check(inputs[0].dims)) return wrong;
        return upload();
    }
    int32_t enqueue(PluginTensorDesc const* input, PluginTensorDesc const*, void const* const* inputs,
                    void* const* outputs, void*, cudaStream_t stream) noexcept override {
        Dims const& map = input[0].dims;
        if (int32_t const wrong = check(map)) return wrong;
        if (map.d[0] == 0) return 0;  // an empty batch has no answer to write, and no grid is empty
        if (int32_t const wrong = upload()) return wrong;
        convcut::TailCall const call{input[0].type == DataType::kHALF, tail_.attention,      int(map.d[0]), tail_.channels,
                                     int(map.d[2] * map.d[3]),         tail_.units, tail_.classes};
        char const* const error = convcut::launch_tail(call, inputs[0], parameters_, static_cast<float*>(outputs[0]),
                                                       static_cast<float*>(outputs[1]), stream);
        return error ? refuse(std::string("could not be launched: ") + error) : 0;
    }
    IPluginV3* attachToContext(IPluginResourceContext*) noexcept override { return clone(); }
    PluginFieldCollection const* getFieldsToSerialize() noexcept override {
        collection_ = {int32_t(fields_.size()), fields_.data()};
        return &collection_;
    }

private:
    static bool fits(DataType type) { return type == DataType::kFLOAT || type == DataType::kHALF; }
    static int32_t refuse(std::string const& what) {
        report(what);
        return -1;
    }
    int32_t refuse_channels() const {
        return refuse("was made for a map of " + std::to_string(tail_.channels) + " channels, and this one has others");
    }
    int32_t check(Dims const& map) const {
        if (map.nbDims != 4 || map.d[0] < 0 || map.d[0] > INT32_MAX) return refuse("takes a map [N, C, H, W]");
        if (map.d[1] != tail_.channels) return refuse_channels();
        for (int axis = 2; axis < 4; ++axis)
            if (map.d[axis] < 1 || map.d[axis] > convcut::kMostSide)
                return refuse("takes a map of at most 8x8 positions, not " + std::to_string(map.d[2]) + "x" +
                              std::to_string(map.d[3]));
        return 0;
    }
    // Once for an execution context, and in its first run: memory cannot be allocated while a graph is captured.
    int32_t upload() {
        if (parameters_) return 0;
        char const* const error = convcut::upload(tail_.parameters.data(), tail_.parameters.size(), &parameters_);
        return error ? refuse(std::string("could not copy its parameters to the GPU: ") + error) : 0;
    }

    convcut::TailFields const tail_;
    std::vector<PluginField> const fields_;  // into tail_
    PluginFieldCollection collection_{};
    float* parameters_ = nullptr;  // on the GPU
};

class TailCreator final : public IPluginCreatorV3One {
public:
    TailCreator() : fields_(convcut::write(nullptr)), collection_{int32_t(fields_.size()), fields_.data()} {}

    IPluginV3* createPlugin(AsciiChar const*, PluginFieldCollection const* fields, TensorRTPhase) noexcept override {
        try {
            convcut::TailFields tail;
            std::string const wrong = convcut::read(fields, tail);
            if (wrong.empty()) return new TailPlugin(std::move(tail));
            report(wrong);
        } catch (std::bad_alloc const&) {
            std::fputs("ConvcutTail: out of memory\n", stderr);
        }
        return nullptr;
    }
    PluginFieldCollection const* getFieldNames() noexcept override { return &collection_; }
    AsciiChar const* getPluginName() const noexcept override { return kName; }
    AsciiChar const* getPluginVersion() const noexcept override { return kVersion; }
    AsciiChar const* getPluginNamespace() const noexcept override { return kNamespace; }

private:
    std::vector<PluginField> const fields_;
    PluginFieldCollection const collection_;
};

TailCreator& creator() {
    static TailCreator one;
    return one;
}

#define CONVCUT_TEXT_OF(value) #value
#define CONVCUT_TEXT(value) CONVCUT_TEXT_OF(value)
constexpr char const* kTensorRt = "libnvinfer.so." CONVCUT_TEXT(NV_TENSORRT_MAJOR);

// For programs that only dlopen a plugin library, as Triton, DeepStream and trtexec --staticPlugins do. Not without
// being asked: IPluginRegistry::loadLibrary registers what getCreators returns, and fails where it is there already.
__attribute__((constructor)) void register_at_load() {
    char const* const asked = std::getenv("CONVCUT_PLUGIN_REGISTER");
    if (!asked || std::strcmp(asked, "1")) return;
    void* const library = dlopen(kTensorRt, RTLD_LAZY | RTLD_NOLOAD);
    void* const found = library ? dlsym(library, "getPluginRegistry") : nullptr;
    IPluginRegistry* const registry = found ? reinterpret_cast<IPluginRegistry* (*)()>(found)() : nullptr;
    IPluginCreatorInterface& mine = creator();
    if (!registry || !registry->registerCreator(mine, kNamespace))
        report(std::string("could not be registered: ") + kTensorRt +
               (registry ? " refused it" : " must be loaded before this library"));
}

}  // namespace

extern "C" __attribute__((visibility("default"))) IPluginCreatorInterface* const* getCreators(int32_t& count) {
    static IPluginCreatorInterface* const all[] = {&creator()};
    count = 1;
    return all;
}

extern "C" __attribute__((visibility("default"))) void setLoggerFinder(ILoggerFinder* finder) { logger_finder = finder; }
