// The commands of the shardwise binary: one file each, registered in cli.cc.
//
// A command's run() returns the process's exit code: 0 done (and proved, for plan), 1 infeasible, 2
// bad input, 3 limit reached without proof, 4 a run failed, 70 bug. InputError and RuntimeFailure
// are turned into 2 and 4 by cli.cc.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace shardwise {

inline constexpr int kExitDone = 0;
inline constexpr int kExitInfeasible = 1;
inline constexpr int kExitBadInput = 2;
inline constexpr int kExitLimit = 3;
inline constexpr int kExitRunFailed = 4;
inline constexpr int kExitBug = 70;

// What the chosen command wants done once all flags are read.
using CommandRun = std::function<int()>;

// Each adds its subcommand to `app` and sets `run` when it is the one called.
void add_plan_command(CLI::App& app, CommandRun& run);
void add_evaluate_command(CLI::App& app, CommandRun& run);
void add_check_command(CLI::App& app, CommandRun& run);
void add_simulate_command(CLI::App& app, CommandRun& run);
void add_report_command(CLI::App& app, CommandRun& run);
void add_score_command(CLI::App& app, CommandRun& run);
void add_export_command(CLI::App& app, CommandRun& run);
// Only in builds with the runtime (SHARDWISE_HAS_RUNTIME).
void add_profile_command(CLI::App& app, CommandRun& run);
void add_train_command(CLI::App& app, CommandRun& run);

// How this process was started.
struct Invocation {
  std::string binary;                  // full path: ranks are started from it
  std::vector<std::string> arguments;  // without the binary's name
};
// Of this process; empty before run_cli.
const Invocation& invocation();

// The binary: reads flags, runs the command, prints errors. Returns the exit code.
int run_cli(int argc, const char* const* argv);

}  // namespace shardwise
