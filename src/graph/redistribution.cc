#include "graph/redistribution.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <numeric>
#include <set>
#include <utility>

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

bool are_apart(const std::vector<int>& a, const std::vector<int>& b) {
  const auto [least_a, most_a] = std::minmax_element(a.begin(), a.end());
  const auto [least_b, most_b] = std::minmax_element(b.begin(), b.end());
  return *most_a < *least_b || *most_b < *least_a;
}

// Whether the data axis cuts the first dimension, and all that cut it do so without padding.
bool cuts_evenly(const std::vector<std::int64_t>& shape, const TensorPlacement& placement) {
  return !shape.empty() && placement.layout[kDataAxis] == AxisLayout::shard(0) &&
         shape[0] % shard_degree(placement.layout, 0, placement.mesh) == 0;
}

// The first of `copies` equal parts; its devices are first_device and following.
TensorPlacement first_part(const TensorPlacement& whole, int copies, int first_device) {
  TensorPlacement part = whole;
  part.mesh.sizes[kDataAxis] /= copies;
  part.devices.resize(static_cast<std::size_t>(part.mesh.devices()));
  std::iota(part.devices.begin(), part.devices.end(), first_device);
  return part;
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

RepeatedMessages repeated_messages(const std::vector<std::int64_t>& shape,
                                   const TensorPlacement& sender,
                                   const TensorPlacement& receiver) {
  check_placement(sender);
  check_placement(receiver);
  RepeatedMessages repeated;
  const auto add = [&](int from, int to, const Box& box) {
    repeated.messages.push_back({from, to, box.elements()});
  };
  if (are_apart(sender.devices, receiver.devices)) {
    std::vector<std::int64_t> part_shape = shape;
    if (cuts_evenly(shape, sender) && cuts_evenly(shape, receiver)) {
      repeated.copies = std::gcd(sender.mesh.sizes[kDataAxis], receiver.mesh.sizes[kDataAxis]);
      part_shape[0] /= repeated.copies;
    }
    repeated.sender_stride = sender.mesh.devices() / repeated.copies;
    repeated.receiver_stride = receiver.mesh.devices() / repeated.copies;
    for (const RedistributionMessage& message :
         redistribution(part_shape,
                        first_part(sender, repeated.copies, 0),
                        first_part(receiver, repeated.copies, repeated.sender_stride))) {
      add(message.from_device, message.to_device - repeated.sender_stride, message.global_box);
    }
    return repeated;
  }
  const auto index_in = [](const std::vector<int>& devices) {
    std::map<int, int> index;
    for (std::size_t i = 0; i < devices.size(); ++i) {
      index[devices[i]] = static_cast<int>(i);
    }
    return index;
  };
  const std::map<int, int> sender_index = index_in(sender.devices);
  const std::map<int, int> receiver_index = index_in(receiver.devices);
  for (const RedistributionMessage& message : redistribution(shape, sender, receiver)) {
    if (message.from_device != message.to_device) {
      add(sender_index.at(message.from_device),
          receiver_index.at(message.to_device),
          message.global_box);
    }
  }
  return repeated;
}

}  // namespace shardwise
