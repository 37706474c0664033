// What a ConvcutTail node says of its tail: read from plugin fields, checked, and written back for a plan.
#pragma once

#include <NvInferRuntime.h>

#include <string>
#include <vector>

namespace convcut {

struct TailFields {
    int attention = 0;     // in the order of kAttentions
    int channels = 0;      // C of the map
    int units = 0;         // of the projection, 0 for none
    int classes = 0;       // K
    std::vector<float> parameters;  // in the order of TailParameters in tail.cuh
};

constexpr int kMostSide = 8;  // of the map, in positions
constexpr char const* kAttentions[] = {"none", "channel", "spatial"};

// Returns what is wrong with the fields, empty if nothing is. A field of another name is passed over.
std::string read(nvinfer1::PluginFieldCollection const* fields, TailFields& tail);

// The fields that read() takes, pointing into tail, which must outlive them. Without a tail: names and types only.
std::vector<nvinfer1::PluginField> write(TailFields const* tail);

}  // namespace convcut
