#include "graph/layer_memory.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Bytes of a layer's values that are alive while steps run.
class LiveBytes {
 public:
  explicit LiveBytes(const LayerBody& body) : body_(body) {}

  // Most that is alive at once. `begin`: alive before the first step, `end`: after the last.
  Bytes peak(const std::vector<LayerStep>& steps,
             const std::vector<ValueId>& begin,
             const std::vector<ValueId>& end) {
    std::map<ValueId, std::size_t> last_read;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      for (const ValueId value : steps[i].reads) {
        last_read[value] = i;
      }
    }
    for (const ValueId value : end) {
      last_read[value] = steps.size();
    }
    std::set<ValueId> alive;
    Bytes live{0};
    const auto add = [&](ValueId value) {
      if (value >= 0 && alive.insert(value).second) {
        live += body_.values[at(value)].bytes;
      }
    };
    const auto remove = [&](ValueId value) {
      if (alive.erase(value) > 0) {
        live -= body_.values[at(value)].bytes;
      }
    };
    for (const ValueId value : begin) {
      add(value);
    }
    Bytes peak = live;
    for (std::size_t i = 0; i < steps.size(); ++i) {
      const LayerStep& step = steps[i];
      for (const ValueId value : step.reads) {
        add(value);  // tokens and targets come to life here
      }
      if (step.in_place >= 0 && last_read[step.in_place] == i) {
        remove(step.in_place);
      }
      for (const ValueId value : step.writes) {
        add(value);
      }
      peak = std::max(peak, live + step.workspace);
      for (const ValueId value : step.reads) {
        if (last_read[value] == i) {
          remove(value);
        }
      }
      for (const ValueId value : step.writes) {
        if (value >= 0 && !last_read.contains(value)) {
          remove(value);
        }
      }
    }
    return peak;
  }

 private:
  const LayerBody& body_;
};

}  // namespace

Bytes transient_bytes(const LayerBody& body) {
  LiveBytes live(body);
  const auto with_saved = [&](ValueId value) {
    std::vector<ValueId> values = body.saved;
    if (value >= 0) {
      values.push_back(value);
    }
    return values;
  };
  const auto present = [](ValueId value) {
    return value >= 0 ? std::vector<ValueId>{value} : std::vector<ValueId>{};
  };
  std::vector<ValueId> left = present(body.input_gradient);
  const auto keep_saved = [&](ValueId value) {
    if (std::find(body.saved.begin(), body.saved.end(), value) != body.saved.end()) {
      left.push_back(value);
    }
  };
  keep_saved(body.input);
  for (const LayerStep& step : body.recompute) {
    std::for_each(step.reads.begin(), step.reads.end(), keep_saved);
  }
  std::vector<LayerStep> backward = body.recompute;
  backward.insert(backward.end(), body.backward.begin(), body.backward.end());
  const Bytes forward_peak = live.peak(body.forward, present(body.input), with_saved(body.output));
  const Bytes backward_peak = live.peak(backward, with_saved(body.output_gradient), left);
  return std::max(forward_peak, backward_peak) - body.saved_bytes();
}

}  // namespace shardwise
