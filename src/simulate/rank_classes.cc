#include "simulate/rank_classes.h"

#include <algorithm>
#include <bit>
#include <string>

#include "core/errors.h"

namespace shardwise::internal {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Gives equal descriptions equal numbers, in the order in which they first come.
class Numbering {
 public:
  int number(std::vector<std::int64_t> description) {
    return numbers_.try_emplace(std::move(description), static_cast<int>(numbers_.size()))
        .first->second;
  }
  int count() const { return static_cast<int>(numbers_.size()); }

 private:
  std::map<std::vector<std::int64_t>, int> numbers_;
};

// Index of the first device of the group along `axes` that device `index` of the stage is in.
int group_leader(const Mesh& mesh, int index, unsigned axes) {
  MeshCoordinates place = coordinates_of(mesh, index);
  for (int m = 0; m < kMeshAxes; ++m) {
    place[at(m)] = (axes >> m & 1U) != 0 ? 0 : place[at(m)];
  }
  return index_of(mesh, place);
}

}  // namespace

RankClasses::RankClasses(const Plan& plan,
                         const Graph& graph,
                         const Cluster& cluster,
                         const SimulationOptions& options)
    : plan_(plan), graph_(graph), cluster_(cluster) {
  for (const StagePlan& stage : plan.stages) {
    ranks_.insert(ranks_.end(), stage.devices.begin(), stage.devices.end());
  }
  std::sort(ranks_.begin(), ranks_.end());
  const std::size_t world = at(ranks_.back() + 1);
  class_of_.assign(world, -1);
  stage_of_.assign(world, -1);
  index_in_stage_.assign(world, -1);
  ends_.resize(world);
  for (int s = 0; s < plan.num_stages(); ++s) {
    const std::vector<int>& devices = plan.stages[at(s)].devices;
    for (int i = 0; i < static_cast<int>(devices.size()); ++i) {
      stage_of_[at(devices[at(i)])] = s;
      index_in_stage_[at(devices[at(i)])] = i;
    }
  }
  add_passages();
  label_ranks(options);
  while (refine()) {
  }
  number_classes();
  count_nodes();
}

void RankClasses::add_messages(PassageId passage,
                               const std::vector<RedistributionMessage>& messages,
                               std::int64_t element) {
  std::map<int, int> sent;
  std::map<int, int> received;
  for (const RedistributionMessage& message : messages) {
    if (message.from_device == message.to_device) {
      continue;
    }
    const int out = sent[message.from_device]++;
    const int in = received[message.to_device]++;
    const std::int64_t bytes = message.global_box.elements() * element;
    ends_[at(message.from_device)].push_back({passage, true, out, message.to_device, in, bytes});
    ends_[at(message.to_device)].push_back({passage, false, in, message.from_device, out, bytes});
  }
}

void RankClasses::add_passages() {
  const int virtual_stages = plan_.num_stages() * plan_.num_chunks();
  for (int k = 0; k + 1 < virtual_stages; ++k) {
    const VirtualStage from = virtual_stage(plan_, k);
    const VirtualStage to = virtual_stage(plan_, k + 1);
    const StagePlan& sender_stage = plan_.stages[at(from.stage)];
    const StagePlan& receiver_stage = plan_.stages[at(to.stage)];
    const ChunkPlan& sends = sender_stage.chunks[at(from.chunk)];
    const ChunkPlan& receives = receiver_stage.chunks[at(to.chunk)];
    const Block& block = graph_.block_of(sends.end_layer() - 1);
    const Tensor& tensor = block.tensors[at(block.outputs[0])];
    const TensorPlacement sender{sends.output_layout, sender_stage.mesh, sender_stage.devices};
    const TensorPlacement receiver{
        receives.layers.front().input_layout, receiver_stage.mesh, receiver_stage.devices};
    const std::int64_t element = element_bytes(tensor.type, plan_.precision);
    add_messages({0, 2 * k}, redistribution(tensor.shape, sender, receiver), element);
    add_messages({0, 2 * k + 1}, redistribution(tensor.shape, receiver, sender), element);
  }
  for (int t = 0; t < static_cast<int>(graph_.tied.size()); ++t) {
    const TiedMessages messages = tied_messages(graph_, plan_, graph_.tied[at(t)]);
    add_messages({1, t}, messages.gradients, element_bytes(ElementType::kFloat32, plan_.precision));
    add_messages(
        {2, t}, messages.parameters, element_bytes(ElementType::kCompute, plan_.precision));
  }
}

void RankClasses::label_ranks(const SimulationOptions& options) {
  std::map<int, double> slowness;
  for (const Straggler& straggler : options.stragglers) {
    slowness.try_emplace(straggler.rank, 1.0).first->second *= straggler.factor;
  }
  const bool all_differ =
      options.symmetry == SimulationOptions::Symmetry::kIgnore || options.jitter > 0;
  Numbering labels;
  for (const int rank : ranks_) {
    const auto slow = slowness.find(rank);
    const double factor = slow == slowness.end() ? 1.0 : slow->second;
    std::vector<std::int64_t> label = {stage_of_[at(rank)],
                                       cluster_.type_of(rank),
                                       std::bit_cast<std::int64_t>(factor),
                                       all_differ ? rank : 0};
    for (const GroupExtent& extent : extents_of_groups(rank)) {
      label.push_back(extent.level);
      label.push_back(extent.ranks_per_node);
    }
    class_of_[at(rank)] = labels.number(std::move(label));
  }
}

// Along every set of mesh axes.
std::vector<GroupExtent> RankClasses::extents_of_groups(int rank) {
  const int stage_index = stage_of_[at(rank)];
  const StagePlan& stage = plan_.stages[at(stage_index)];
  std::vector<GroupExtent> extents;
  for (unsigned axes = 1; axes < 1U << kMeshAxes; ++axes) {
    const auto [entry, is_new] = extents_.try_emplace({stage_index, axes});
    if (is_new) {
      std::map<int, std::vector<int>> groups;  // by leader
      for (int i = 0; i < stage.mesh.devices(); ++i) {
        groups[group_leader(stage.mesh, i, axes)].push_back(stage.devices[at(i)]);
      }
      for (const auto& [leader, group] : groups) {
        entry->second.emplace(leader, extent_of(cluster_, group));
      }
    }
    extents.push_back(entry->second.at(group_leader(stage.mesh, index_in_stage_[at(rank)], axes)));
  }
  return extents;
}

// Splits classes by what their members see around them. Whether any was split.
bool RankClasses::refine() {
  const auto classes_before = [&] {
    std::vector<int> seen;
    for (const int rank : ranks_) {
      seen.push_back(class_of_[at(rank)]);
    }
    std::sort(seen.begin(), seen.end());
    return std::unique(seen.begin(), seen.end()) - seen.begin();
  }();
  // What each group along a mesh axis and each node consists of, as a number.
  Numbering mixtures;
  std::vector<std::array<int, kMeshAxes>> group_mix(class_of_.size());
  for (const StagePlan& stage : plan_.stages) {
    for (int m = 0; m < kMeshAxes; ++m) {
      std::map<int, std::vector<std::int64_t>> members;  // by leader
      for (int i = 0; i < stage.mesh.devices(); ++i) {
        members[group_leader(stage.mesh, i, 1U << m)].push_back(
            class_of_[at(stage.devices[at(i)])]);
      }
      std::map<int, int> numbers;
      for (auto& [leader, mixture] : members) {
        std::sort(mixture.begin(), mixture.end());
        numbers[leader] = mixtures.number(mixture);
      }
      for (int i = 0; i < stage.mesh.devices(); ++i) {
        group_mix[at(stage.devices[at(i)])][at(m)] = numbers[group_leader(stage.mesh, i, 1U << m)];
      }
    }
  }
  std::map<int, std::vector<std::int64_t>> on_node;
  for (const int rank : ranks_) {
    on_node[rank / node_size(cluster_)].push_back(class_of_[at(rank)]);
  }
  std::map<int, int> node_mix;
  for (auto& [node, mixture] : on_node) {
    std::sort(mixture.begin(), mixture.end());
    node_mix[node] = mixtures.number(mixture);
  }
  Numbering classes;
  std::vector<int> next(class_of_.size(), -1);
  for (const int rank : ranks_) {
    std::vector<std::int64_t> view = {class_of_[at(rank)], node_mix[rank / node_size(cluster_)]};
    for (const int mix : group_mix[at(rank)]) {
      view.push_back(mix);
    }
    for (const End& end : ends_[at(rank)]) {
      view.insert(view.end(),
                  {end.passage.kind,
                   end.passage.number,
                   end.sends,
                   end.bytes,
                   level_between(cluster_, rank, end.peer),
                   end.peer_ordinal,
                   class_of_[at(end.peer)]});
    }
    next[at(rank)] = classes.number(std::move(view));
  }
  class_of_ = std::move(next);
  return classes.count() > classes_before;
}

void RankClasses::number_classes() {
  std::map<int, int> numbers;
  for (const int rank : ranks_) {
    const auto [entry, is_new] =
        numbers.try_emplace(class_of_[at(rank)], static_cast<int>(representatives_.size()));
    if (is_new) {
      representatives_.push_back(rank);
      sizes_.push_back(0);
    }
    class_of_[at(rank)] = entry->second;
    ++sizes_[at(entry->second)];
  }
}

void RankClasses::count_nodes() {
  std::map<int, std::map<int, int>> on_node;
  for (const int rank : ranks_) {
    ++on_node[rank / node_size(cluster_)][class_of(rank)];
  }
  for (const int rank : representatives_) {
    const std::map<int, int>& mix = on_node[rank / node_size(cluster_)];
    node_mixes_.emplace_back(mix.begin(), mix.end());
  }
}

std::pair<int, int> RankClasses::sender_of(int rank, PassageId passage, int ordinal) const {
  for (const End& end : ends_[at(rank)]) {
    if (!end.sends && end.passage == passage && end.ordinal == ordinal) {
      return {class_of(end.peer), end.peer_ordinal};
    }
  }
  SHARDWISE_CHECK(false, "a message that the plan does not have");
}

}  // namespace shardwise::internal
