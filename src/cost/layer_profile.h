// Layers as Sailor and Metis profile them: times and memory of whole layers on one kind of device,
// for every micro-batch size and tensor degree that was measured.
#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "core/units.h"

namespace shardwise {

struct ProfiledLayer {
  Seconds forward_backward{0};     // of one micro-batch
  std::optional<Seconds> forward;  // part of it, where the file tells them apart
  Seconds update{0};               // of one step
  std::optional<Bytes> memory;
};

struct LayerProfile {
  std::map<std::pair<int, int>, std::vector<ProfiledLayer>> layers;
};

}  // namespace shardwise
