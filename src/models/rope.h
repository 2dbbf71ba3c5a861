// Rotary position settings of a config.json: rope_theta and rope_scaling up to transformers 4,
// rope_parameters since 5.
#pragma once

#include "models/config_reader.h"
#include "models/model.h"

namespace shardwise {

// Types: default, linear, llama3 (with parameters in the order that OpAttributes states), and
// dynamic, yarn, longrope, proportional, which are refused for training. `config` gives positions
// and head_dim. Throws InputError for other types, unknown parameters and partial rotation.
RopeConfig read_rope(ConfigReader& reader, const ModelConfig& config, double default_theta);

}  // namespace shardwise
