// Small configurations for the tests of models.
#pragma once

#include <string>

#include "models/model.h"

namespace shardwise {

// {"model_type": ...} with sizes of a tiny model of the family and `extra` members, which replace
// those of the same name: `"hidden_act": "relu"`.
std::string tiny_config(const std::string& model_type, const std::string& extra = "");

ModelConfig parse_tiny(const std::string& model_type, const std::string& extra = "");

// A sequence that the model takes: 16, or what the size of its images gives.
std::int64_t tiny_sequence(const ModelConfig& config);

// Message of the InputError that reading the configuration throws; "" if it throws none.
std::string refusal_of(const std::string& config_text);

}  // namespace shardwise
