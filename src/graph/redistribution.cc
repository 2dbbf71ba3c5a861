#include "graph/redistribution.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

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
  std::map<std::vector<std::int64_t>, std::size_t> known;  // by begin: parts are disjoint
  for (int i = 0; i < sender.mesh.devices(); ++i) {
    Box box = shard_box(shape, sender.layout, sender.mesh, coordinates_of(sender.mesh, i));
    if (box.empty()) {
      continue;
    }
    const int device = sender.devices[static_cast<std::size_t>(i)];
    const auto [part, is_new] = known.try_emplace(box.begin, parts.size());
    if (is_new) {
      parts.push_back({std::move(box), {}, 0});
    }
    parts[part->second].holders.push_back(device);
  }
  return parts;
}

// Finds the parts that a box meets. Parts are a grid: every dimension is cut at a few places, and
// each combination of intervals is one part.
class PartGrid {
 public:
  explicit PartGrid(const std::vector<SenderPart>& parts) {
    if (parts.empty()) {
      return;
    }
    cuts_.resize(parts.front().box.begin.size());
    for (std::size_t i = 0; i < parts.size(); ++i) {
      for (std::size_t d = 0; d < cuts_.size(); ++d) {
        cuts_[d].insert(parts[i].box.begin[d]);
      }
      part_of_[parts[i].box.begin] = i;
    }
  }

  // Ascending indices.
  std::vector<std::size_t> meeting(const Box& wanted) const {
    std::vector<std::size_t> found;
    if (!part_of_.empty() && !wanted.empty()) {
      std::vector<std::int64_t> begin;
      collect(wanted, begin, found);
      std::sort(found.begin(), found.end());
    }
    return found;
  }

 private:
  void collect(const Box& wanted,
               std::vector<std::int64_t>& begin,
               std::vector<std::size_t>& found) const {
    const std::size_t d = begin.size();
    if (d == cuts_.size()) {
      if (const auto part = part_of_.find(begin); part != part_of_.end()) {
        found.push_back(part->second);
      }
      return;
    }
    auto cut = cuts_[d].upper_bound(wanted.begin[d]);
    cut = cut == cuts_[d].begin() ? cut : std::prev(cut);
    for (; cut != cuts_[d].end() && *cut < wanted.end[d]; ++cut) {
      begin.push_back(*cut);
      collect(wanted, begin, found);
      begin.pop_back();
    }
  }

  std::vector<std::set<std::int64_t>> cuts_;  // by dimension: where parts begin
  std::map<std::vector<std::int64_t>, std::size_t> part_of_;
};

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
  const PartGrid grid(parts);
  std::vector<RedistributionMessage> messages;
  for (int i = 0; i < receiver.mesh.devices(); ++i) {
    const Box wanted =
        shard_box(shape, receiver.layout, receiver.mesh, coordinates_of(receiver.mesh, i));
    const int device = receiver.devices[static_cast<std::size_t>(i)];
    for (const std::size_t index : grid.meeting(wanted)) {
      SenderPart& part = parts[index];
      Box box = intersect(wanted, part.box);
      if (!box.empty()) {
        messages.push_back({take_holder(part, device), device, std::move(box)});
      }
    }
  }
  return messages;
}

}  // namespace shardwise
