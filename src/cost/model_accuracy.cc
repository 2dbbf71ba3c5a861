#include "cost/model_accuracy.h"

#include <fmt/format.h>

#include "core/errors.h"

namespace shardwise {

std::span<const ModelAccuracy> model_accuracies() {
  using enum RunClass;
  // Lines of `shardwise score published_throughput.csv --accuracy`; a test scores anew.
  static constexpr ModelAccuracy kMeasured[] = {
      {"a100-sxm-40gb", kDenseHalf, 78, 0.063},
      {"a100-sxm-80gb", kDenseHalf, 149, 0.053},
      {"b200", kDenseSmallFormat, 4, 0.106},
      {"b200", kExperts, 16, 0.184},
      {"b300", kExperts, 14, 0.157},
      {"gb200", kDenseSmallFormat, 33, 0.091},
      {"gb200", kExperts, 28, 0.139},
      {"gb300", kDenseSmallFormat, 30, 0.214},
      {"gb300", kExperts, 26, 0.081},
      {"h100-sxm-80gb", kDenseHalf, 74, 0.084},
      {"h100-sxm-80gb", kDenseSmallFormat, 35, 0.085},
      {"h100-sxm-80gb", kExperts, 19, 0.224},
      {"v100-sxm-16gb", kDenseHalf, 9, 0.051},
      {"v100-sxm-32gb", kDenseHalf, 19, 0.099},
  };
  return kMeasured;
}

std::string to_string(RunClass run_class) {
  switch (run_class) {
    case RunClass::kDenseHalf:
      return "dense BF16/FP16";
    case RunClass::kDenseSmallFormat:
      return "dense FP8/FP4";
    case RunClass::kExperts:
      return "mixture-of-experts";
  }
  SHARDWISE_CHECK(false, "unknown class of runs");
}

std::string accuracy_text(std::string_view device) {
  std::string text;
  for (const ModelAccuracy& known : model_accuracies()) {
    if (known.device == device) {
      text += fmt::format("{}±{:.1f} % from {} published {} runs",
                          text.empty() ? "" : ", ",
                          100 * known.error,
                          known.runs,
                          to_string(known.run_class));
    }
  }
  return text.empty() ? "accuracy unknown: no published run on this device was scored" : text;
}

}  // namespace shardwise
