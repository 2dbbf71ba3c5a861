// Prints what models/ says of a config.json: a JSON object of tensors in files and their shapes.
// For parameters_test.py, which compares it with transformers.
#include <fmt/format.h>

#include <map>
#include <string>
#include <vector>

#include "core/errors.h"
#include "models/checkpoint_map.h"
#include "models/model.h"

int main(int count, char** arguments) {
  using namespace shardwise;
  if (count != 2) {
    fmt::print(stderr, "usage: print_parameters CONFIG\n");
    return 2;
  }
  try {
    const ModelConfig config = read_model_config(arguments[1]);
    const Graph graph =
        build_graph(config, 1, config.fixed_sequence > 0 ? config.fixed_sequence : 8);
    std::map<std::string, std::vector<std::int64_t>> shapes;
    for (const ParameterSlices& parameter : written_checkpoint(config, graph)) {
      for (const FileSlice& slice : parameter.slices) {
        shapes[slice.file_name] = slice.file_shape;
      }
    }
    std::string text;
    for (const auto& [name, shape] : shapes) {
      std::string sizes;
      for (const std::int64_t size : shape) {
        sizes += fmt::format("{}{}", sizes.empty() ? "" : ", ", size);
      }
      text += fmt::format("{}\n  \"{}\": [{}]", text.empty() ? "" : ",", name, sizes);
    }
    fmt::print("{{{}\n}}\n", text);
  } catch (const InputError& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
  return 0;
}
