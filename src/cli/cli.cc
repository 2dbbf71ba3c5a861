#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "cli/command.h"
#include "core/errors.h"
#include "core/version.h"

namespace shardwise {

namespace {

Invocation& mutable_invocation() {
  static Invocation current;
  return current;
}

void remember_invocation(int argc, const char* const* argv) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  mutable_invocation().binary = error ? std::string(argv[0]) : self.string();
  mutable_invocation().arguments.assign(argv + 1, argv + argc);
}

}  // namespace

const Invocation& invocation() { return mutable_invocation(); }

int run_cli(int argc, const char* const* argv) {
  remember_invocation(argc, argv);
  CLI::App app{
      "Shardwise: the provably best way to train a model on a cluster; plans it, explains it, "
      "trains with it.",
      "shardwise"};
  app.set_version_flag("--version", std::string(version()));
  app.require_subcommand(1);
  app.footer(
      "Example: shardwise plan config.json dgx-h100:1 --batch 64 --sequence 4096 -o plan.json\n"
      "Each command has --help with an example.");
  CommandRun run;
  add_plan_command(app, run);
  add_evaluate_command(app, run);
  add_check_command(app, run);
  add_simulate_command(app, run);
  add_report_command(app, run);
  add_score_command(app, run);
  add_export_command(app, run);
#if SHARDWISE_HAS_RUNTIME
  add_profile_command(app, run);
  add_train_command(app, run);
#endif
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitDone : kExitBadInput;
  }
  try {
    return run();
  } catch (const InputError& error) {
    fmt::print(stderr, "shardwise: {}\n", error.what());
    return kExitBadInput;
  } catch (const RuntimeFailure& error) {
    fmt::print(stderr, "shardwise: {}\n", error.what());
    return kExitRunFailed;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "shardwise: out of memory\n");
    return kExitRunFailed;
  } catch (const std::exception& error) {
    fmt::print(stderr, "shardwise: a bug, please report it: {}\n", error.what());
    return kExitBug;
  }
}

}  // namespace shardwise
