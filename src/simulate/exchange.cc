// Messages without overlap: a rank stands while it sends.
#include <utility>

#include "simulate/script.h"

namespace shardwise::internal {

void make_sends_synchronous(Script& script) {
  const std::vector<Step> steps = std::exchange(script.steps, {});
  const std::vector<StepLabel> labels = std::exchange(script.labels, {});
  std::vector<std::size_t> sent;  // since the last other step
  const auto keep = [&](std::size_t i, StepKind kind) {
    script.steps.push_back(steps[i]);
    script.steps.back().kind = kind;
    if (!labels.empty()) {
      script.labels.push_back(labels[i]);
    }
  };
  for (std::size_t i = 0; i <= steps.size(); ++i) {
    const bool is_send = i < steps.size() && steps[i].kind == StepKind::kPost &&
                         script.messages[static_cast<std::size_t>(steps[i].index)].sends;
    if (is_send) {
      sent.push_back(i);
    } else {
      for (const std::size_t send : std::exchange(sent, {})) {
        keep(send, StepKind::kWait);
      }
    }
    if (i < steps.size()) {
      keep(i, steps[i].kind);
    }
  }
  script.sends_are_buffered = true;
}

}  // namespace shardwise::internal
