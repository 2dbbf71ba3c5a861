// Scores as tables and as comma-separated values.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "report/score.h"
#include "report/table.h"

namespace shardwise {

namespace {

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

using Filter = std::function<bool(const ScoredRow&)>;

constexpr RunClass kClasses[] = {
    RunClass::kDenseHalf, RunClass::kDenseSmallFormat, RunClass::kExperts};

void add_errors(TextTable& table,
                const Scores& scores,
                const std::string& name,
                const Filter& uses) {
  const auto count = std::count_if(scores.rows.begin(), scores.rows.end(), uses);
  if (count > 0) {
    table.add_row({name,
                   std::to_string(count),
                   percent(mean_error(scores, &ScoredRow::left_out, uses)),
                   percent(mean_error(scores, &ScoredRow::calibrated, uses)),
                   percent(mean_error(scores, &ScoredRow::shipped, uses))});
  }
}

// Errors by a column of the table, within each class of rows.
std::string by_column(const Scores& scores, const std::string& column) {
  TextTable table({column, "rows", "left out", "one constant", "shipped"});
  for (const RunClass run_class : kClasses) {
    std::map<std::string, int> names;
    for (const ScoredRow& row : scores.rows) {
      names[row.run.row->at(column)] += row.run.run_class == run_class ? 1 : 0;
    }
    table.add_rule();
    add_errors(table, scores, to_string(run_class), [&](const ScoredRow& row) {
      return row.run.run_class == run_class;
    });
    for (const auto& [name, count] : names) {
      add_errors(table, scores, "  " + name, [&, wanted = name](const ScoredRow& row) {
        return row.run.run_class == run_class && row.run.row->at(column) == wanted;
      });
    }
  }
  return table.to_string();
}

std::string sweeps(const Scores& scores) {
  if (scores.sweeps.empty()) {
    return "no layout sweep of six rows or more\n";
  }
  double correlation = 0;
  double regret = 0;
  TextTable table({"sweep", "rows", "rank correlation", "regret"});
  for (const ScoredSweep& sweep : scores.sweeps) {
    table.add_row({sweep.name,
                   std::to_string(sweep.rows.size()),
                   fmt::format("{:.2f}", sweep.rank_correlation),
                   percent(sweep.regret)});
    correlation += sweep.rank_correlation;
    regret += sweep.regret;
  }
  const auto count = static_cast<double>(scores.sweeps.size());
  return fmt::format("{}{} sweeps: mean rank correlation {:.2f}, mean regret {}\n",
                     table.to_string(),
                     scores.sweeps.size(),
                     correlation / count,
                     percent(regret / count));
}

std::string refusals(const Scores& scores) {
  std::map<std::string, int> reasons;
  for (const RefusedRow& refused : scores.refused) {
    ++reasons[refused.reason];
  }
  std::string text;
  for (const auto& [reason, count] : reasons) {
    text += fmt::format("  {:4}  {}\n", count, reason);
  }
  return text;
}

// A field that may hold commas or quotes.
std::string quoted(const std::string& text) {
  std::string field = "\"";
  for (const char c : text) {
    field += c == '"' ? "\"\"" : std::string(1, c);
  }
  return field + "\"";
}

}  // namespace

std::string to_text(const Scores& scores, bool calibrates) {
  const auto infeasible = std::count_if(
      scores.rows.begin(), scores.rows.end(), [](const ScoredRow& row) { return !row.fits; });
  std::string text = fmt::format(
      "{} rows predicted of {} with complete layout and time; {} judged not to fit\n"
      "Mean absolute error of the step time. left out: constants fitted on other sources; one\n"
      "constant: and one constant for each source from its other rows; shipped: saw all "
      "sources.\n\n",
      scores.rows.size(),
      scores.with_time,
      infeasible);
  text += by_column(scores, "source") + "\n" + by_column(scores, "gpu") + "\n" + sweeps(scores);
  if (const MemoryError memory = memory_error(scores); memory.rows > 0) {
    text += fmt::format("{} rows say how much memory they took: mean error {}\n",
                        memory.rows,
                        percent(memory.mean));
  }
  text += fmt::format("\n{} rows refused:\n{}", scores.refused.size(), refusals(scores));
  const auto mean = [&](double ScoredRow::*prediction) {
    return percent(mean_error(scores, prediction, [](const ScoredRow& row) {
      return row.run.run_class == RunClass::kDenseHalf;
    }));
  };
  text += fmt::format("\ndense BF16/FP16: {} with nothing fitted on the source",
                      mean(&ScoredRow::left_out));
  if (calibrates) {
    text += fmt::format(", {} with one constant per source", mean(&ScoredRow::calibrated));
  }
  return text + "\n";
}

std::string accuracy_rows_text(const Scores& scores) {
  std::string text;
  for (const ModelAccuracy& measured : accuracies_of(scores)) {
    constexpr const char* kNames[] = {"kDenseHalf", "kDenseSmallFormat", "kExperts"};
    text += fmt::format("      {{\"{}\", {}, {}, {:.3f}}},\n",
                        measured.device,
                        kNames[static_cast<int>(measured.run_class)],
                        measured.runs,
                        measured.error);
  }
  return text;
}

std::string fitted_constants_text(const Scores& scores) {
  std::string text;
  for (const FittedConstant& constant : fitted_constants()) {
    text += fmt::format("{} = {:.3g}\n", constant.name, scores.fitted.*constant.member);
  }
  return text;
}

std::string to_csv(const Scores& scores) {
  std::string text =
      "line,source,model,gpu,n_gpus,measured_s,predicted_s,left_out_s,calibrated_s,memory_bytes\n";
  for (const ScoredRow& row : scores.rows) {
    const PublishedRow& published = *row.run.row;
    text += fmt::format("{},{},{},{},{},{:.6g},{:.6g},{:.6g},{:.6g},{:.0f}\n",
                        published.line,
                        quoted(published.at("source")),
                        quoted(published.at("model")),
                        quoted(published.at("gpu")),
                        published.at("n_gpus"),
                        row.run.measured,
                        row.shipped,
                        row.left_out,
                        row.calibrated,
                        row.memory);
  }
  return text;
}

}  // namespace shardwise
