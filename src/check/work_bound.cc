#include "check/work_bound.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "graph/op_definition.h"
#include "graph/tied.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();

// In how many parts a loop axis may be cut among at most `devices`; of several that leave equal
// local sizes the fewest.
std::vector<int> cuts_of(const LoopAxis& axis, std::int64_t beside, int devices) {
  std::vector<int> cuts{1};
  if (axis.sharding == AxisSharding::kNever) {
    return cuts;
  }
  std::int64_t last = axis.size;
  const std::int64_t most = std::min<std::int64_t>(devices, std::max(axis.size, beside));
  for (int parts = 2; parts <= most; ++parts) {
    if (axis.sharding == AxisSharding::kPadded) {
      const std::int64_t local = (axis.size + parts - 1) / parts;
      if (local < last) {
        cuts.push_back(parts);
        last = local;
      }
    } else if (axis.sharding == AxisSharding::kExchange || axis.size % parts == 0) {
      cuts.push_back(parts);
    }
  }
  return cuts;
}

class OpBound {
 public:
  OpBound(const Block& block,
          const Op& op,
          int num_microbatches,
          bool is_updated,
          Precision precision,
          const Cluster& cluster,
          const CostTable& costs)
      : block_(block),
        op_(op),
        m_(num_microbatches),
        is_updated_(is_updated),
        precision_(precision),
        cluster_(cluster),
        costs_(costs) {
    std::int64_t largest = 1;
    for (const LoopAxis& axis : op.axes) {
      largest = std::max(largest, axis.size);
    }
    for (const LoopAxis& axis : op.axes) {
      cuts_.push_back(cuts_of(axis, largest, cluster.num_devices()));
    }
  }

  // Least devices times time of all micro-batches and of the update.
  std::int64_t least() {
    AxisAssignment none{kUnassigned, kUnassigned, kUnassigned};
    choose(0, 0, 1, Mesh{}, none);
    return least_;
  }

 private:
  // Mesh axes from `m` on shard loop axes from `first` on.
  void choose(int m, int first, std::int64_t devices, Mesh mesh, AxisAssignment assignment) {
    if (is_valid_assignment(op_, assignment, mesh)) {
      judge(devices, mesh, assignment);
    }
    for (int axis = first; m < kMeshAxes && axis < static_cast<int>(op_.axes.size()); ++axis) {
      assignment[at(m)] = static_cast<std::int8_t>(axis);
      for (const int parts : cuts_[at(axis)]) {
        if (parts > 1 && devices * parts <= cluster_.num_devices()) {
          mesh.sizes[at(m)] = parts;
          choose(m + 1, axis + 1, devices * parts, mesh, assignment);
        }
      }
      mesh.sizes[at(m)] = 1;
      assignment[at(m)] = kUnassigned;
    }
  }

  std::int64_t kernel(const std::vector<std::int64_t>& sizes, Direction direction, int type) const {
    return to_picoseconds(costs_.op_time(op_, sizes, direction, precision_, type).time).count;
  }

  // Backward as graph/layer_body.h runs it.
  std::int64_t backward(const std::vector<std::int64_t>& sizes, int type) const {
    if (op_.kind == OpKind::kAdd) {
      return 0;
    }
    if (!definition_of(op_.kind).splits_backward) {
      return kernel(sizes, Direction::kBackward, type);
    }
    const bool needs_input =
        std::any_of(op_.inputs.begin(), op_.inputs.end(), [&](const Operand& input) {
          return block_.tensors[at(input.tensor)].kind == TensorKind::kActivation;
        });
    return kernel(sizes, Direction::kBackwardWeight, type) +
           (needs_input ? kernel(sizes, Direction::kBackwardInput, type) : 0);
  }

  // Values that a rank updates, state shared out or not: the quicker of both.
  std::int64_t update(const Mesh& mesh, const AxisAssignment& assignment, int type) const {
    if (!is_updated_ || op_.parameters.empty()) {
      return 0;
    }
    std::int64_t whole = 0;
    std::int64_t shared = 0;
    for (const Operand& parameter : op_.parameters) {
      const ParameterPlacement placed = parameter_placement(op_, parameter, assignment, mesh);
      const std::int64_t local = element_count(
          local_shape(block_.tensors[at(parameter.tensor)].shape, placed.layout, mesh));
      whole += local;
      shared += (local + placed.reduction_degree - 1) / placed.reduction_degree;
    }
    const auto time = [&](std::int64_t elements) {
      return to_picoseconds(costs_.optimizer_time(elements, precision_, type).time).count;
    };
    return std::min(time(whole), time(shared));
  }

  void judge(std::int64_t devices, const Mesh& mesh, const AxisAssignment& assignment) {
    const std::vector<std::int64_t> sizes = local_axis_sizes(op_, assignment, mesh);
    for (int type = 0; type < static_cast<int>(cluster_.types.size()); ++type) {
      const std::int64_t microbatch =
          kernel(sizes, Direction::kForward, type) + backward(sizes, type);
      least_ = std::min(least_, devices * (m_ * microbatch + update(mesh, assignment, type)));
    }
  }

  const Block& block_;
  const Op& op_;
  const std::int64_t m_;
  const bool is_updated_;
  const Precision precision_;
  const Cluster& cluster_;
  const CostTable& costs_;
  std::vector<std::vector<int>> cuts_;
  std::int64_t least_ = kNone;
};

// Whether the op updates what no other op holds: a tied parameter may be the other one's.
bool updates_alone(const Graph& graph, int layer, int op) {
  return std::none_of(graph.tied.begin(), graph.tied.end(), [&](const TiedParameter& tied) {
    const ParameterPlace owner = owner_of(graph, tied);
    const ParameterPlace alias = alias_of(graph, tied);
    return (owner.layer == layer && owner.op == op) || (alias.layer == layer && alias.op == op);
  });
}

Picoseconds bound_of(const Graph& graph,
                     int num_microbatches,
                     Precision precision,
                     const Cluster& cluster,
                     const CostTable& costs) {
  std::map<std::pair<int, bool>, std::int64_t> work_of_block;  // block, is first or last layer
  const int last = static_cast<int>(graph.layers.size()) - 1;
  std::int64_t work = 0;
  for (int layer = 0; layer <= last; ++layer) {
    const bool is_end = layer == 0 || layer == last;
    const auto [entry, is_new] =
        work_of_block.try_emplace({graph.layers[at(layer)].block, is_end}, 0);
    if (is_new || (is_end && !graph.tied.empty())) {
      entry->second = 0;
      const Block& block = graph.block_of(layer);
      for (int o = 0; o < static_cast<int>(block.ops.size()); ++o) {
        entry->second += OpBound(block,
                                 block.ops[at(o)],
                                 num_microbatches,
                                 updates_alone(graph, layer, o),
                                 precision,
                                 cluster,
                                 costs)
                             .least();
      }
    }
    work += entry->second;
  }
  const int devices = cluster.num_devices();
  std::int64_t overhead = kNone;
  for (int ranks = 1; ranks <= devices; ++ranks) {
    overhead = std::min(overhead, to_picoseconds(costs.step_overhead(ranks).time).count);
  }
  return Picoseconds((work + devices - 1) / devices + overhead);
}

}  // namespace

Picoseconds BoundCertificate::lower_bound() const {
  Picoseconds least{counts.empty() ? 0 : kNone};
  for (const CountBound& count : counts) {
    least = std::min(least, count.bound);
  }
  return least;
}

BoundCertificate certify_bound(const MicrobatchGraph& graph,
                               std::int64_t batch,
                               Precision precision,
                               const Cluster& cluster,
                               const CostTable& costs) {
  BoundCertificate certificate;
  for (std::int64_t count = 1; count <= batch; ++count) {
    if (batch % count == 0) {
      const int m = static_cast<int>(count);
      certificate.counts.push_back(
          {m, bound_of(graph(batch / count), m, precision, cluster, costs)});
    }
  }
  return certificate;
}

}  // namespace shardwise
