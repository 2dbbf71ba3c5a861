#include <algorithm>

#include "cost/stage_prices.h"

namespace shardwise {

Bytes internal::chunk_transient(const std::vector<LayerMemory>& layers, bool frees_behind) {
  Bytes most{0};
  Bytes kept{0};  // up to the end of the layer's run
  for (std::size_t i = layers.size(); i-- > 0;) {
    if (i + 1 == layers.size() || layers[i].block != layers[i + 1].block) {
      kept = layers[i].kept_so_far;
    }
    const Bytes behind = frees_behind ? layers.back().kept_so_far - kept : Bytes(0);
    most = std::max(most, layers[i].transient - behind);
  }
  return most;
}

}  // namespace shardwise
