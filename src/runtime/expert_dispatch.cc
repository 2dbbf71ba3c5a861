#include "runtime/expert_dispatch.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>

#include <numeric>

#include "core/errors.h"
#include "runtime/kernel_parts.h"

namespace shardwise {

namespace {

std::int64_t total(const std::vector<std::int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

at::Tensor index_tensor(const std::vector<std::int64_t>& values, const at::Device& device) {
  return at::tensor(values, at::TensorOptions(at::kLong)).to(device);
}

// A mesh axis that shards the experts.
struct ExpertAxis {
  std::size_t mesh_axis;
  bool exchanges;
};

std::vector<ExpertAxis> expert_axes(const KernelContext& context) {
  std::vector<ExpertAxis> axes;
  for (std::size_t m = 0; m < kMeshAxes; ++m) {
    const int assigned = context.assignment[m];
    if (assigned == kUnassigned) {
      continue;
    }
    const LoopAxis& axis = context.op->axes[static_cast<std::size_t>(assigned)];
    const bool exchanges = axis.sharding == AxisSharding::kExchange;
    if (exchanges || axis.name == "e") {
      axes.push_back({m, exchanges});
    }
  }
  return axes;
}

at::Tensor travelled(CommunicationGroup& group,
                     const at::Tensor& rows,
                     std::vector<std::int64_t> sent,
                     std::vector<std::int64_t> received) {
  const std::int64_t width = rows.size(1);
  at::Tensor arrived = at::empty({total(received), width}, rows.options());
  for (std::int64_t& count : sent) {
    count *= width;
  }
  for (std::int64_t& count : received) {
    count *= width;
  }
  group.all_to_all_variable(rows.data_ptr(), sent, arrived.data_ptr(), received, wire_type(rows));
  return arrived;
}

}  // namespace

ExpertDispatch::ExpertDispatch(const KernelContext& context, const at::Tensor& experts) {
  const std::vector<ExpertAxis> axes = expert_axes(context);
  std::int64_t num_experts = context.parameters[0].size(0);
  for (const ExpertAxis& axis : axes) {
    num_experts *= context.mesh.sizes[axis.mesh_axis];
  }
  // Experts whose coordinate on every "e" axis is this rank's.
  std::vector<bool> is_candidate(static_cast<std::size_t>(num_experts), true);
  std::int64_t stride = num_experts;
  for (const ExpertAxis& axis : axes) {
    const std::int64_t size = context.mesh.sizes[axis.mesh_axis];
    stride /= size;
    for (std::int64_t e = 0; e < num_experts && !axis.exchanges; ++e) {
      if (e / stride % size != context.coordinates[axis.mesh_axis]) {
        is_candidate[static_cast<std::size_t>(e)] = false;
      }
    }
  }
  select_pairs(experts, is_candidate);
  for (const ExpertAxis& axis : axes) {
    if (axis.exchanges) {
      add_hop(
          context.groups[axis.mesh_axis], context.coordinates[axis.mesh_axis], experts.device());
    }
  }
  if (context.routed_counts != nullptr) {
    for (const Hop& hop : hops_) {
      context.routed_counts->push_back(total(hop.sent));
      context.routed_counts->push_back(total(hop.received));
    }
    context.routed_counts->push_back(rows());
  }
}

// Counting sort by expert, of the pairs that concern this rank.
void ExpertDispatch::select_pairs(const at::Tensor& experts,
                                  const std::vector<bool>& is_candidate) {
  const at::Tensor ids = experts.to(at::kCPU).contiguous();
  const std::int64_t* const id = ids.const_data_ptr<std::int64_t>();
  const std::int64_t k = experts.size(1);
  const auto num_experts = static_cast<std::int64_t>(is_candidate.size());
  std::vector<std::vector<std::int64_t>> pairs_of(is_candidate.size());
  for (std::int64_t pair = 0; pair < ids.numel(); ++pair) {
    SHARDWISE_CHECK(id[pair] >= 0 && id[pair] < num_experts, "a token chose an unknown expert");
    if (is_candidate[static_cast<std::size_t>(id[pair])]) {
      pairs_of[static_cast<std::size_t>(id[pair])].push_back(pair);
    }
  }
  std::vector<std::int64_t> pairs;
  std::vector<std::int64_t> tokens;
  for (std::size_t e = 0; e < is_candidate.size(); ++e) {
    if (is_candidate[e]) {
      counts_.push_back(static_cast<std::int64_t>(pairs_of[e].size()));
    }
    for (const std::int64_t pair : pairs_of[e]) {
      pairs.push_back(pair);
      tokens.push_back(pair / k);
    }
  }
  pairs_ = index_tensor(pairs, experts.device());
  tokens_ = index_tensor(tokens, experts.device());
}

// Along this axis the members split the experts in counts_ into runs of equal length, in member
// order.
void ExpertDispatch::add_hop(CommunicationGroup* group, int coordinate, const at::Device& device) {
  const auto members = static_cast<std::size_t>(group->size());
  const std::size_t experts = counts_.size() / members;
  SHARDWISE_CHECK(group->index() == coordinate && experts * members == counts_.size(),
                  "experts do not fall evenly on their mesh axis");
  Hop hop;
  hop.group = group;
  hop.sent.assign(members, 0);
  hop.received.assign(members, 0);
  std::vector<std::vector<std::int64_t>> arriving(experts);  // [expert][member]
  for (std::size_t e = 0; e < experts; ++e) {
    std::vector<std::int64_t> leaving(members);
    for (std::size_t member = 0; member < members; ++member) {
      leaving[member] = counts_[member * experts + e];
      hop.sent[member] += leaving[member];
    }
    arriving[e].resize(members);
    group->control_exchange(leaving, arriving[e]);
  }
  std::vector<std::vector<std::int64_t>> begin(experts, std::vector<std::int64_t>(members));
  std::int64_t row = 0;
  for (std::size_t member = 0; member < members; ++member) {
    for (std::size_t e = 0; e < experts; ++e) {
      begin[e][member] = row;
      row += arriving[e][member];
      hop.received[member] += arriving[e][member];
    }
  }
  std::vector<std::int64_t> by_expert;
  by_expert.reserve(static_cast<std::size_t>(row));
  counts_.clear();
  for (std::size_t e = 0; e < experts; ++e) {
    counts_.push_back(total(arriving[e]));
    for (std::size_t member = 0; member < members; ++member) {
      for (std::int64_t i = 0; i < arriving[e][member]; ++i) {
        by_expert.push_back(begin[e][member] + i);
      }
    }
  }
  if (!std::is_sorted(by_expert.begin(), by_expert.end())) {
    std::vector<std::int64_t> by_member(by_expert.size());
    for (std::size_t i = 0; i < by_expert.size(); ++i) {
      by_member[static_cast<std::size_t>(by_expert[i])] = static_cast<std::int64_t>(i);
    }
    hop.by_expert = index_tensor(by_expert, device);
    hop.by_member = index_tensor(by_member, device);
  }
  hops_.push_back(std::move(hop));
}

std::int64_t ExpertDispatch::rows() const { return total(counts_); }

at::Tensor ExpertDispatch::to_experts(at::Tensor rows) const {
  for (const Hop& hop : hops_) {
    rows = travelled(*hop.group, rows, hop.sent, hop.received);
    if (hop.by_expert.defined()) {
      rows = rows.index_select(0, hop.by_expert);
    }
  }
  return rows;
}

at::Tensor ExpertDispatch::from_experts(at::Tensor rows) const {
  for (auto hop = hops_.rbegin(); hop != hops_.rend(); ++hop) {
    if (hop->by_member.defined()) {
      rows = rows.index_select(0, hop->by_member);
    }
    rows = travelled(*hop->group, rows, hop->received, hop->sent);
  }
  return rows;
}

}  // namespace shardwise
