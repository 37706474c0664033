#include "tail_fields.h"

#include <cmath>
#include <cstring>

namespace convcut {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

constexpr int kMostChannels = 512, kMostClasses = 64;

PluginField const* find(nvinfer1::PluginFieldCollection const& fields, char const* name, PluginFieldType type) {
    for (int n = 0; n < fields.nbFields; ++n) {
        PluginField const& field = fields.fields[n];
        if (field.name && !std::strcmp(field.name, name))
            return field.type == type && field.data && field.length > 0 ? &field : nullptr;
    }
    return nullptr;
}

std::string read_number(nvinfer1::PluginFieldCollection const& fields, char const* name, int low, int high, int& to) {
    PluginField const* field = find(fields, name, PluginFieldType::kINT32);
    if (!field || field->length != 1) return std::string("needs a field ") + name + " with one int32";
    std::memcpy(&to, field->data, sizeof(to));
    if (to >= low && to <= high) return "";
    return std::string(name) + " is " + std::to_string(to) + ", and the kernel takes " + std::to_string(low) + " to " +
           std::to_string(high);
}

std::string read_attention(nvinfer1::PluginFieldCollection const& fields, int& to) {
    PluginField const* field = find(fields, "attention", PluginFieldType::kCHAR);
    if (!field) return "needs a field attention with a string";
    char const* text = static_cast<char const*>(field->data);
    // The length may count a closing zero.
    std::string const name(text, strnlen(text, std::size_t(field->length)));
    for (to = 0; to < 3; ++to)
        if (name == kAttentions[to]) return "";
    return "attention is '" + name + "', and the plugin knows none, channel and spatial";
}

std::string read_parameters(nvinfer1::PluginFieldCollection const& fields, TailFields& tail) {
    PluginField const* field = find(fields, "parameters", PluginFieldType::kFLOAT32);
    if (!field) return "needs a field parameters with float32 values";
    int const width = tail.units ? tail.units : tail.channels;
    int const expected = 2 + tail.units * (tail.channels + 3) + tail.classes * (width + 1);
    if (field->length != expected)
        return "has " + std::to_string(field->length) + " parameters, and " + std::to_string(tail.channels) +
               " channels, " + std::to_string(tail.units) + " units and " + std::to_string(tail.classes) +
               " classes make " + std::to_string(expected);
    tail.parameters.resize(std::size_t(expected));
    std::memcpy(tail.parameters.data(), field->data, std::size_t(expected) * sizeof(float));
    if (!std::isfinite(tail.parameters[0]) || !std::isfinite(tail.parameters[1]) || tail.parameters[1] <= 0)
        return "needs a finite score scale and a finite temperature above 0 as its first two parameters";
    return "";
}

}  // namespace

std::string read(nvinfer1::PluginFieldCollection const* fields, TailFields& tail) {
    if (!fields || (fields->nbFields > 0 && !fields->fields)) return "was given no fields";
    std::string wrong = read_attention(*fields, tail.attention);
    if (wrong.empty()) wrong = read_number(*fields, "channels", 1, kMostChannels, tail.channels);
    if (wrong.empty()) wrong = read_number(*fields, "units", 0, kMostChannels, tail.units);
    if (wrong.empty()) wrong = read_number(*fields, "classes", 1, kMostClasses, tail.classes);
    if (wrong.empty()) wrong = read_parameters(*fields, tail);
    return wrong;
}

std::vector<PluginField> write(TailFields const* tail) {
    char const* const attention = tail ? kAttentions[tail->attention] : nullptr;
    return {
        {"attention", attention, PluginFieldType::kCHAR, attention ? int(std::strlen(attention)) : 1},
        {"channels", tail ? &tail->channels : nullptr, PluginFieldType::kINT32, 1},
        {"units", tail ? &tail->units : nullptr, PluginFieldType::kINT32, 1},
        {"classes", tail ? &tail->classes : nullptr, PluginFieldType::kINT32, 1},
        {"parameters", tail ? tail->parameters.data() : nullptr, PluginFieldType::kFLOAT32,
         tail ? int(tail->parameters.size()) : 0},
    };
}

}  // namespace convcut
