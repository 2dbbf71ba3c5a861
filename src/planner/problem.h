// What the search works on: layers with options, costs on their boundaries, places for stages. One
// implementation derives all of it from a graph (model.h), one from lists (listed_model.h); the
// search knows neither.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/units.h"
#include "planner/option.h"
#include "planner/stage_places.h"

namespace shardwise::planning {

// How embedding and head hold one parameter (graph/tied.h). kNone: nothing is tied.
enum class TieCase { kNone, kShared, kExchanged };

// Options of one layer on one stage shape. Boundary states are numbers: inputs [0, num_carried) are
// the outputs of the layer before it in the same stage, inputs from first_entry() on may begin a
// stage; every problem says what they mean. Weights without memory: the options that could be
// fastest if memory were free suffice.
class BlockOptions {
 public:
  virtual ~BlockOptions() = default;

  virtual int num_inputs() const = 0;
  virtual int num_outputs() const = 0;
  virtual int first_entry() const { return 0; }
  // Bytes of the boundary tensor on a device.
  virtual std::int64_t input_bytes(int input) const = 0;
  virtual std::int64_t output_bytes(int output) const = 0;
  // Whether an option may have `saves_output`.
  virtual bool may_save_output() const = 0;

  // At most the weighted cost of every option.
  virtual BlockBound bound(const Weights& weights) = 0;
  // An option that (nearly) reaches bound(weights) between two states; `mode` is BlockBound's.
  virtual std::optional<Option> minimiser(const Weights& weights,
                                          int mode,
                                          int input,
                                          int output) = 0;
  // All options with weighted cost <= limit(input, output) that no other beats.
  virtual OptionSet find(const Weights& weights, const Matrix& limit, const Criteria& criteria) = 0;
  // At most the transient memory of every option.
  virtual std::int64_t least_transient() = 0;
  virtual std::int64_t exact_transient(const Option& option) const = 0;
};

// Time from one stage's output state to the next one's input state, forward and backward.
struct Transfer {
  std::int64_t forward = 0;
  std::int64_t backward = 0;
  bool is_possible = true;
};

// One end of a stage boundary.
struct StageEnd {
  StagePlace place;
  int shape = 0;
  int state = 0;  // output of the sender, input of the receiver

  auto operator<=>(const StageEnd&) const = default;
};

// One micro-batch count.
class Problem {
 public:
  virtual ~Problem() = default;

  virtual const Deadline& deadline() const = 0;
  virtual int num_microbatches() const = 0;
  virtual int num_layers() const = 0;
  virtual int block_of(int layer) const = 0;  // layers of equal blocks have equal options
  virtual bool is_tied() const = 0;           // first and last layer share a parameter

  virtual const StagePlaces& places() const = 0;
  virtual int max_stage_devices() const = 0;  // 0: no limit
  // Whether stages may have several chunks, if layers are alike.
  virtual bool may_interleave() const { return true; }
  // Whether layers [begin, end) may be a stage of one chunk.
  virtual bool may_be_stage(int /*begin*/, int /*end*/) const { return true; }
  // Shapes a stage may have there; equal shapes have equal numbers.
  virtual const std::vector<int>& shapes_at(const StagePlace& place) = 0;
  virtual std::int64_t memory_limit(int shape) const = 0;  // of a device, for the stage
  // Whether a layer's transient memory may use what the layers behind its run of equal blocks keep
  // (stage_prices.h: chunk_transient). False: the most of a stage counts.
  virtual bool frees_behind() const { return false; }
  virtual BlockOptions& options(int shape, int layer, TieCase tie) = 0;

  // `layer`: the sender's last one.
  virtual Transfer transfer(int layer, const StageEnd& sender, const StageEnd& receiver) = 0;
  // What an exchanged tie adds to the per-step part of both stages. The ends' states are not read.
  virtual std::int64_t tie_exchange(const StageEnd& owner,
                                    const Option& owner_option,
                                    const StageEnd& alias,
                                    const Option& alias_option) = 0;
  virtual std::int64_t step_overhead(int ranks) = 0;
  // Least overhead of a plan whose stages lie in these taken devices.
  virtual std::int64_t least_overhead(int used) = 0;
};

// A plan as the search knows it.
struct StageSolution {
  StagePlace place;
  int shape = 0;
  int begin = 0;                // layers of the chain that stages divide
  std::vector<Option> options;  // one for each
};

struct PipelineSolution {
  Problem* problem = nullptr;
  Schedule schedule = Schedule::k1F1B;
  int chunks = 1;
  std::vector<StageSolution> stages;  // first to last
};

}  // namespace shardwise::planning
