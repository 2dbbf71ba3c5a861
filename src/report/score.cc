#include "report/score.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <regex>

#include "cost/uniform_memory.h"

namespace shardwise {

namespace {

constexpr int kMostRounds = 40;
constexpr double kFirstStep = 0.15;
constexpr double kLargestStep = 0.3;
constexpr double kSmallestStep = 1e-3;
// Errors below are squared, above they count as they are: a single odd row moves nothing.
constexpr double kSmallError = 0.05;
constexpr double kLargestError = 0.4;
constexpr double kPull = 0.01;  // weight of a squared relative move away from the shipped constants
constexpr std::size_t kLeastSweep = 6;

double predict(const PublishedRun& run, const ModelConstants& constants) {
  return estimate_uniform_run(run.run, run.cluster, constants).step;
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
                            rows[i].run.row_class == rows[j].run.row_class;
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

ModelConstants fit_constants(const std::vector<ScoredRow>& rows,
                             const std::function<bool(const ScoredRow&)>& uses) {
  std::map<std::string, int> rows_of_source;
  for (const ScoredRow& row : rows) {
    rows_of_source[source_of(row)] += uses(row) ? 1 : 0;
  }
  std::vector<std::pair<const PublishedRun*, double>> weighted;
  for (const ScoredRow& row : rows) {
    if (uses(row)) {
      weighted.emplace_back(&row.run, std::pow(rows_of_source[source_of(row)], -0.4));
    }
  }
  const ModelConstants shipped;
  const auto loss = [&](const ModelConstants& constants) {
    double sum = 0;
    for (const auto& [run, weight] : weighted) {
      const double error = std::abs(std::log(predict(*run, constants) / run->measured));
      sum += weight * (error < kSmallError ? error * error / (2 * kSmallError) + kSmallError / 2
                                           : std::min(error, kLargestError));
    }
    for (const FittedConstant& fitted : fitted_constants()) {
      const double move = std::log(constants.*fitted.member / (shipped.*fitted.member));
      sum += kPull * move * move;
    }
    return sum;
  };
  ModelConstants best = shipped;
  double least = loss(best);
  std::vector<double> steps(fitted_constants().size(), kFirstStep);
  for (int round = 0; round < kMostRounds; ++round) {
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const FittedConstant& fitted = fitted_constants()[i];
      bool improved = false;
      for (const double sign : {1.0, -1.0}) {
        ModelConstants trial = best;
        trial.*fitted.member =
            std::clamp(best.*fitted.member * (1 + sign * steps[i]), fitted.low, fitted.high);
        const double result = steps[i] > kSmallestStep ? loss(trial) : least;
        if (result < least) {
          least = result;
          best = trial;
          improved = true;
          break;
        }
      }
      steps[i] = improved ? std::min(kLargestStep, steps[i] * 1.3) : steps[i] * 0.6;
    }
  }
  return best;
}

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
    scored.shipped = predict(scored.run, {});
    scored.left_out = scored.shipped;
    scored.memory = estimate_uniform_memory(scored.run.run, scored.run.cluster).total();
    scored.fits =
        scored.memory <= static_cast<double>(scored.run.cluster.types.front().memory.count);
    scores.rows.push_back(std::move(scored));
  }
  if (refit == Refit::kEachSource) {
    std::map<std::string, ModelConstants> without;
    for (const ScoredRow& row : scores.rows) {
      const std::string& source = source_of(row);
      if (!without.contains(source)) {
        without[source] = fit_constants(
            scores.rows, [&](const ScoredRow& other) { return source_of(other) != source; });
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
