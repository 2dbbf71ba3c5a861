// How far modelled times were off published runs, by device: what `shardwise score` measured.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace shardwise {

enum class RunClass { kDenseHalf, kDenseSmallFormat, kExperts };
std::string to_string(RunClass run_class);  // "dense BF16/FP16"

// Mean of |predicted / measured - 1| of the step time over `runs`, each priced with constants that
// were fitted on all other sources.
struct ModelAccuracy {
  std::string_view device;  // name of a device preset
  RunClass run_class = RunClass::kDenseHalf;
  int runs = 0;
  double error = 0;
};

// Sorted by device and class; as printed by `shardwise score TABLE --accuracy`.
std::span<const ModelAccuracy> model_accuracies();

// "+-5.1 % from 83 published dense BF16/FP16 runs, ...", or that nobody has measured one.
std::string accuracy_text(std::string_view device);

}  // namespace shardwise
