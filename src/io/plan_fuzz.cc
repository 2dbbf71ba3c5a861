// Plan files: any text is refused with an InputError or reads back from what we write of it.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "core/errors.h"
#include "files/json_writer.h"
#include "io/plan_file.h"
#include "io/tiny_model_testing.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const PlanFile file = parse_plan_file(text, "plan.json", tiny_model_graph);
    const JsonValue model = parse_json(file.model_json, "config.json");
    const PlanShape shape{file.plan.microbatch(), file.plan.sequence};
    const Graph graph = tiny_model_graph(model, file.model_type, shape);
    const std::string written = to_json_text(plan_file_to_json(file, graph));
    const PlanFile again = parse_plan_file(written, "plan.json", tiny_model_graph);
    SHARDWISE_CHECK(again.plan == file.plan && again.prediction == file.prediction &&
                        again.cluster.table == file.cluster.table,
                    "a plan file that does not read back");
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
