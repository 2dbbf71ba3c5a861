// What a changed cluster would change: planned again, never estimated.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "planner/planner.h"

namespace shardwise {

// Times of a changed cluster, by the rule that made those of the given one.
using CostsOfCluster = std::function<std::shared_ptr<const CostTable>(const Cluster&)>;
// A method of planning: find_plan, or one that keeps to a framework.
using PlanFinder = std::function<PlanResult(const PlanRequest&, const Cluster&, const CostTable&)>;

// One change of a cluster.
struct ClusterChange {
  std::string name;  // "one more node", "10 % more bandwidth of network", ...
  Cluster cluster;
};

// One more part of the outermost level of the network (a node where there are two levels; of the
// type of the last group), 10 % more memory on every device (rounded down to bytes), and for each
// level of the network 10 % more bandwidth. A cluster without a network between nodes cannot grow.
std::vector<ClusterChange> usual_changes(const Cluster& cluster);

// `count` more parts of the outermost level, or nothing where no network joins them.
std::optional<Cluster> with_more_nodes(const Cluster& cluster, int count);

struct Sensitivity {
  ClusterChange change;
  PlanResult result;
};

// What holds the plan back most. kMemory: the memory of the stage that is fullest; kNetwork: a
// level of the network; kCompute: neither, so the devices' speed.
struct BindingConstraint {
  enum class Kind { kMemory, kNetwork, kCompute };
  Kind kind = Kind::kCompute;
  std::string change;  // whose gain is largest; empty for kCompute
  double gain = 0;     // share of the step time that it saves
  int stage = 0;       // kMemory: the fullest; else the one that sets the period
};

// Plans again under each usual change: each figure is that of a fresh run with that change.
// Limits, gap and constraints are the request's; `stop` ends it early with fewer figures.
std::vector<Sensitivity> find_sensitivity(const PlanRequest& request,
                                          const PlanFinder& find,
                                          const Cluster& cluster,
                                          const CostsOfCluster& costs);

// Of the changes of one tenth, the one that saves most of the step of `plan`.
BindingConstraint find_binding_constraint(const std::vector<Sensitivity>& changes,
                                          const Evaluation& plan);

// A single change after which something fits.
struct FittingChange {
  std::string text;  // "1 more node", "bf16 instead of fp32", ...
  PlanRequest request;
  Cluster cluster;
  bool is_least = true;  // proved: less of the same would not do
};

// For a request that is infeasible on the cluster: the fewest more nodes (up to 64 times as many,
// found by doubling and halving), the least memory (`extra_memory`, of PlanResult), bf16 for fp32.
// Each is proved by a search; those that do not help, or are not decided within the time limit, are
// left out.
std::vector<FittingChange> find_fitting_changes(const PlanRequest& request,
                                                const PlanFinder& find,
                                                const Cluster& cluster,
                                                const CostsOfCluster& costs,
                                                const std::optional<Infeasibility>& infeasibility);

}  // namespace shardwise
