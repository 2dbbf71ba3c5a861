// Model configurations: any text is refused with an InputError or is a model whose graph holds
// together and whose parameters all have a place in files.
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"
#include "models/checkpoint_map.h"
#include "models/model.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const ModelConfig config = parse_model_config(parse_json(text, "config.json"));
    SHARDWISE_CHECK(parse_model_config(parse_json(config.json, "config.json")).json == config.json,
                    "a configuration that does not read back");
    if (config.num_layers <= 8 && config.num_experts <= 64) {
      const Graph graph = build_graph(config, 1, 1);
      SHARDWISE_CHECK(parameter_count(graph) > 0, "a model without parameters");
      written_checkpoint(config, graph);
    }
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
