// What a checkpoint reads and writes of one rank: its part of the model and of the optimizer.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "lower/program.h"

namespace shardwise {

// How far the training has come.
struct TrainingProgress {
  std::int64_t step = 0;    // updates done
  std::int64_t tokens = 0;  // trained on, in all steps together
  std::uint64_t seed = 0;   // of starting values and data order

  bool operator==(const TrainingProgress&) const = default;
};

// The values of a parameter that are kept from step to step.
enum class StateValues {
  kWeight,        // compute type
  kMaster,        // fp32; only where the compute type is another
  kFirstMoment,   // fp32; not of an exchanged alias, like the other two
  kSecondMoment,  // fp32
};

// What this rank holds of them, in place: elements [begin, begin + values.numel()) of the local
// part, flat in the order of LocalParameter::shape. Contiguous; may reach beyond the last element
// (padding). Undefined: nothing.
struct HeldValues {
  at::Tensor values;
  std::int64_t begin = 0;
};

// Ranks that hold the same elements hold the same values.
class TrainingState {
 public:
  virtual ~TrainingState() = default;

  // Empty on an idle rank.
  virtual const std::vector<LocalParameter>& parameters() const = 0;
  // Equal on all ranks.
  virtual Precision precision() const = 0;

  // Of parameters()[parameter]. A checkpoint is loaded into these tensors.
  virtual HeldValues held(int parameter, StateValues which) = 0;

  virtual TrainingProgress progress() const = 0;
  virtual void set_progress(const TrainingProgress& progress) = 0;
};

}  // namespace shardwise
