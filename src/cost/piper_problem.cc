#include "cost/piper_problem.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"

namespace shardwise {

const std::vector<PiperImplementation>* PiperNode::at_degree(int tensor) const {
  for (const PiperDegree& degree : degrees) {
    if (degree.tensor == tensor) {
      return &degree.implementations;
    }
  }
  return nullptr;
}

namespace {

// Stage of each node. Throws unless every node has exactly one and edges lead forward.
std::vector<int> stage_of_nodes(const PiperProblem& problem, const PiperPlan& plan) {
  std::vector<int> stage_of(problem.nodes.size(), -1);
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    for (const int node : plan.stages[s].nodes) {
      if (node < 0 || node >= static_cast<int>(problem.nodes.size()) ||
          stage_of[static_cast<std::size_t>(node)] >= 0) {
        throw InputError("Piper plan", fmt::format("node {} stands in no or in two stages", node));
      }
      stage_of[static_cast<std::size_t>(node)] = static_cast<int>(s);
    }
  }
  for (std::size_t v = 0; v < stage_of.size(); ++v) {
    if (stage_of[v] < 0) {
      throw InputError("Piper plan", fmt::format("node {} stands in no stage", v));
    }
  }
  for (const PiperEdge& edge : problem.edges) {
    if (stage_of[static_cast<std::size_t>(edge.source)] >
        stage_of[static_cast<std::size_t>(edge.target)]) {
      throw InputError(
          "Piper plan",
          fmt::format(
              "edge from node {} to {} leads to an earlier stage", edge.source, edge.target));
    }
  }
  return stage_of;
}

}  // namespace

PiperEvaluation evaluate_piper(const PiperProblem& problem, const PiperPlan& plan) {
  const std::vector<int> stage_of = stage_of_nodes(problem, plan);
  PiperEvaluation result;
  result.stage_memory_bytes.resize(plan.stages.size());
  long later_degrees = 0;
  for (std::size_t s = plan.stages.size(); s-- > 0;) {
    const PiperStage& stage = plan.stages[s];
    if (stage.tensor < 1 || stage.data < 1 || stage.nodes.size() != stage.implementations.size()) {
      throw InputError("Piper plan", fmt::format("stage {} is malformed", s));
    }
    later_degrees += stage.data;
    const std::int64_t whole = (later_degrees + stage.data - 1) / stage.data;
    const auto held = static_cast<double>(whole);
    const double d = stage.data;
    double time = 0;
    double memory = 0;
    for (std::size_t i = 0; i < stage.nodes.size(); ++i) {
      const PiperNode& node = problem.nodes[static_cast<std::size_t>(stage.nodes[i])];
      const auto* choices = node.at_degree(stage.tensor);
      const int choice = stage.implementations[i];
      if (choices == nullptr || choice < 0 || choice >= static_cast<int>(choices->size())) {
        throw InputError("Piper plan",
                         fmt::format("node {} has no implementation {} at tensor degree {}",
                                     stage.nodes[i],
                                     choice,
                                     stage.tensor));
      }
      const PiperImplementation& own = (*choices)[static_cast<std::size_t>(choice)];
      double bytes = 4 * (d - 1) / d * own.parameter_bytes / problem.microbatches;
      for (std::size_t e = 0; e < node.edges_in.size(); ++e) {
        const PiperEdge& edge = problem.edges[static_cast<std::size_t>(node.edges_in[e])];
        if (stage_of[static_cast<std::size_t>(edge.source)] != static_cast<int>(s)) {
          bytes += 2 * (edge.bytes + own.sync_in_bytes[e]) / d;
        }
      }
      for (std::size_t e = 0; e < node.edges_out.size(); ++e) {
        const PiperEdge& edge = problem.edges[static_cast<std::size_t>(node.edges_out[e])];
        if (stage_of[static_cast<std::size_t>(edge.target)] != static_cast<int>(s)) {
          bytes += 2 * (edge.bytes + own.sync_out_bytes[e]) / d;
        }
      }
      time += own.time_s / d + bytes / problem.bandwidth;
      memory += own.memory_slope_bytes * held + own.memory_base_bytes;
    }
    result.seconds_per_microbatch = std::max(result.seconds_per_microbatch, time);
    result.stage_memory_bytes[s] = memory;
    result.devices += stage.tensor * stage.data;
    result.fits =
        result.fits && memory <= problem.memory_bytes && problem.microbatches % stage.data == 0;
  }
  result.fits =
      result.fits && result.devices <= problem.devices && later_degrees <= problem.microbatches;
  return result;
}

}  // namespace shardwise
