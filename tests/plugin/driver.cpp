// Loads the plugin as TensorRT does and calls it through TensorRT's own classes, for ctypes.
#include <NvInfer.h>
#include <dlfcn.h>

#include <memory>
#include <string>
#include <vector>

using namespace nvinfer1;

namespace {

std::string message;

class Logger : public ILogger {
    void log(Severity severity, AsciiChar const* text) noexcept override {
        if (severity == Severity::kERROR) message = text;
    }
} logger;

class Finder : public ILoggerFinder {
    ILogger* findLogger() override { return &logger; }
} finder;

class Value : public IDimensionExpr, apiv::VDimensionExpr {
public:
    explicit Value(int64_t value) : value(value) { mImpl = this; }
    int64_t const value;  // below 0: not known before the run

private:
    bool isConstant() const override { return value >= 0; }
    int64_t getConstantValue() const override { return value; }
    bool isSizeTensor() const override { return false; }
};

class Values : public IExprBuilder, apiv::VExprBuilder {
public:
    Values() { mImpl = this; }
    IDimensionExpr const* constant(int64_t value) override {
        kept.push_back(std::make_unique<Value>(value));
        return kept.back().get();
    }

private:
    IDimensionExpr const* operation(DimensionOperation, IDimensionExpr const&, IDimensionExpr const&) override {
        return nullptr;
    }
    IDimensionExpr const* declareSizeTensor(int32_t, IDimensionExpr const&, IDimensionExpr const&) override {
        return nullptr;
    }
    std::vector<std::unique_ptr<Value>> kept;
};

IPluginCreatorV3One* creator;

IPluginV3OneCore* core(IPluginV3* plugin) {
    return static_cast<IPluginV3OneCore*>(plugin->getCapabilityInterface(PluginCapabilityType::kCORE));
}
IPluginV3OneBuild* build(IPluginV3* plugin) {
    return static_cast<IPluginV3OneBuild*>(plugin->getCapabilityInterface(PluginCapabilityType::kBUILD));
}
IPluginV3OneRuntime* runtime(IPluginV3* plugin) {
    return static_cast<IPluginV3OneRuntime*>(plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
}

Dims dims(int64_t const* sizes, int count) {
    Dims made{};
    made.nbDims = count;
    for (int n = 0; n < count; ++n) made.d[n] = sizes[n];
    return made;
}
PluginTensorDesc tensor(int64_t const* sizes, int count, int type, int format = 0) {
    PluginTensorDesc made{};
    made.dims = dims(sizes, count);
    made.type = DataType(type);
    made.format = TensorFormat(format);
    return made;
}

}  // namespace

extern "C" {

// The creator's name, version and namespace, or why the library cannot be used.
char const* driver_open(char const* path, bool with_logger) {
    static std::string text;
    void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) return dlerror();
    auto find = reinterpret_cast<void (*)(ILoggerFinder*)>(dlsym(library, "setLoggerFinder"));
    auto creators = reinterpret_cast<IPluginCreatorInterface* const* (*)(int32_t&)>(dlsym(library, "getCreators"));
    if (!find || !creators) return "no getCreators or no setLoggerFinder";
    if (with_logger) find(&finder);
    int32_t count = 0;
    IPluginCreatorInterface* const* all = creators(count);
    if (count != 1) return "not one creator";
    creator = static_cast<IPluginCreatorV3One*>(all[0]);
    text = std::string(creator->getInterfaceInfo().kind) + "|" + creator->getPluginName() + "|" +
           creator->getPluginVersion() + "|" + creator->getPluginNamespace();
    return text.c_str();
}
char const* driver_message() { return message.c_str(); }
PluginFieldCollection const* driver_field_names() { return creator->getFieldNames(); }

IPluginV3* driver_create(PluginFieldCollection const* fields, int phase) {
    message.clear();
    return creator->createPlugin("tail", fields, TensorRTPhase(phase));
}
IPluginV3* driver_clone(IPluginV3* plugin) { return plugin->clone(); }
IPluginV3* driver_attach(IPluginV3* plugin) { return runtime(plugin)->attachToContext(nullptr); }
void driver_destroy(IPluginV3* plugin) { delete plugin; }
PluginFieldCollection const* driver_serialize(IPluginV3* plugin) { return runtime(plugin)->getFieldsToSerialize(); }
char const* driver_name(IPluginV3* plugin) { return core(plugin)->getPluginName(); }
int driver_outputs(IPluginV3* plugin) { return build(plugin)->getNbOutputs(); }

int driver_output_types(IPluginV3* plugin, int type, int* outputs) {
    DataType input = DataType(type), found[2]{};
    int const failed = build(plugin)->getOutputDataTypes(found, 2, &input, 1);
    for (int n = 0; n < 2; ++n) outputs[n] = int(found[n]);
    return failed;
}
// Two sizes for each of the outputs; -1 stands for one that is not known yet.
int driver_output_shapes(IPluginV3* plugin, int64_t const* sizes, int count, int64_t* outputs) {
    Values values;
    std::vector<std::unique_ptr<Value>> inputs;
    DimsExprs map{}, found[2]{};
    map.nbDims = count;
    for (int n = 0; n < count; ++n) {
        inputs.push_back(std::make_unique<Value>(sizes[n]));
        map.d[n] = inputs.back().get();
    }
    int const failed = build(plugin)->getOutputShapes(&map, 1, nullptr, 0, found, 2, values);
    for (int n = 0; !failed && n < 4; ++n) {
        if (found[n / 2].nbDims != 2) return -100;
        outputs[n] = static_cast<Value const*>(found[n / 2].d[n % 2])->value;
    }
    return failed;
}
bool driver_supports(IPluginV3* plugin, int position, int const* types, int const* formats) {
    int64_t const none = 0;
    DynamicPluginTensorDesc tensors[3]{};
    for (int n = 0; n < 3; ++n) tensors[n].desc = tensor(&none, 0, types[n], formats[n]);
    return build(plugin)->supportsFormatCombination(position, tensors, 1, 2);
}
int driver_configure(IPluginV3* plugin, int64_t const* most, int count, int type) {
    DynamicPluginTensorDesc input{}, outputs[2]{};
    input.desc = tensor(most, count, type);
    input.desc.dims.d[0] = -1;
    input.min = input.opt = input.max = dims(most, count);
    return build(plugin)->configurePlugin(&input, 1, outputs, 2);
}
int driver_shape_change(IPluginV3* plugin, int64_t const* sizes, int count, int type) {
    PluginTensorDesc const input = tensor(sizes, count, type), outputs[2]{};
    return runtime(plugin)->onShapeChange(&input, 1, outputs, 2);
}
int driver_enqueue(IPluginV3* plugin, int64_t const* sizes, int count, int type, void const* map, float* logits,
                   float* probabilities, cudaStream_t stream) {
    PluginTensorDesc const input = tensor(sizes, count, type), descriptions[2]{};
    void* const outputs[] = {logits, probabilities};
    return runtime(plugin)->enqueue(&input, descriptions, &map, outputs, nullptr, stream);
}

}  // extern "C"
