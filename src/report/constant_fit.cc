#include "report/constant_fit.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>

namespace shardwise {

namespace {

constexpr double kFactors[] = {0.5, 0.75, 1, 1.35, 2};
constexpr int kMostRounds = 60;
constexpr double kFirstStep = 0.15;
constexpr double kLargestStep = 0.3;
constexpr double kSmallestStep = 1e-3;
// Errors below are squared, above they count as they are: a single odd row moves nothing.
constexpr double kSmallError = 0.05;
constexpr double kLargestError = 0.4;
constexpr double kPull = 0.01;  // weight of a squared relative move away from the shipped constants

double log_ratio_of(const PublishedRun& run, const ModelConstants& constants) {
  const double step = to_seconds(run.model->evaluate(constants).step_time).count;
  return std::log(step / run.measured);
}

}  // namespace

ConstantFit::ConstantFit(const std::vector<const PublishedRun*>& runs) {
  const ModelConstants shipped;
  const std::span<const FittedConstant> constants = fitted_constants();
  for (const FittedConstant& fitted : constants) {
    std::vector<double> knots;
    for (const double factor : kFactors) {
      const double value = shipped.*fitted.member;
      const double moved = std::clamp(value * factor, fitted.low, fitted.high);
      const double knot = factor == 1 ? 0 : std::log(moved / value);
      if (knots.empty() || knot > knots.back() + 1e-9) {
        knots.push_back(knot);
      }
    }
    knots_.push_back(std::move(knots));
  }
  for (const PublishedRun* run : runs) {
    Run known;
    known.source = run->row->at("source");
    known.log_ratio = log_ratio_of(*run, shipped);
    for (std::size_t k = 0; k < constants.size(); ++k) {
      std::vector<double> effects;
      for (const double knot : knots_[k]) {
        ModelConstants moved = shipped;
        moved.*constants[k].member *= std::exp(knot);
        effects.push_back(knot == 0 ? 0 : log_ratio_of(*run, moved) - known.log_ratio);
      }
      known.effects.push_back(std::move(effects));
    }
    runs_.push_back(std::move(known));
  }
}

double ConstantFit::effect(const Run& run, std::size_t constant, double log_factor) const {
  const std::vector<double>& knots = knots_[constant];
  const std::vector<double>& effects = run.effects[constant];
  if (knots.size() < 2) {
    return 0;
  }
  const auto above = std::upper_bound(knots.begin() + 1, knots.end() - 1, log_factor);
  const auto right = static_cast<std::size_t>(above - knots.begin());
  const double share = (log_factor - knots[right - 1]) / (knots[right] - knots[right - 1]);
  return effects[right - 1] + share * (effects[right] - effects[right - 1]);
}

ModelConstants ConstantFit::fit(const std::function<bool(std::size_t)>& uses) const {
  std::map<std::string, int> runs_of_source;
  std::vector<std::pair<const Run*, double>> used;
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    runs_of_source[runs_[i].source] += uses(i) ? 1 : 0;
  }
  for (std::size_t i = 0; i < runs_.size(); ++i) {
    if (uses(i)) {
      used.emplace_back(&runs_[i], std::pow(runs_of_source[runs_[i].source], -0.4));
    }
  }
  const std::size_t count = fitted_constants().size();
  std::vector<double> moves(count, 0);  // logarithms of factors
  std::vector<double> errors;           // of `used`, signed, at `moves`
  errors.reserve(used.size());
  for (const auto& [run, weight] : used) {
    errors.push_back(run->log_ratio);
  }
  // Loss when constant k moves to `to`, the others staying.
  const auto loss = [&](std::size_t k, double to) {
    double sum = kPull * (to * to - moves[k] * moves[k]);
    for (std::size_t i = 0; i < used.size(); ++i) {
      const auto& [run, weight] = used[i];
      const double error = std::abs(errors[i] + effect(*run, k, to) - effect(*run, k, moves[k]));
      sum += weight * (error < kSmallError ? error * error / (2 * kSmallError) + kSmallError / 2
                                           : std::min(error, kLargestError));
    }
    return sum;
  };
  std::vector<double> steps(count, kFirstStep);
  for (int round = 0; round < kMostRounds; ++round) {
    for (std::size_t k = 0; k < count; ++k) {
      if (steps[k] < kSmallestStep || knots_[k].size() < 2) {
        continue;
      }
      const double least = loss(k, moves[k]);
      bool improved = false;
      for (const double sign : {1.0, -1.0}) {
        const double to =
            std::clamp(moves[k] + sign * steps[k], knots_[k].front(), knots_[k].back());
        if (loss(k, to) < least - 1e-12) {
          for (std::size_t i = 0; i < used.size(); ++i) {
            const Run& run = *used[i].first;
            errors[i] += effect(run, k, to) - effect(run, k, moves[k]);
          }
          moves[k] = to;
          improved = true;
          break;
        }
      }
      steps[k] = improved ? std::min(kLargestStep, steps[k] * 1.3) : steps[k] * 0.6;
    }
  }
  ModelConstants result;
  for (std::size_t k = 0; k < count; ++k) {
    result.*fitted_constants()[k].member *= std::exp(moves[k]);
  }
  return result;
}

}  // namespace shardwise
