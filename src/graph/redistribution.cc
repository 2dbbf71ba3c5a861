#include "graph/redistribution.h"

#include <algorithm>

#include "core/errors.h"

namespace shardwise {

namespace {

// A part of the tensor as the senders cut it, and who holds it. Parts are disjoint and cover all.
struct SenderPart {
  Box box;
  std::vector<int> holders;  // by index in the sender's mesh
  std::size_t next = 0;      // holder that serves the next receiver
};

void check_placement(const TensorPlacement& placement) {
  SHARDWISE_CHECK(static_cast<int>(placement.devices.size()) == placement.mesh.devices(),
                  "a placement needs one device for each place of its mesh");
  for (const AxisLayout& axis : placement.layout) {
    SHARDWISE_CHECK(axis.kind != AxisLayout::Kind::kPartial, "partial sums cannot be sent on");
  }
}

std::vector<SenderPart> parts_of(const std::vector<std::int64_t>& shape,
                                 const TensorPlacement& sender) {
  std::vector<SenderPart> parts;
  for (int i = 0; i < sender.mesh.devices(); ++i) {
    const Box box = shard_box(shape, sender.layout, sender.mesh, coordinates_of(sender.mesh, i));
    if (box.empty()) {
      continue;
    }
    const int device = sender.devices[static_cast<std::size_t>(i)];
    const auto known = std::find_if(
        parts.begin(), parts.end(), [&](const SenderPart& part) { return part.box == box; });
    if (known != parts.end()) {
      known->holders.push_back(device);
    } else {
      parts.push_back({box, {device}, 0});
    }
  }
  return parts;
}

int take_holder(SenderPart& part, int receiver) {
  if (std::find(part.holders.begin(), part.holders.end(), receiver) != part.holders.end()) {
    return receiver;
  }
  const int holder = part.holders[part.next];
  part.next = (part.next + 1) % part.holders.size();
  return holder;
}

}  // namespace

std::vector<RedistributionMessage> redistribution(const std::vector<std::int64_t>& shape,
                                                  const TensorPlacement& sender,
                                                  const TensorPlacement& receiver) {
  check_placement(sender);
  check_placement(receiver);
  std::vector<SenderPart> parts = parts_of(shape, sender);
  std::vector<RedistributionMessage> messages;
  for (int i = 0; i < receiver.mesh.devices(); ++i) {
    const Box wanted =
        shard_box(shape, receiver.layout, receiver.mesh, coordinates_of(receiver.mesh, i));
    const int device = receiver.devices[static_cast<std::size_t>(i)];
    for (SenderPart& part : parts) {
      Box box = intersect(wanted, part.box);
      if (!box.empty()) {
        messages.push_back({take_holder(part, device), device, std::move(box)});
      }
    }
  }
  return messages;
}

}  // namespace shardwise
