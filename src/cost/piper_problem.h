// Piper's planning problem and its objective, to price plans for it and to compare with it.
//
// A model is an acyclic graph of nodes; a stage is a set of nodes without a way out and back in; it
// runs with tensor degree t and data degree d on t d devices; each of its nodes takes one of the
// implementations profiled for degree t. For N micro-batches a step and bandwidth B:
//
//   time(stage)   = sum over nodes of  p / d  +  2 (c + sync) / (d B)  for each edge that leaves or
//                   enters the stage  +  4 (d - 1) / d * w / (N B)
//   memory(stage) = sum over nodes of  a y + b,   y = ceil(data degrees of this and later stages /
//   d) objective     = max over stages of time(stage), seconds per micro-batch
//
// p time, w parameter bytes, a and b memory of a node; c bytes of an edge, sync those of its end.
// Source: Tarnawski, Narayanan, Phanishayee, "Piper", NeurIPS 2021, section 3, and its code
// (msr-fiddle/piper). Filling and draining the pipeline are not in the objective.
#pragma once

#include <string>
#include <vector>

namespace shardwise {

struct PiperImplementation {
  std::string id;  // "vanilla", "activation recomp"
  double time_s = 0;
  double parameter_bytes = 0;
  double memory_slope_bytes = 0;       // a
  double memory_base_bytes = 0;        // b
  std::vector<double> sync_in_bytes;   // by PiperNode::edges_in
  std::vector<double> sync_out_bytes;  // by PiperNode::edges_out
};

struct PiperDegree {
  int tensor = 1;
  std::vector<PiperImplementation> implementations;
};

struct PiperNode {
  int id = 0;  // in the file
  std::string name;
  std::vector<PiperDegree> degrees;  // by tensor degree, rising
  std::vector<int> edges_in;         // indices into PiperProblem::edges
  std::vector<int> edges_out;

  // Implementations at that degree; null if it was not profiled.
  const std::vector<PiperImplementation>* at_degree(int tensor) const;
};

struct PiperEdge {
  int source = 0;  // index into PiperProblem::nodes
  int target = 0;
  double bytes = 0;
};

struct PiperProblem {
  std::vector<PiperNode> nodes;
  std::vector<PiperEdge> edges;
  int devices = 1;
  double memory_bytes = 0;  // of a device
  double bandwidth = 1;     // bytes per second
  int microbatches = 1;     // of a step
};

struct PiperStage {
  std::vector<int> nodes;            // indices, rising
  std::vector<int> implementations;  // of each
  int tensor = 1;
  int data = 1;
};

struct PiperPlan {
  std::vector<PiperStage> stages;  // first to last
};

struct PiperEvaluation {
  double seconds_per_microbatch = 0;
  std::vector<double> stage_memory_bytes;
  int devices = 0;
  bool fits = true;  // memory, devices, and data degrees that divide the micro-batches
};

// Any plan by the formulas above. Throws InputError if it is none: nodes missing or twice, an edge
// that leads to an earlier stage, an implementation that does not exist.
PiperEvaluation evaluate_piper(const PiperProblem& problem, const PiperPlan& plan);

}  // namespace shardwise
