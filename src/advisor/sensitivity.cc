#include "advisor/sensitivity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/text.h"

namespace shardwise {

namespace {

constexpr int kMostTimes = 64;  // as many nodes

PlanRequest without_extras(PlanRequest request) {
  request.runner_ups = RunnerUps::kSkip;
  request.progress = nullptr;
  return request;
}

class FittingSearch {
 public:
  FittingSearch(const PlanRequest& request, const PlanFinder& find, const CostsOfCluster& costs)
      : request_(without_extras(request)), find_(find), costs_(costs) {
    request_.gap = 1e15;  // any plan will do
  }

  // Whether something fits; nothing: not decided.
  std::optional<bool> fits(const PlanRequest& request, const Cluster& cluster) const {
    const PlanResult result = find_(request, cluster, *costs_(cluster));
    if (result.plan) {
      return true;
    }
    return result.stop_reason == StopReason::kInfeasible ? std::optional(false) : std::nullopt;
  }

  const PlanRequest& request() const { return request_; }

 private:
  PlanRequest request_;
  const PlanFinder& find_;
  const CostsOfCluster& costs_;
};

// Fewest more nodes with which something fits, and whether one fewer was proved not to do.
std::optional<std::pair<int, bool>> fewest_nodes(const FittingSearch& search,
                                                 const Cluster& cluster) {
  int no = 0;
  int yes = 1;
  bool is_least = true;
  const int most =
      kMostTimes * std::max(cluster.levels.empty() ? 1 : cluster.levels.back().size, 1);
  while (true) {
    const std::optional<Cluster> larger = with_more_nodes(cluster, yes);
    if (!larger || yes > most) {
      return std::nullopt;
    }
    const std::optional<bool> fits = search.fits(search.request(), *larger);
    if (!fits) {
      return std::nullopt;
    }
    if (*fits) {
      break;
    }
    no = std::exchange(yes, 2 * yes);
  }
  while (yes - no > 1) {
    const int middle = no + (yes - no) / 2;
    const std::optional<bool> fits =
        search.fits(search.request(), *with_more_nodes(cluster, middle));
    is_least = is_least && fits.has_value();
    if (!fits) {
      break;
    }
    (*fits ? yes : no) = middle;
  }
  return std::pair(yes, is_least);
}

}  // namespace

std::optional<Cluster> with_more_nodes(const Cluster& cluster, int count) {
  if (cluster.levels.size() < 2 || cluster.groups.empty()) {
    return std::nullopt;
  }
  Cluster larger = cluster;
  const int part = cluster.num_devices() / std::max(cluster.levels.back().size, 1);
  larger.levels.back().size += count;
  larger.groups.back().count += count * part;
  return larger;
}

std::vector<ClusterChange> usual_changes(const Cluster& cluster) {
  std::vector<ClusterChange> changes;
  if (std::optional<Cluster> larger = with_more_nodes(cluster, 1)) {
    changes.push_back({cluster.levels.size() == 2
                           ? std::string("one more node")
                           : fmt::format("one more part of {}", cluster.levels.back().name),
                       std::move(*larger)});
  }
  ClusterChange memory{"10 % more memory", cluster};
  for (DeviceType& type : memory.cluster.types) {
    type.memory = Bytes(type.memory.count + type.memory.count / 10);
  }
  changes.push_back(std::move(memory));
  for (std::size_t level = 0; level < cluster.levels.size(); ++level) {
    ClusterChange faster{fmt::format("10 % more bandwidth of {}", cluster.levels[level].name),
                         cluster};
    NetworkLevel& changed = faster.cluster.levels[level];
    changed.bandwidth = BytesPerSecond(std::round(changed.bandwidth.count * 1.1));
    if (changed.size > 1) {
      changes.push_back(std::move(faster));
    }
  }
  return changes;
}

std::vector<Sensitivity> find_sensitivity(const PlanRequest& request,
                                          const PlanFinder& find,
                                          const Cluster& cluster,
                                          const CostsOfCluster& costs) {
  const PlanRequest again = without_extras(request);
  std::vector<Sensitivity> all;
  for (ClusterChange& change : usual_changes(cluster)) {
    if (request.stop != nullptr && *request.stop) {
      break;
    }
    PlanResult result = find(again, change.cluster, *costs(change.cluster));
    all.push_back({std::move(change), std::move(result)});
  }
  return all;
}

BindingConstraint find_binding_constraint(const std::vector<Sensitivity>& changes,
                                          const Evaluation& plan) {
  BindingConstraint binding;
  for (const Sensitivity& one : changes) {
    const bool is_tenth = one.change.name.starts_with("10 %");
    if (!is_tenth || !one.result.plan) {
      continue;
    }
    const double gain = 1 - static_cast<double>(one.result.step_time.count) /
                                static_cast<double>(plan.step_time.count);
    if (gain > binding.gain) {
      binding.gain = gain;
      binding.change = one.change.name;
      binding.kind = one.change.name.ends_with("memory") ? BindingConstraint::Kind::kMemory
                                                         : BindingConstraint::Kind::kNetwork;
    }
  }
  // A tenth of the devices' speed saves at most a tenth of the kernels' share: the period's
  // kernels against what the best change saves.
  const auto stages = static_cast<int>(plan.stage_times.size());
  Picoseconds longest{-1};
  double kernels = 0;
  for (int s = 0; s < stages; ++s) {
    const StageTime& time = plan.stage_times[static_cast<std::size_t>(s)];
    if (time.microbatch() + time.transfer > longest) {
      longest = time.microbatch() + time.transfer;
      binding.stage = s;
      kernels = static_cast<double>((time.forward + time.recompute + time.backward).count) /
                static_cast<double>(std::max<std::int64_t>(longest.count, 1));
    }
  }
  if (binding.gain < kernels * (1 - 1 / 1.1) && binding.kind != BindingConstraint::Kind::kMemory) {
    binding.kind = BindingConstraint::Kind::kCompute;
    binding.change.clear();
    binding.gain = 0;
  }
  if (binding.kind == BindingConstraint::Kind::kMemory) {
    double fullest = -1;
    for (int s = 0; s < stages; ++s) {
      const StageMemory& memory = plan.stage_memory[static_cast<std::size_t>(s)];
      const double share =
          static_cast<double>(memory.total().count) / static_cast<double>(memory.limit.count);
      if (share > fullest) {
        fullest = share;
        binding.stage = s;
      }
    }
  }
  return binding;
}

std::vector<FittingChange> find_fitting_changes(const PlanRequest& request,
                                                const PlanFinder& find,
                                                const Cluster& cluster,
                                                const CostsOfCluster& costs,
                                                const std::optional<Infeasibility>& infeasibility) {
  const FittingSearch search(request, find, costs);
  std::vector<FittingChange> changes;
  if (infeasibility) {
    FittingChange change{
        fmt::format("{} ({} B) more memory on each device",  // a rounded figure need not do
                    format_bytes(infeasibility->extra_memory),
                    infeasibility->extra_memory.count),
        request,
        cluster,
        infeasibility->is_least};
    for (DeviceType& type : change.cluster.types) {
      type.memory += infeasibility->extra_memory;
    }
    if (search.fits(search.request(), change.cluster).value_or(false)) {
      changes.push_back(std::move(change));
    }
  }
  if (const auto nodes = fewest_nodes(search, cluster)) {
    changes.push_back({fmt::format("{} more node{}", nodes->first, nodes->first > 1 ? "s" : ""),
                       request,
                       *with_more_nodes(cluster, nodes->first),
                       nodes->second});
  }
  if (request.precision == Precision::kFloat32) {
    PlanRequest half = search.request();
    half.precision = Precision::kBFloat16;
    if (search.fits(half, cluster).value_or(false)) {
      FittingChange change{"bf16 instead of fp32", request, cluster, true};
      change.request.precision = Precision::kBFloat16;
      changes.push_back(std::move(change));
    }
  }
  return changes;
}

}  // namespace shardwise
