#include "advisor/why.h"

#include <array>
#include <cstdint>

namespace shardwise {

namespace {

struct Terms {
  static constexpr std::array kNames = {"forward",
                                        "recomputation",
                                        "backward",
                                        "collectives",
                                        "state collectives",
                                        "transfers",
                                        "waits of the schedule",
                                        "pipeline fill",
                                        "exposed gradient reduction",
                                        "optimizer",
                                        "parameter gather",
                                        "tied exchange",
                                        "overhead"};
  std::array<Picoseconds, kNames.size()> values{};
};

Terms terms_of(const Plan& plan, const Evaluation& account) {
  const StageTime* slowest = &account.stage_times.front();
  const StageTime* last = slowest;  // to end the step
  for (const StageTime& stage : account.stage_times) {
    if (stage.microbatch() + stage.transfer > slowest->microbatch() + slowest->transfer) {
      slowest = &stage;
    }
    if (stage.per_step() > last->per_step()) {
      last = &stage;
    }
  }
  const std::int64_t m = plan.num_microbatches;
  const Picoseconds own = slowest->microbatch() + slowest->transfer;
  return {{m * slowest->forward,
           m * slowest->recompute,
           m * slowest->backward,
           m * slowest->collectives,
           m * slowest->state_collectives,
           m * slowest->transfer,
           m * (account.period - own),
           account.fill - account.period,
           last->exposed_reduction,
           last->optimizer,
           last->parameter_gather,
           last->tied_exchange,
           account.overhead}};
}

const StageMemory& tightest(const Evaluation& account) {
  const StageMemory* worst = &account.stage_memory.front();
  for (const StageMemory& stage : account.stage_memory) {
    if (stage.limit - stage.total() < worst->limit - worst->total()) {
      worst = &stage;
    }
  }
  return *worst;
}

}  // namespace

std::vector<TermPair> compare_terms(const Plan& best,
                                    const Evaluation& best_account,
                                    const Plan& other,
                                    const Evaluation& other_account) {
  const Terms a = terms_of(best, best_account);
  const Terms b = terms_of(other, other_account);
  std::vector<TermPair> pairs;
  for (std::size_t i = 0; i < a.values.size(); ++i) {
    pairs.push_back({Terms::kNames[i], a.values[i], b.values[i]});
  }
  return pairs;
}

std::vector<MemoryPair> compare_memory(const Evaluation& best, const Evaluation& other) {
  const StageMemory& a = tightest(best);
  const StageMemory& b = tightest(other);
  return {{"weights", a.weights, b.weights},
          {"gradients", a.gradients, b.gradients},
          {"optimizer", a.optimizer, b.optimizer},
          {"activations in flight", a.activations, b.activations},
          {"transient", a.transient, b.transient},
          {"boundary buffers", a.boundary_buffers, b.boundary_buffers},
          {"reserve", a.reserve, b.reserve},
          {"total", a.total(), b.total()},
          {"limit", a.limit, b.limit}};
}

}  // namespace shardwise
