#include "planner/methods/amp.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>

#include "core/errors.h"
#include "cost/evaluator.h"
#include "planner/methods/best_plan.h"
#include "planner/microbatches.h"
#include "planner/uniform_layout.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Least sum of transfers of a split whose stages take at most `longest`, and its sizes.
struct Split {
  std::int64_t transfers = 0;
  std::vector<int> sizes;
};

std::optional<Split> split_within(const std::vector<Picoseconds>& layers,
                                  const std::vector<Picoseconds>& transfers,
                                  int stages,
                                  std::int64_t longest) {
  constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
  const int count = static_cast<int>(layers.size());
  // best[s][i]: layers from i on in s stages.
  std::vector<std::vector<std::int64_t>> best(at(stages + 1),
                                              std::vector<std::int64_t>(at(count + 1), kNone));
  std::vector<std::vector<int>> size(at(stages + 1), std::vector<int>(at(count + 1), 0));
  best[0][at(count)] = 0;
  for (int s = 1; s <= stages; ++s) {
    for (int i = count - 1; i >= 0; --i) {
      std::int64_t time = 0;
      for (int end = i + 1; end <= count; ++end) {
        time += layers[at(end - 1)].count;
        if (time > longest) {
          break;
        }
        const std::int64_t rest = best[at(s - 1)][at(end)];
        if (rest == kNone) {
          continue;
        }
        const std::int64_t total = rest + (end < count ? transfers[at(end - 1)].count : 0);
        if (total < best[at(s)][at(i)]) {
          best[at(s)][at(i)] = total;
          size[at(s)][at(i)] = end - i;
        }
      }
    }
  }
  if (best[at(stages)][0] == kNone) {
    return std::nullopt;
  }
  Split split{best[at(stages)][0], {}};
  int i = 0;
  for (int s = stages; s > 0; --s) {
    split.sizes.push_back(size[at(s)][at(i)]);
    i += split.sizes.back();
  }
  return split;
}

class AmpSearch {
 public:
  AmpSearch(const PlanRequest& request, const Cluster& cluster, const CostTable& costs)
      : request_(request), cluster_(cluster), costs_(costs), best_(request, cluster) {}

  PlanResult search() {
    const std::vector<AmpCandidate> candidates =
        amp_candidates(cluster_.num_devices(), cluster_.levels.front().size, request_.batch);
    return best_.run([&] { search_all(candidates); },
                     "AMP's grid of " + std::to_string(candidates.size()) + " candidates");
  }

 private:
  void search_all(const std::vector<AmpCandidate>& candidates) {
    const std::vector<int> counts = planning::microbatch_counts(request_);
    for (const AmpCandidate& candidate : candidates) {
      const std::int64_t count = request_.batch / candidate.data / candidate.micro;
      if (std::find(counts.begin(), counts.end(), count) != counts.end()) {
        try_candidate(candidate);
      }
    }
  }

  void try_candidate(const AmpCandidate& candidate) {
    UniformLayout layout;
    layout.tensor = candidate.tensor;
    layout.data = candidate.data;
    layout.pipeline = candidate.pipeline;
    layout.micro = candidate.micro;
    open(layout.microbatch());
    const auto even = evaluate_layout(layout);
    if (!even || layout.pipeline == 1) {
      return;
    }
    // Where the even split puts its layers, and what one of them takes: by moving one.
    std::vector<int> sizes;
    for (const StagePlan& stage : even->plan.stages) {
      sizes.push_back(static_cast<int>(stage.chunks[0].layers.size()));
    }
    --sizes.front();  // embedding
    --sizes.back();   // head
    if (sizes.front() < 1 || sizes.back() < 1) {
      return;
    }
    layout.layers = sizes;
    --layout.layers.back();
    ++layout.layers.front();
    const auto moved = evaluate_layout(layout);
    if (!moved) {
      return;
    }
    const auto& stages = even->evaluation.stage_times;
    const Picoseconds layer =
        moved->evaluation.stage_times.front().microbatch() - stages.front().microbatch();
    if (layer.count <= 0) {
      return;
    }
    int decoders = 0;
    for (const int size : sizes) {
      decoders += size;
    }
    std::vector<Picoseconds> times(at(decoders), layer);
    times.front() += std::max(Picoseconds(0), stages.front().microbatch() - sizes.front() * layer);
    times.back() += std::max(Picoseconds(0), stages.back().microbatch() - sizes.back() * layer);
    const std::vector<Picoseconds> transfers(times.size(), stages.front().transfer);
    layout.layers = split_layers(
        times, transfers, layout.pipeline, static_cast<int>(request_.batch / graph_->microbatch));
    evaluate_layout(layout);
  }

  void open(std::int64_t microbatch) {
    if (graph_ == nullptr || graph_->microbatch != microbatch) {
      evaluator_.reset();
      graph_ = std::make_unique<Graph>(request_.graph(microbatch));
      evaluator_ = std::make_unique<Evaluator>(*graph_, cluster_, costs_);
    }
  }

  struct Judged {
    Plan plan;
    Evaluation evaluation;
  };

  // Nothing if the candidate does not fit the model, or lies outside the space.
  std::optional<Judged> evaluate_layout(const UniformLayout& layout) {
    std::optional<Plan> plan = planning::find_uniform_plan(layout, *graph_, request_, cluster_);
    if (!plan) {
      return std::nullopt;
    }
    Evaluation evaluation = best_.judge(*plan, *graph_, *evaluator_);
    return Judged{std::move(*plan), std::move(evaluation)};
  }

  const PlanRequest& request_;
  const Cluster& cluster_;
  const CostTable& costs_;
  std::unique_ptr<Graph> graph_;
  std::unique_ptr<Evaluator> evaluator_;
  planning::BestPlan best_;
};

}  // namespace

std::vector<AmpCandidate> amp_candidates(int devices, int devices_per_node, std::int64_t batch) {
  std::vector<AmpCandidate> candidates;
  for (int tensor = 1; tensor <= std::min(devices, devices_per_node); ++tensor) {
    if (devices_per_node % tensor != 0 || devices % tensor != 0) {
      continue;
    }
    const int rest = devices / tensor;
    for (int data = 1; data <= rest; ++data) {
      if (rest % data != 0 || batch % data != 0) {
        continue;
      }
      for (std::int64_t micro = 1; micro <= batch / data; ++micro) {
        if (batch / data % micro == 0) {
          candidates.push_back({tensor, data, rest / data, micro});
        }
      }
    }
  }
  return candidates;
}

std::vector<int> split_layers(const std::vector<Picoseconds>& layers,
                              const std::vector<Picoseconds>& transfers,
                              int stages,
                              int microbatches) {
  SHARDWISE_CHECK(stages >= 1 && at(stages) <= layers.size() && layers.size() == transfers.size(),
                  "a split into more stages than layers");
  // The longest stage is the sum of some run of layers.
  std::vector<std::int64_t> sums;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    std::int64_t sum = 0;
    for (std::size_t end = i; end < layers.size(); ++end) {
      sum += layers[end].count;
      sums.push_back(sum);
    }
  }
  std::sort(sums.begin(), sums.end());
  sums.erase(std::unique(sums.begin(), sums.end()), sums.end());
  std::vector<int> best;
  std::int64_t best_value = std::numeric_limits<std::int64_t>::max();
  // Feasible from some longest stage on: find it first. With one micro-batch it costs nothing.
  std::size_t low = microbatches == 1 ? sums.size() - 1 : 0;
  std::size_t high = sums.size() - 1;
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    if (split_within(layers, transfers, stages, sums[middle])) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  for (std::size_t n = low; n < sums.size(); ++n) {
    const std::int64_t steady = (microbatches - 1) * sums[n];
    if (steady >= best_value) {
      break;
    }
    const auto split = split_within(layers, transfers, stages, sums[n]);
    if (steady + split->transfers < best_value) {
      best_value = steady + split->transfers;
      best = split->sizes;
    }
  }
  return best;
}

PlanResult find_amp_plan(const PlanRequest& request,
                         const Cluster& cluster,
                         const CostTable& costs) {
  return AmpSearch(request, cluster, costs).search();
}

}  // namespace shardwise
