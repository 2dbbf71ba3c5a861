// evaluate() for many plans of one graph: prices of layers are kept between calls.
#pragma once

#include <memory>

#include "cost/evaluate.h"

namespace shardwise {

// Refers to graph, cluster and costs, which must outlive it. Not thread-safe: one for each thread.
class Evaluator {
 public:
  Evaluator(const Graph& graph, const Cluster& cluster, const CostTable& costs);
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  // Same as the free function, and the same result.
  Evaluation evaluate(const Plan& plan);

  // To be called when the answers of the costs have changed.
  void price_again();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shardwise
