// shardwise score: predictions against published measurements.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "cli/command.h"
#include "files/atomic_file.h"
#include "files/read_file.h"
#include "report/score.h"

namespace shardwise {

namespace {

struct ScoreFlags {
  std::string table;
  std::string output;
  std::string calibrate = "source";
  bool refits = true;
  bool shows_constants = false;
  bool shows_accuracy = false;
};

int score_command(const ScoreFlags& flags) {
  const std::vector<PublishedRow> rows = parse_published_rows(read_file(flags.table), flags.table);
  const Scores scores =
      score_published_rows(rows, flags.table, flags.refits ? Refit::kEachSource : Refit::kNone);
  fmt::print("{}", to_text(scores, flags.calibrate == "source"));
  if (flags.shows_constants) {
    fmt::print("\nconstants fitted on all rows:\n{}", fitted_constants_text(scores));
  }
  if (flags.shows_accuracy) {
    fmt::print("\nsrc/cost/model_accuracy.cc:\n{}", accuracy_rows_text(scores));
  }
  if (!flags.output.empty()) {
    write_file_atomically(flags.output, to_csv(scores));
    fmt::print("wrote {}\n", flags.output);
  }
  return kExitDone;
}

}  // namespace

void add_score_command(CLI::App& app, CommandRun& run) {
  CLI::App* command = app.add_subcommand(
      "score", "predict published training runs and compare with what was measured");
  command->footer(
      "Example: shardwise score published_throughput.csv -o predictions.csv\n"
      "Columns: docs/file_formats.md, \"Published runs\".");
  const auto flags = std::make_shared<ScoreFlags>();
  command->add_option("TABLE", flags->table, "comma-separated values, one run a line")->required();
  command->add_option("-o,--output", flags->output, "write the predictions of each row");
  command
      ->add_option("--calibrate",
                   flags->calibrate,
                   "none, or source: also with one constant per source, fitted without the row")
      ->check(CLI::IsMember({"none", "source"}));
  command->add_flag("!--no-refit",
                    flags->refits,
                    "use the shipped constants, which saw all sources, instead of fitting them "
                    "anew without each source");
  command->add_flag(
      "--constants", flags->shows_constants, "print the constants fitted on all rows");
  command->add_flag(
      "--accuracy", flags->shows_accuracy, "print the errors by device that `plan` shows");
  command->callback([flags, &run] { run = [flags] { return score_command(*flags); }; });
}

}  // namespace shardwise
