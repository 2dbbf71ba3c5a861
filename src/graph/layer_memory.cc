#include "graph/layer_memory.h"

#include <algorithm>
#include <map>
#include <set>
#include <vector>

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Sum of value bytes alive beyond `saved` while `steps` run; `begin`: alive before the first step,
// `end`: alive after the last.
class LiveBytes {
 public:
  explicit LiveBytes(const LayerBody& body)
      : body_(body), saved_(body.saved.begin(), body.saved.end()) {}

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
      if (value >= 0 && !saved_.contains(value) && alive.insert(value).second) {
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
      if (step.in_place >= 0) {
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
  std::set<ValueId> saved_;
};

}  // namespace

Bytes transient_bytes(const LayerBody& body) {
  LiveBytes live(body);
  const auto present = [](ValueId value) {
    return value >= 0 ? std::vector<ValueId>{value} : std::vector<ValueId>{};
  };
  std::vector<LayerStep> backward = body.recompute;
  backward.insert(backward.end(), body.backward.begin(), body.backward.end());
  return std::max(live.peak(body.forward, present(body.input), present(body.output)),
                  live.peak(backward, present(body.output_gradient), present(body.input_gradient)));
}

}  // namespace shardwise
