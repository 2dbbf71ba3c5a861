// shardwise export: a plan as configuration of another framework.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "cli/command.h"
#include "cli/inputs.h"
#include "files/atomic_file.h"
#include "io/exporter.h"

namespace shardwise {

namespace {

struct ExportFlags {
  std::string plan;
  std::string framework;
  std::string output;
};

int export_command(const ExportFlags& flags) {
  const Framework framework = parse_framework(flags.framework, "flag --to");
  const LoadedPlan loaded = load_plan(flags.plan);
  const FrameworkPlan plan = describe_for_frameworks(loaded.file.plan, loaded.graph, flags.plan);
  const std::string text = export_plan(framework, plan, flags.plan);
  if (flags.output.empty()) {
    fmt::print("{}", text);
  } else {
    write_file_atomically(flags.output, text);
    fmt::print("wrote {}\n", flags.output);
  }
  return kExitDone;
}

}  // namespace

void add_export_command(CLI::App& app, CommandRun& run) {
  CLI::App* command =
      app.add_subcommand("export", "write a plan as configuration of another framework");
  command->footer(
      "Example: shardwise plan config.json dgx-h100:2 --batch 64 --sequence 2048 --target megatron "
      "-o plan.json\n         shardwise export plan.json --to megatron\n"
      "A plan that the framework cannot express is refused with the reason.");
  const auto flags = std::make_shared<ExportFlags>();
  command->add_option("PLAN", flags->plan, "plan file")->required();
  command->add_option("--to", flags->framework, "megatron, torchtitan, deepspeed or accelerate")
      ->required();
  command->add_option("-o,--output", flags->output, "write here (default: print)");
  command->callback([flags, &run] { run = [flags] { return export_command(*flags); }; });
}

}  // namespace shardwise
