// Fits the constants of modelled times to measured runs.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cost/model_constants.h"
#include "report/published_row.h"

namespace shardwise {

// How the predictions of many runs answer to each constant around the shipped ones: every run is
// priced once for each of a few values of each constant, the others as shipped. Between those
// values the logarithm of a prediction is taken as piecewise linear in the logarithm of the
// constant, and effects of several constants as independent: a fit asks nothing of the model, so
// one for each source costs little. Its results should be priced by the model itself.
class ConstantFit {
 public:
  // Refers to nothing in `runs` later. Deterministic.
  explicit ConstantFit(const std::vector<const PublishedRun*>& runs);

  // Constants with the least weighted error over the runs that `uses` accepts by index: each source
  // weighs as the 0.6th power of its runs, errors beyond 40 % count as 40 %, constants are drawn
  // weakly to the shipped ones and stay within the bounds of fitted_constants(). Coordinate search.
  ModelConstants fit(const std::function<bool(std::size_t)>& uses) const;

 private:
  struct Run {
    std::string source;
    double log_ratio = 0;                      // of predicted over measured, constants as shipped
    std::vector<std::vector<double>> effects;  // [constant][knot] on that logarithm
  };

  double effect(const Run& run, std::size_t constant, double log_factor) const;

  std::vector<std::vector<double>> knots_;  // [constant]: logarithms of factors, ascending, with 0
  std::vector<Run> runs_;
};

}  // namespace shardwise
