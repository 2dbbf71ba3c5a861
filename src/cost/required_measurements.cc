// Enumerates meshes, assignments and micro-batches and keeps what differs. Ranges of payloads are
// generous: a row too many costs milliseconds, a row too few an extrapolated price.
#include "cost/required_measurements.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "core/errors.h"
#include "graph/layer_body.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr std::int64_t kFloatBytes = 4;

std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

struct Range {
  std::int64_t smallest = std::numeric_limits<std::int64_t>::max();
  std::int64_t largest = 0;

  bool empty() const { return largest == 0; }
  void add(std::int64_t low, std::int64_t high) {
    if (high > 0) {
      smallest = std::min(smallest, std::max<std::int64_t>(low, 1));
      largest = std::max(largest, high);
    }
  }
};

std::vector<Mesh> meshes_up_to(int ranks, int free_axes) {
  std::vector<Mesh> meshes;
  for (int data = 1; data <= ranks; ++data) {
    for (int first = 1; first <= (free_axes >= 1 ? ranks / data : 1); ++first) {
      for (int second = 1; second <= (free_axes >= 2 ? ranks / data / first : 1); ++second) {
        if (second <= first) {  // free axes are alike
          meshes.push_back({{data, first, second}});
        }
      }
    }
  }
  return meshes;
}

// Loop axes that a mesh axis may take, unassigned included.
std::vector<std::int8_t> choices(const Op& op, const Mesh& mesh, int mesh_axis) {
  if (mesh.sizes[at(mesh_axis)] == 1) {
    return {kUnassigned};
  }
  std::vector<std::int8_t> axes;
  if (mesh_axis != kDataAxis) {
    axes.push_back(kUnassigned);
  }
  for (int a = 0; a < static_cast<int>(op.axes.size()); ++a) {
    const LoopAxis& axis = op.axes[at(a)];
    const bool suits_data = axis.name == "b" || axis.name == "xb";
    if (axis.sharding != AxisSharding::kNever && (mesh_axis != kDataAxis || suits_data)) {
      axes.push_back(static_cast<std::int8_t>(a));
    }
  }
  return axes;
}

std::vector<AxisAssignment> valid_assignments(const Op& op, const Mesh& mesh) {
  std::vector<AxisAssignment> assignments;
  for (const std::int8_t data : choices(op, mesh, 0)) {
    for (const std::int8_t first : choices(op, mesh, 1)) {
      for (const std::int8_t second : choices(op, mesh, 2)) {
        const AxisAssignment assignment{data, first, second};
        if (is_valid_assignment(op, assignment, mesh)) {
          assignments.push_back(assignment);
        }
      }
    }
  }
  return assignments;
}

std::vector<Direction> directions_of(const Op& op) {
  if (op.kind == OpKind::kAdd) {
    return {Direction::kForward};
  }
  if (definition_of(op.kind).splits_backward) {
    return {Direction::kForward, Direction::kBackwardInput, Direction::kBackwardWeight};
  }
  return {Direction::kForward, Direction::kBackward};
}

// The op with its loop axes cut to local sizes.
RequiredOp shrink(const Op& op, std::vector<std::int64_t> sizes, const OpKey& key) {
  RequiredOp required{key, op, std::move(sizes), directions_of(op)};
  for (std::size_t a = 0; a < op.axes.size(); ++a) {
    if (op.axes[a].sharding == AxisSharding::kExchange) {
      required.sizes[a] = 1;
    }
  }
  if (op.kind == OpKind::kExperts) {
    // As many routed pairs as the key says, whatever experts of other ranks take away.
    const auto axis = [&](const char* name) -> std::int64_t& {
      return required.sizes[at(axis_index(op, name))];
    };
    if (axis("b") * axis("s") * axis("k") != key.sizes[0]) {
      const std::int64_t choices_per_token = key.sizes[0] % axis("k") == 0 ? axis("k") : 1;
      axis("b") = 1;
      axis("k") = choices_per_token;
      axis("s") = key.sizes[0] / choices_per_token;
      required.op.attributes.experts_per_token = choices_per_token;
    }
  }
  for (std::size_t a = 0; a < op.axes.size(); ++a) {
    required.op.axes[a].size = required.sizes[a];
  }
  return required;
}

void add_ops(const Graph& graph,
             const std::vector<Mesh>& meshes,
             Precision precision,
             std::map<OpKey, RequiredOp>& ops) {
  for (const Block& block : graph.blocks) {
    for (const Op& op : block.ops) {
      for (const Mesh& mesh : meshes) {
        for (const AxisAssignment& assignment : valid_assignments(op, mesh)) {
          std::vector<std::int64_t> sizes = local_axis_sizes(op, assignment, mesh);
          const OpKey key = op_key(op, sizes, precision);
          if (key.sizes[0] > 0 && !ops.contains(key)) {
            ops.emplace(key, shrink(op, std::move(sizes), key));
          }
        }
      }
    }
  }
}

bool feeds_the_loss(const Block& block, TensorIndex tensor) {
  const auto uses = uses_of(block, tensor);
  return std::any_of(uses.begin(), uses.end(), [&](const std::pair<int, int>& use) {
    return block.ops[at(use.first)].kind == OpKind::kCrossEntropy;
  });
}

// Whole bytes of the activations for one sequence, by what can happen to them.
struct ActivationBytes {
  Range converted;    // all but logits: converting those is left to extrapolation
  Range accumulated;  // tensors with several uses
  Range boundary;
  Range routed;  // rows that experts exchange
};

ActivationBytes activation_bytes(const Graph& one_sequence, Precision precision) {
  ActivationBytes bytes;
  for (const Block& block : one_sequence.blocks) {
    for (int t = 0; t < static_cast<int>(block.tensors.size()); ++t) {
      const Tensor& tensor = block.tensors[at(t)];
      if (tensor.kind != TensorKind::kActivation || feeds_the_loss(block, t)) {
        continue;
      }
      const std::int64_t size = element_count(tensor.shape) * element_bytes(tensor.type, precision);
      bytes.converted.add(size, size);
      if (uses_of(block, t).size() > 1) {
        bytes.accumulated.add(size, size);
      }
    }
    for (const TensorIndex t : block.outputs) {
      const Tensor& tensor = block.tensors[at(t)];
      const std::int64_t size = element_count(tensor.shape) * element_bytes(tensor.type, precision);
      bytes.boundary.add(size, size);
    }
    for (const Op& op : block.ops) {
      if (op.kind == OpKind::kExperts) {
        const Tensor& rows = block.tensors[at(op.inputs[0].tensor)];
        const std::int64_t k = op.attributes.experts_per_token;
        bytes.routed.add(kFloatBytes * k * element_count(rows.shape) / rows.shape.back(),
                         k * element_count(rows.shape) * element_bytes(rows.type, precision));
      }
    }
  }
  return bytes;
}

// Elements of the parameters of one op that share a collective or an update.
Range parameter_elements(const Graph& graph) {
  Range elements;
  for (const Block& block : graph.blocks) {
    for (const Op& op : block.ops) {
      std::int64_t all = 0;
      std::int64_t fewest = std::numeric_limits<std::int64_t>::max();
      for (const Operand& parameter : op.parameters) {
        const std::int64_t count = element_count(block.tensors[at(parameter.tensor)].shape);
        all += count;
        fewest = std::min(fewest, count);
      }
      elements.add(fewest, all);
    }
  }
  return elements;
}

class CollectiveRanges {
 public:
  explicit CollectiveRanges(Precision precision) : precision_(precision) {}

  // Payload counts the bytes of the whole tensor in a group: `low` to `high`.
  void add_activation(const GroupPlacement& placement, std::int64_t low, std::int64_t high) {
    ranges_[{CollectiveKind::kAllGather, Precision::kFloat32, placement}].add(low, high);
    ranges_[{CollectiveKind::kAllToAll, Precision::kFloat32, placement}].add(low, high);
    ranges_[{CollectiveKind::kReduceScatter, precision_, placement}].add(low, high);
    ranges_[{CollectiveKind::kAllReduce, precision_, placement}].add(2 * low, 2 * high);
  }

  void add_exchange(const GroupPlacement& placement, std::int64_t low, std::int64_t high) {
    ranges_[{CollectiveKind::kAllToAll, Precision::kFloat32, placement}].add(low, high);
  }

  void add_state(const GroupPlacement& placement, std::int64_t low, std::int64_t high) {
    const std::int64_t compute = element_bytes(ElementType::kCompute, precision_);
    const Precision full = Precision::kFloat32;
    ranges_[{CollectiveKind::kAllGather, full, placement}].add(low * compute, high * compute);
    ranges_[{CollectiveKind::kReduceScatter, full, placement}].add(low * kFloatBytes,
                                                                   high * kFloatBytes);
    ranges_[{CollectiveKind::kAllReduce, full, placement}].add(2 * low * kFloatBytes,
                                                               2 * high * kFloatBytes);
  }

  std::vector<RequiredCollective> take() const {
    std::vector<RequiredCollective> all;
    for (const auto& [family, range] : ranges_) {
      if (!range.empty()) {
        const auto& [kind, precision, placement] = family;
        all.push_back({kind, precision, placement, Bytes(range.smallest), Bytes(range.largest)});
      }
    }
    return all;
  }

 private:
  using Family = std::tuple<CollectiveKind, Precision, GroupPlacement>;
  const Precision precision_;
  std::map<Family, Range> ranges_;
};

std::vector<int> consecutive(int first, int count) {
  std::vector<int> devices(at(count));
  std::iota(devices.begin(), devices.end(), first);
  return devices;
}

std::vector<RequiredCollective> required_collectives(const std::vector<Mesh>& meshes,
                                                     const ActivationBytes& sequence,
                                                     const Range& elements,
                                                     std::int64_t batch,
                                                     Precision precision,
                                                     const Cluster& cluster,
                                                     int ranks) {
  CollectiveRanges ranges(precision);
  for (const Mesh& mesh : meshes) {
    const int free = mesh.sizes[1] * mesh.sizes[2];
    const std::int64_t sequences = batch / mesh.sizes[kDataAxis];
    if (sequences == 0) {
      continue;
    }
    for (int offset = 0; offset + mesh.devices() <= ranks; ++offset) {
      for (unsigned axes = 1; axes < 1U << kMeshAxes; ++axes) {
        const GroupPlacement placement =
            placement_of(cluster, consecutive(offset, mesh.devices()), mesh, axes);
        if (placement.ranks == 1) {
          continue;
        }
        const bool one_free_axis = axes == 2U || axes == 4U;
        if (one_free_axis) {
          ranges.add_activation(placement,
                                sequence.converted.smallest / free,
                                sequence.converted.largest * sequences);
        }
        if ((one_free_axis || axes == 1U) && !sequence.routed.empty()) {
          ranges.add_exchange(
              placement, sequence.routed.smallest / free, sequence.routed.largest * sequences);
        }
        if (!elements.empty()) {
          ranges.add_state(placement, divide_up(elements.smallest, free), elements.largest);
        }
      }
    }
  }
  return ranges.take();
}

std::vector<RequiredTransfer> required_transfers(const Graph& graph,
                                                 const ActivationBytes& sequence,
                                                 std::int64_t batch,
                                                 const Cluster& cluster,
                                                 int ranks) {
  Range sizes;
  sizes.add(sequence.boundary.smallest / ranks, sequence.boundary.largest * batch);
  for (const TiedParameter& tied : graph.tied) {
    const Tensor& tensor = graph.block_of(tied.owner_layer).tensors[at(tied.owner_tensor)];
    sizes.add(std::numeric_limits<std::int64_t>::max(), element_count(tensor.shape) * kFloatBytes);
  }
  std::vector<RequiredTransfer> transfers;
  if (ranks == 1 || sizes.empty()) {
    return transfers;
  }
  std::map<int, int> pairs;  // level -> most pairs of devices that talk across it in a node
  for (int device = 1; device < ranks; ++device) {
    const int level = level_between(cluster, 0, device);
    const int per_node = std::min(ranks, std::max(cluster.levels.front().size, 1));
    pairs[level] = level == 0 ? std::max(per_node / 2, 1) : per_node;
  }
  for (const auto& [level, most] : pairs) {
    for (int concurrent = 1; concurrent <= most; ++concurrent) {
      transfers.push_back({level, concurrent, Bytes(sizes.smallest), Bytes(sizes.largest)});
    }
  }
  return transfers;
}

}  // namespace

RequiredMeasurements required_measurements(const std::function<Graph(std::int64_t)>& graph,
                                           std::int64_t batch,
                                           Precision precision,
                                           const Cluster& cluster,
                                           int ranks,
                                           int free_axes) {
  SHARDWISE_CHECK(ranks >= 1 && ranks <= cluster.num_devices(), "the cluster has too few devices");
  const std::vector<Mesh> meshes = meshes_up_to(ranks, free_axes);
  RequiredMeasurements required;
  std::map<OpKey, RequiredOp> ops;
  for (std::int64_t microbatch = 1; microbatch <= batch; ++microbatch) {
    if (batch % microbatch == 0) {
      add_ops(graph(microbatch), meshes, precision, ops);
    }
  }
  for (auto& [key, op] : ops) {
    required.ops.push_back(std::move(op));
  }
  const Graph one_sequence = graph(1);
  const ActivationBytes sequence = activation_bytes(one_sequence, precision);
  const Range elements = parameter_elements(one_sequence);
  required.collectives =
      required_collectives(meshes, sequence, elements, batch, precision, cluster, ranks);
  required.transfers = required_transfers(one_sequence, sequence, batch, cluster, ranks);
  if (!elements.empty()) {
    required.smallest_update = divide_up(elements.smallest, ranks);
    required.largest_update = elements.largest;
  }
  if (!sequence.accumulated.empty()) {
    required.smallest_accumulation = Bytes(divide_up(sequence.accumulated.smallest, ranks));
    required.largest_accumulation = Bytes(sequence.accumulated.largest * batch);
  }
  required.rank_counts = ranks == 1 ? std::vector{1} : std::vector{1, ranks};
  return required;
}

}  // namespace shardwise
