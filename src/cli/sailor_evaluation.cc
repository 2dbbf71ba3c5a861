#include "cli/sailor_evaluation.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/command.h"
#include "core/errors.h"
#include "files/json_writer.h"
#include "io/sailor_files.h"
#include "report/table.h"

namespace shardwise {

namespace {

nlohmann::ordered_json account(const SailorRun& run, const SailorEvaluation& found) {
  using Json = nlohmann::ordered_json;
  Json stages = Json::array();
  for (const SailorStage& stage : found.stages) {
    stages.push_back({{"compute_s", stage.compute.count},
                      {"transfer_s", stage.transfer.count},
                      {"reduction_s", stage.reduction.count},
                      {"update_s", stage.update.count},
                      {"states_bytes", stage.states.count},
                      {"activations_bytes", stage.kept.count},
                      {"total_bytes", stage.memory.count}});
  }
  Json json = {{"step_time_s", found.step.count},
               {"memory_bytes", found.memory.count},
               {"stages", std::move(stages)}};
  if (run.measured_step) {
    json["measured_step_time_s"] = run.measured_step->count;
  }
  if (run.measured_memory) {
    json["measured_memory_bytes"] = run.measured_memory->count;
  }
  return json;
}

void print_account(const SailorRun& run, const SailorEvaluation& found) {
  fmt::print("{} per step", format_seconds(found.step));
  if (run.measured_step && run.measured_step->count > 0) {
    fmt::print(", measured {} ({:+.1f} %)",
               format_seconds(*run.measured_step),
               100 * (found.step / *run.measured_step - 1));
  }
  fmt::print("\n{} on the fullest device", format_bytes(found.memory));
  if (run.measured_memory && run.measured_memory->count > 0) {
    fmt::print(", measured {} ({:+.1f} %)",
               format_bytes(*run.measured_memory),
               100 * (found.memory / *run.measured_memory - 1));
  }
  fmt::print("\n\n");
  TextTable table({"stage",
                   "layers",
                   "compute",
                   "transfer",
                   "reduction",
                   "update",
                   "states",
                   "activations",
                   "total"});
  for (std::size_t i = 0; i < found.stages.size(); ++i) {
    const SailorStage& stage = found.stages[i];
    table.add_row({std::to_string(i),
                   std::to_string(run.layers[i]),
                   format_seconds(stage.compute),
                   format_seconds(stage.transfer),
                   format_seconds(stage.reduction),
                   format_seconds(stage.update),
                   format_bytes(stage.states),
                   format_bytes(stage.kept),
                   format_bytes(stage.memory)});
  }
  fmt::print("{}", table.to_string());
}

}  // namespace

int evaluate_sailor_run(const SailorFlags& flags, bool json) {
  for (const auto& [name, value] : {std::pair{"--layer-sizes", &flags.layer_sizes},
                                    std::pair{"--bandwidths", &flags.bandwidths},
                                    std::pair{"--profiled-model", &flags.model}}) {
    if (value->empty()) {
      throw InputError("evaluate", fmt::format("--layer-profile needs {} as well", name));
    }
  }
  const SailorRun run = sailor_run_from_json(read_json_file(flags.run));
  const JsonValue sizes = read_json_file(flags.layer_sizes);
  const SailorEvaluation found = evaluate_sailor(
      run,
      flags.run,
      sailor_layers_of(read_json_file(flags.layer_profile), flags.model, run.device),
      sailor_sizes_from_json(sizes.at(flags.model)),
      sailor_links_from_json(read_json_file(flags.bandwidths), run.device),
      parse_bytes(flags.process_memory, "--process-memory"));
  if (json) {
    fmt::print("{}", to_json_text(account(run, found)));
  } else {
    print_account(run, found);
  }
  return kExitDone;
}

}  // namespace shardwise
