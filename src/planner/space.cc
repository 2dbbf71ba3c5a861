#include "planner/space.h"

#include <algorithm>

#include "graph/op_definition.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Whether a free axis of this size can shard something of some op; `evenly`: without padding.
bool is_usable(const Graph& graph, int size, bool evenly) {
  if (size == 1) {
    return true;
  }
  const Mesh mesh{{1, size, 1}};
  for (const Block& block : graph.blocks) {
    for (const Op& op : block.ops) {
      for (int axis = 0; axis < static_cast<int>(op.axes.size()); ++axis) {
        const AxisAssignment assignment{kUnassigned, static_cast<std::int8_t>(axis), kUnassigned};
        const bool counts = !evenly || op.axes[at(axis)].sharding == AxisSharding::kEven;
        if (counts && is_valid_assignment(op, assignment, mesh)) {
          return true;
        }
      }
    }
  }
  return false;
}

int node_size(const Cluster& cluster) {
  return cluster.levels.empty() ? cluster.num_devices() : std::max(cluster.levels[0].size, 1);
}

// Parts of the innermost level that devices[start, start + size) touch.
int nodes_touched(const Cluster& cluster, const std::vector<int>& devices, int start, int size) {
  const int first_device = devices[at(start)];
  const int last_device = devices[at(start + size - 1)];
  if (last_device - first_device == size - 1) {  // one run, for the list is sorted
    return last_device / node_size(cluster) - first_device / node_size(cluster) + 1;
  }
  int count = 0;
  int last = -1;
  for (int i = start; i < start + size; ++i) {
    const int node = devices[at(i)] / node_size(cluster);
    count += node != last ? 1 : 0;
    last = node;
  }
  return count;
}

}  // namespace

bool has_unlike_chunks(const PlanRequest& request) {
  const std::vector<Schedule>& schedules = request.schedules;
  if (!schedules.empty() &&
      std::find(schedules.begin(), schedules.end(), Schedule::kInterleaved) == schedules.end()) {
    return false;
  }
  const Graph graph = request.graph(request.batch);
  const auto is_unlike = [&](const Layer& layer) { return layer.block != graph.layers[1].block; };
  return graph.layers.size() > 3 &&
         (!request.constraints.empty() ||
          std::any_of(graph.layers.begin() + 1, graph.layers.end() - 1, is_unlike));
}

bool is_aligned(const SpaceLimits& limits, const Cluster& cluster) {
  constexpr int kMostDevices = 16;
  return limits.stage_sizes == SpaceLimits::StageSizes::kAligned ||
         (limits.stage_sizes == SpaceLimits::StageSizes::kAuto &&
          cluster.num_devices() > kMostDevices);
}

StageShape shape_of(const Cluster& cluster, const std::vector<int>& devices, const Mesh& mesh) {
  StageShape shape;
  shape.mesh = mesh;
  shape.device_type = cluster.type_of(devices.front());
  for (unsigned axes = 0; axes < shape.placements.size(); ++axes) {
    shape.placements[axes] = placement_of(cluster, devices, mesh, axes);
  }
  return shape;
}

std::vector<Mesh> meshes_of(
    const Graph& graph, int num_devices, int free_axes, const SpaceLimits& limits, bool aligned) {
  std::vector<Mesh> meshes;
  // Large data degrees first: among equals they are the plainest.
  for (int data = num_devices; data >= 1; --data) {
    if (num_devices % data != 0 || graph.microbatch % data != 0 ||
        (limits.max_data_degree > 0 && data > limits.max_data_degree)) {
      continue;
    }
    const int rest = num_devices / data;
    for (int second = 1; second <= rest; ++second) {
      const int first = rest % second == 0 ? rest / second : 0;
      const int axes = (first > 1 ? 1 : 0) + (second > 1 ? 1 : 0);
      const bool is_canonical = first > 1 || second == 1;
      if (first == 0 || !is_canonical || axes > free_axes || !is_usable(graph, first, aligned) ||
          !is_usable(graph, second, aligned)) {
        continue;
      }
      meshes.push_back({{data, first, second}});
    }
  }
  return meshes;
}

std::vector<bool> stage_sizes(const Graph& whole_batch,
                              const Cluster& cluster,
                              int free_axes,
                              const SpaceLimits& limits) {
  const bool aligned = is_aligned(limits, cluster);
  const int node = node_size(cluster);
  const int most = cluster.num_devices();
  std::vector<bool> is_free(at(most) + 1, false);  // sizes of free axes
  for (int size = 1; size <= most; ++size) {
    is_free[at(size)] = is_usable(whole_batch, size, aligned);
  }
  std::vector<bool> is_size(at(most) + 1, false);
  const auto add = [&](int product, int axes, const auto& add_more) -> void {
    if (!aligned || product % node == 0 || node % product == 0) {
      is_size[at(product)] = true;
    }
    for (int free = 2; axes < free_axes && product * free <= most; ++free) {
      if (is_free[at(free)]) {
        add_more(product * free, axes + 1, add_more);
      }
    }
  };
  for (int data = 1; data <= most; ++data) {
    if (whole_batch.microbatch % data == 0) {
      add(data, 0, add);
    }
  }
  return is_size;
}

bool order_matters(const StageShape& shape) { return shape.placements.back().level > 0; }

std::vector<Layout> boundary_layouts(const std::vector<std::int64_t>& shape, const Mesh& mesh) {
  std::vector<Layout> layouts;
  const int dims = static_cast<int>(shape.size());
  const auto choices = [&](int axis) {
    std::vector<AxisLayout> all;
    if (mesh.sizes[at(axis)] == 1) {
      return std::vector<AxisLayout>{AxisLayout::replicate()};
    }
    if (axis == kDataAxis) {
      return std::vector<AxisLayout>{AxisLayout::shard(0)};
    }
    all.push_back(AxisLayout::replicate());
    for (int dim = 0; dim < dims; ++dim) {
      all.push_back(AxisLayout::shard(dim));
    }
    return all;
  };
  for (const AxisLayout& data : choices(0)) {
    for (const AxisLayout& first : choices(1)) {
      for (const AxisLayout& second : choices(2)) {
        const Layout layout{data, first, second};
        if (is_convertible(shape, layout, Layout{}, mesh)) {
          layouts.push_back(layout);
        }
      }
    }
  }
  return layouts;
}

std::vector<AxisAssignment> assignments_of(const Op& op,
                                           const Mesh& mesh,
                                           const SpaceLimits& limits) {
  const auto b = static_cast<std::int8_t>(axis_index(op, "b"));
  const auto choices = [&](int m) {
    std::vector<std::int8_t> all;
    if (mesh.sizes[at(m)] == 1) {
      all.push_back(kUnassigned);
      return all;
    }
    if (m == kDataAxis) {
      for (const char* name : {"b", "xb"}) {
        if (const int axis = axis_index(op, name); axis >= 0) {
          all.push_back(static_cast<std::int8_t>(axis));
        }
      }
      return all;
    }
    all.push_back(kUnassigned);
    for (int axis = 0; axis < static_cast<int>(op.axes.size()); ++axis) {
      const bool is_batch = axis == b || op.axes[at(axis)].name == "xb";
      if (!(is_batch && limits.batch_on_free_axes == SpaceLimits::BatchOnFreeAxes::kForbidden)) {
        all.push_back(static_cast<std::int8_t>(axis));
      }
    }
    return all;
  };
  std::vector<AxisAssignment> assignments;
  for (const std::int8_t data : choices(0)) {
    for (const std::int8_t first : choices(1)) {
      for (const std::int8_t second : choices(2)) {
        const AxisAssignment assignment{data, first, second};
        if (!is_valid_assignment(op, assignment, mesh)) {
          continue;
        }
        const int chunks = context_degree(op, assignment, mesh);
        if (chunks == 1 ||
            op.axes[at(axis_index(op, "s"))].size % (std::int64_t{2} * chunks) == 0) {
          assignments.push_back(assignment);
        }
      }
    }
  }
  return assignments;
}

int context_degree(const Op& op, const AxisAssignment& assignment, const Mesh& mesh) {
  int degree = 1;
  if (is_sequence_attention(op.kind)) {
    for (int m = 0; m < kMeshAxes; ++m) {
      if (assignment[at(m)] != kUnassigned && assignment[at(m)] == axis_index(op, "s")) {
        degree *= mesh.sizes[at(m)];
      }
    }
  }
  return degree;
}

std::vector<std::vector<int>> devices_by_type(const Cluster& cluster) {
  std::vector<std::vector<int>> devices(cluster.types.size());
  for (int device = 0; device < cluster.num_devices(); ++device) {
    devices[at(cluster.type_of(device))].push_back(device);
  }
  return devices;
}

std::vector<int> places_for(
    const Cluster& cluster, const std::vector<int>& devices, int used, int size, bool aligned) {
  const int tight = static_cast<int>(devices.size()) - used - size;
  const int node = node_size(cluster);
  if (tight < 0 || (aligned && size % node != 0 && node % size != 0)) {
    return {};
  }
  std::vector<int> places{tight};
  const int fewest = (size + node - 1) / node;
  if (nodes_touched(cluster, devices, tight, size) > fewest) {
    if (aligned) {
      places.clear();
    }
    for (int start = tight - 1; start >= 0; --start) {
      if (nodes_touched(cluster, devices, start, size) == fewest) {
        places.push_back(start);
        break;
      }
    }
  }
  return places;
}

}  // namespace shardwise::planning
