// Stages: runs of layers on one stage shape. Bounds for all runs at once, and the exact *front* of
// one run: what no other way to run it beats.
//
// Bounds are Lagrangian: for any multiplier y >= 0 of the memory constraint,
//   min { w(x) : memory(x) <= limit }  >=  min { w(x) + y (memory(x) - limit) },
// and the right side is a shortest path over boundary layouts, with the blocks' bounds as lengths.
//
// With v chunks (interleaved schedule) a stage runs its decoder layers v times, the same options
// each time: the chain is *folded*, its decoder layers count v times, its ends once.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "planner/elimination.h"
#include "planner/problem.h"

namespace shardwise::planning {

// The layers that stages divide among them.
struct LayerChain {
  std::vector<int> layers;  // of the model
  int chunks = 1;

  int size() const { return static_cast<int>(layers.size()); }
  // How often layer i of the chain runs for each micro-batch.
  int times(int i) const { return chunks > 1 && i > 0 && i + 1 < size() ? chunks : 1; }
};

// A stage but for its boundaries: layers [begin, end) of the chain.
struct StageKey {
  int shape = 0;
  int in_flight = 1;  // whole micro-batches, of interleaved passes rounded down
  int begin = 0;
  int end = 0;
  // Interleaved schedule: stages of the pipeline and which one this is; else 0.
  int stages = 0;
  int stage = 0;

  auto operator<=>(const StageKey&) const = default;
};

// Runs of equal blocks have equal numbers.
class RunNumbers {
 public:
  RunNumbers(const Problem& problem, const LayerChain& chain);

  int of(int begin, int end);

 private:
  std::vector<int> blocks_;   // by layer of the chain
  std::vector<int> numbers_;  // [begin * (size + 1) + end]; -1: not yet known
  std::map<std::vector<int>, int> known_;
};

// Shortest paths through runs of layers on one shape, for fixed weights.
class ChainBounds {
 public:
  ChainBounds(Problem& model,
              const LayerChain& chain,
              RunNumbers& numbers,
              int shape,
              TieCase tie,
              const Weights& weights);

  const Weights& weights() const { return weights_; }
  // Least weighted cost of layers [begin, end) from each input layout to each output layout;
  // activations that two layers share are taken as shared wherever that could be.
  const Matrix& run(int begin, int end);
  // Least over the inputs, for each output; and over the outputs, for each input.
  std::vector<double> least_to(int begin, int end);
  std::vector<double> least_from(int begin, int end);
  // Most that sharing the activation between layer i and the next one can save.
  double saving_after(int i, int layout);
  // Least-cost options of a run, one for each layer; nothing if there are none.
  std::optional<std::vector<Option>> minimiser(int begin, int end);
  // The same between two states at its ends.
  std::optional<std::vector<Option>> minimiser(int begin, int end, int input, int output);

 private:
  // Folded chains: the head's chunk may be in flight once only.
  Weights weights_of(int i) const;
  const BlockBound& block(int i);
  int first_entry(int i);
  const std::optional<Option>& option(int i, int input, int output);

  Problem& model_;
  const LayerChain& chain_;
  RunNumbers& numbers_;
  const int shape_;
  const TieCase tie_;
  const Weights weights_;
  std::map<int, BlockBound> blocks_;
  std::vector<std::unique_ptr<Matrix>> runs_;  // by number; null: not yet known
  std::map<std::array<int, 3>, std::optional<Option>> options_;
};

// One way to run a stage.
struct StagePoint {
  int input = 0;   // layouts at the stage's ends
  int output = 0;  //
  std::int64_t forward = 0;
  std::int64_t backward = 0;
  std::int64_t per_step = 0;
  std::int64_t memory = 0;             // all of it; a lower bound unless is_verified
  bool is_verified = false;            // it fits; else it may fit
  std::vector<const Option*> options;  // by layer of the run; owned by the front

  std::int64_t time() const { return forward + backward; }
};

// How thoroughly a front treats memory. Each level is exact about more:
//   kTimes    memory ignored; a point that happens to fit is verified
//   kMemory   memory constrains, transient memory by a lower bound
//   kExact    memory constrains exactly
enum class FrontLevel { kTimes, kMemory, kExact };

struct FrontRequest {
  StageKey key;
  FrontLevel level = FrontLevel::kTimes;
  double step_weight = 1;       // bounds and limits are in time + step_weight * per_step
  double limit = 0;             // points beyond are not needed
  std::int64_t joint_time = 0;  // > 0: only joint_time * time + per_step matters
  bool splits_forward = false;  // gpipe: forward and backward matter each
};

struct StageFront {
  std::vector<StagePoint> points;
  bool is_complete = true;  // false: gave up, points beyond those found may exist
  std::vector<std::unique_ptr<std::vector<Option>>> pools;
};

class StageSearch {
 public:
  StageSearch(Problem& model, const LayerChain& chain, TieCase tie)
      : model_(model), chain_(chain), tie_(tie), numbers_(model, chain) {}

  // Bounds of all runs of one shape, number in flight (and place among folded stages).
  class Family;
  // `key`: its layers are not read. Valid as long as this object.
  Family& family(const StageKey& key, double step_weight);
  // As bound(key, step_weight), without looking for the family.
  double bound(Family& family, int begin, int end);

  const LayerChain& chain() const { return chain_; }
  TieCase tie() const { return tie_; }

  // Largest known bound on time + step_weight * per_step of the stage; kForbidden if it cannot fit.
  double bound(const StageKey& key, double step_weight);
  // Raises the bound by better multipliers as long as that pays; true if it rose.
  bool sharpen(const StageKey& key, double step_weight);
  // Rises whenever bounds of the family may have risen.
  std::size_t changes(const Family& family) const;
  // Options that fit, of weighted time close to the bound, for some pairs of end layouts: points of
  // a front, but far from all. Null before sharpen(), and if that found none.
  std::unique_ptr<StageFront> candidates(const StageKey& key, double step_weight);
  // Whether a multiplier above zero gave the bound.
  bool is_memory_tight(const StageKey& key, double step_weight);
  // Least state and activations of the stage, a bound.
  double least_memory(const StageKey& key);
  // Options that need about the least memory.
  std::optional<std::vector<Option>> least_memory_options(const StageKey& key);

  // Points that no other beats, for each pair of end layouts, within the limit of weighted time. A
  // kTimes or kMemory front holds a point at least as good for each that really fits.
  const StageFront& front(const FrontRequest& request);

  // Memory of a run on one device, exact if the options' transients are: state and activations of
  // all chunks, buffers, transient memory; the device's reserve is not part of it.
  std::int64_t memory_of(const StageKey& key, const std::vector<const Option*>& options);

 private:
  struct ChainKey {
    int shape = 0;
    Weights weights;
    auto operator<=>(const ChainKey&) const = default;
  };
  // Multipliers tried for stages of the same shape and number in flight.
  struct DualKey {
    int shape = 0;
    int in_flight = 1;
    double step_weight = 1;
    auto operator<=>(const DualKey&) const = default;
  };
  struct Multipliers {
    std::vector<double> values{0};
    std::vector<ChainBounds*> chains{nullptr};  // with each of them; null: not yet made
    std::size_t changes = 0;
    void add(double multiplier);
  };
  struct StageDual {
    double bound = -kForbidden;
    std::size_t tried = 0;  // of the multipliers, already in `bound`
    double best_multiplier = 0;
    bool is_sharp = false;
    bool cannot_fit = false;
    std::unique_ptr<std::vector<Option>> fitting;  // null: none found
    double fitting_multiplier = 0;                 // of about these
  };
  struct FrontKey {
    StageKey key;
    FrontLevel level = FrontLevel::kTimes;
    double step_weight = 1;
    std::int64_t joint_time = 0;
    bool splits_forward = false;
    auto operator<=>(const FrontKey&) const = default;
  };
  struct KnownFront {
    double limit = 0;
    std::unique_ptr<StageFront> front;
  };
  class FrontBuilder;

  ChainBounds& chain_bounds(int shape, const Weights& weights);
  ChainBounds& memory_bounds(const StageKey& key);
  StageDual& dual_of(Family& family, int begin, int end);
  StageDual& dual_of(const StageKey& key, double step_weight);
  double bound_with(const StageKey& key, double multiplier, ChainBounds& chain);
  // For state and activations: what no transient memory of the run can spare is taken off.
  std::int64_t memory_left(const StageKey& key);
  bool frees_behind() const { return chain_.chunks == 1 && model_.frees_behind(); }
  // Buffers at a stage's ends by layout, twice the bytes.
  struct Ends {
    const BlockOptions* receives = nullptr;  // null: the stage receives nothing
    const BlockOptions* sends = nullptr;     // null: the stage sends nothing
    std::int64_t bytes(int input, int output) const {
      return 2 * ((receives != nullptr ? receives->input_bytes(input) : 0) +
                  (sends != nullptr ? sends->output_bytes(output) : 0));
    }
  };
  Ends ends_of(const StageKey& key);
  std::int64_t held_activations(const StageKey& key, const std::vector<Bytes>& kept);

  Problem& model_;
  const LayerChain chain_;
  const TieCase tie_;
  std::map<ChainKey, std::unique_ptr<ChainBounds>> chains_;
  RunNumbers numbers_;
  std::map<DualKey, Multipliers> multipliers_;
  // By shape and number in flight: multipliers that were best for some stage. New families try
  // them.
  std::map<std::pair<int, int>, std::vector<double>> seeds_;
  std::map<std::pair<StageKey, double>, std::unique_ptr<Family>> families_;
  std::vector<int> places_of_runs_;  // in a family: [begin * (size + 1) + end]; -1: none yet
  int num_places_ = 0;
  std::map<FrontKey, KnownFront> fronts_;
};

class StageSearch::Family {
  friend class StageSearch;
  StageKey key_;
  double step_weight_ = 0;
  Multipliers* multipliers_ = nullptr;
  std::vector<StageDual> duals_;  // by place
};

}  // namespace shardwise::planning
