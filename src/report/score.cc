#include "report/score.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <regex>

#include "report/constant_fit.h"

namespace shardwise {

namespace {

constexpr std::size_t kLeastSweep = 6;

double predict(const PublishedRun& run, const ModelConstants& constants) {
  return to_seconds(run.model->evaluate(constants).step_time).count;
}

const std::string& source_of(const ScoredRow& row) { return row.run.row->at("source"); }

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// One constant for each source: median of measured over predicted of its other rows.
void calibrate(std::vector<ScoredRow>& rows) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::vector<double> ratios;
    for (std::size_t j = 0; j < rows.size(); ++j) {
      const bool is_alike = source_of(rows[i]) == source_of(rows[j]) &&
                            rows[i].run.run_class == rows[j].run.run_class;
      if (i != j && is_alike) {
        ratios.push_back(rows[j].run.measured / rows[j].left_out);
      }
    }
    rows[i].calibrated = rows[i].left_out * (ratios.empty() ? 1 : median(std::move(ratios)));
  }
}

std::string sweep_key(const PublishedRun& run) {
  std::string key;
  for (const char* column : {"source", "model", "gpu", "n_gpus", "seq_len", "global_batch"}) {
    key += (key.empty() ? "" : " ") + run.row->at(column);
  }
  std::smatch match;
  const std::string& note = run.row->at("note");
  if (std::regex_search(note, match, std::regex("precision=([^;]+)"))) {
    key += " " + match[1].str();
  }
  return key;
}

std::vector<ScoredSweep> sweeps_of(const std::vector<ScoredRow>& rows) {
  std::map<std::string, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    groups[sweep_key(rows[i].run)].push_back(i);
  }
  std::vector<ScoredSweep> sweeps;
  for (const auto& [key, members] : groups) {
    if (members.size() < kLeastSweep) {
      continue;
    }
    std::vector<double> predicted;
    std::vector<double> measured;
    for (const std::size_t i : members) {
      predicted.push_back(rows[i].left_out);
      measured.push_back(rows[i].run.measured);
    }
    const auto chosen = std::min_element(predicted.begin(), predicted.end()) - predicted.begin();
    const double best = *std::min_element(measured.begin(), measured.end());
    sweeps.push_back({key,
                      members,
                      rank_correlation(predicted, measured),
                      measured[static_cast<std::size_t>(chosen)] / best - 1});
  }
  return sweeps;
}

std::vector<double> ranks_of(const std::vector<double>& values) {
  std::vector<double> ranks;
  for (const double value : values) {
    double below = 0;
    double equal = 0;
    for (const double other : values) {
      below += other < value ? 1 : 0;
      equal += other == value ? 1 : 0;
    }
    ranks.push_back(below + (equal - 1) / 2);
  }
  return ranks;
}

}  // namespace

double rank_correlation(const std::vector<double>& a, const std::vector<double>& b) {
  const std::vector<double> x = ranks_of(a);
  const std::vector<double> y = ranks_of(b);
  const double mean = (static_cast<double>(x.size()) - 1) / 2;
  double xy = 0;
  double xx = 0;
  double yy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xx > 0 && yy > 0 ? xy / std::sqrt(xx * yy) : 0;
}

Scores score_published_rows(const std::vector<PublishedRow>& rows,
                            const std::string& file,
                            Refit refit) {
  Scores scores;
  for (const PublishedRow& row : rows) {
    ReadRun read = read_published_run(row, file);
    if (!read.refusal.starts_with("blank")) {
      ++scores.with_time;
    }
    if (!read.run) {
      scores.refused.push_back({&row, read.refusal});
      continue;
    }
    ScoredRow scored;
    scored.run = std::move(*read.run);
    const Evaluation evaluation = scored.run.model->evaluate();
    scored.shipped = to_seconds(evaluation.step_time).count;
    scored.left_out = scored.shipped;
    scored.memory = static_cast<double>(peak_memory(evaluation).count);
    scored.allocated = static_cast<double>(allocated_memory(evaluation).count);
    scored.fits = evaluation.fits();
    scores.rows.push_back(std::move(scored));
  }
  if (refit == Refit::kEachSource) {
    std::vector<const PublishedRun*> runs;
    for (const ScoredRow& row : scores.rows) {
      runs.push_back(&row.run);
    }
    const ConstantFit fit(runs);
    scores.fitted = fit.fit([](std::size_t) { return true; });
    std::map<std::string, ModelConstants> without;
    for (const ScoredRow& row : scores.rows) {
      const std::string& source = source_of(row);
      if (!without.contains(source)) {
        without[source] =
            fit.fit([&](std::size_t i) { return source_of(scores.rows[i]) != source; });
      }
    }
    for (ScoredRow& row : scores.rows) {
      row.left_out = predict(row.run, without.at(source_of(row)));
    }
  }
  calibrate(scores.rows);
  scores.sweeps = sweeps_of(scores.rows);
  return scores;
}

std::vector<ModelAccuracy> accuracies_of(const Scores& scores) {
  std::map<std::pair<std::string_view, RunClass>, ModelAccuracy> sums;
  for (const ScoredRow& row : scores.rows) {
    const std::string_view device = row.run.model->cluster().types.front().name;
    ModelAccuracy& sum = sums[{device, row.run.run_class}];
    sum.device = device;
    sum.run_class = row.run.run_class;
    sum.error += std::abs(row.left_out / row.run.measured - 1);
    ++sum.runs;
  }
  std::vector<ModelAccuracy> means;
  for (const auto& [key, sum] : sums) {
    means.push_back(sum);
    means.back().error /= sum.runs;
  }
  return means;
}

MemoryError memory_error(const Scores& scores) {
  MemoryError error;
  for (const ScoredRow& row : scores.rows) {
    if (row.run.measured_memory > 0) {
      error.mean += std::abs(row.allocated / row.run.measured_memory - 1);
      ++error.rows;
    }
  }
  error.mean /= std::max(error.rows, 1);
  return error;
}

double mean_error(const Scores& scores,
                  double ScoredRow::*prediction,
                  const std::function<bool(const ScoredRow&)>& uses) {
  double sum = 0;
  int count = 0;
  for (const ScoredRow& row : scores.rows) {
    if (uses(row)) {
      sum += std::abs(row.*prediction / row.run.measured - 1);
      ++count;
    }
  }
  return count == 0 ? 0 : sum / count;
}

}  // namespace shardwise
