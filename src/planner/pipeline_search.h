// The best pipeline of a given number of stages, for one micro-batch count and schedule.
//
// With p_i, o_i, s_i of stage i (docs/cost_model.md), P stages, m micro-batches and
// c_i = p_i + w s_i with w = 1 / (m + P - 1), every plan takes at least
//
//   sum_i c_i + (m - 1) max_i c_i        (interleaved, v chunks: (m + (P - 1) / v) max_i c_i with
//                                         w = 1 / (m + (P - 1) / v))
//
// for s_i <= S = max s gives p_i >= c_i - w S, and the S that remain cancel. Stage bounds on c_i
// alone bound the step: a dynamic programme over stages from the last to the first, labels = (sum,
// max). What stays below the incumbent is then done exactly: stage fronts, boundary layouts,
// transfers, ties, largest per-step part.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "planner/incumbent.h"
#include "planner/pipeline_relaxation.h"
#include "planner/pipeline_space.h"
#include "planner/stage_search.h"

namespace shardwise::planning {

class PipelineSearch {
 public:
  // `places`: place_classes(model).
  PipelineSearch(Problem& model,
                 StageSearch& stages,
                 const PipelineShape& shape,
                 const PlaceClasses& places,
                 RunBounds& runs,
                 Incumbent& incumbent);
  ~PipelineSearch();
  PipelineSearch(const PipelineSearch&) = delete;
  PipelineSearch& operator=(const PipelineSearch&) = delete;

  // Proved: no plan of this shape is faster. Infinite if nothing fits.
  double bound() const;
  // What follows takes any weight up to w above: less gives weaker bounds, which more numbers of
  // stages share. Raises the bound by the aggregated relaxation, once there is a plan;
  // `sharpenings`: how often stages may be looked at more closely for that. False: no plan of this
  // shape beats the incumbent.
  bool relax(double step_weight, InFlight in_flight, Devices devices, int sharpenings);
  // Raises the bound to one that the caller has proved.
  void raise_to(double bound);
  // Whether one more stage would make the largest size that all can have smaller.
  bool uses_all_devices() const;
  // Improves the incumbent by a plan whose stages have equally many devices, if that is easy.
  void try_equal_stages(double step_weight);
  // The same with the sizes that the last relax() with placed devices would have.
  void try_placed_stages(double step_weight);
  // Raises the bound and sharpens the stages on the best path, while the bound stays below the
  // incumbent and that pays.
  void sharpen(double step_weight);
  // Searches exactly in a window above the bound, wider each time: improves the incumbent or raises
  // the bound to the window's edge. True: another window is left. False and a bound below the
  // incumbent: a limit on labels was hit.
  bool solve();
  // Forgets all but the bound.
  void release();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace shardwise::planning
