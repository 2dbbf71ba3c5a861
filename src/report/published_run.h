// A published training run as what every other question is asked with: graph, cluster, plan and
// the table of modelled times. The same evaluation prices it that prices what `plan` finds.
#pragma once

#include <memory>

#include "cost/decoder_shape.h"
#include "cost/evaluator.h"
#include "cost/modelled_table.h"
#include "planner/uniform_layout.h"

namespace shardwise {

// One layout for all layers. Selective recomputation of frameworks that know nothing of a layer's
// inside repeats half of them: every second layer in full.
struct RunLayout {
  UniformLayout grid;  // expert: degree inside the data ranks, or a multiple of them
  std::int64_t batch = 1;
  std::int64_t sequence = 1;
  bool repeats_every_second_layer = false;
};

// The plan of the run on ranks 0 .. world - 1. Experts spread over neighbours as in Megatron-LM:
// tensor ranks first where these share the sequence out and the degree is a multiple of theirs,
// then an inner part of the data ranks; the outer part holds copies. Layers are even; where the
// model has two less than stages times layers, the ends, which hold embedding and head, get one
// less. Throws what make_uniform_plan throws.
Plan run_plan(const Graph& graph, const RunLayout& layout);

// Keeps graph, plan and prices of one run, so that other constants are priced quickly. Neither
// copied nor moved: its parts refer to each other.
class RunModel {
 public:
  // Throws what run_plan throws.
  RunModel(const DecoderShape& shape,
           const RunLayout& layout,
           const Execution& execution,
           Cluster cluster);
  RunModel(const RunModel&) = delete;
  RunModel& operator=(const RunModel&) = delete;

  Evaluation evaluate(const ModelConstants& constants = {});

  const Graph& graph() const { return graph_; }
  const Plan& plan() const { return plan_; }
  const Cluster& cluster() const { return cluster_; }

 private:
  const Cluster cluster_;
  const Graph graph_;
  const Plan plan_;
  ModelledTable table_;
  Evaluator evaluator_;
};

// The graph that a RunModel prices: the vocabulary padded to whole tiles of every tensor rank.
Graph run_graph(const DecoderShape& shape, const RunLayout& layout);

// Bytes of the fullest device, reserve included; and what the program allocates of them.
Bytes peak_memory(const Evaluation& evaluation);
Bytes allocated_memory(const Evaluation& evaluation);

}  // namespace shardwise
