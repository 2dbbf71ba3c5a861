#include "graph/layout.h"

#include <algorithm>

#include "core/errors.h"

namespace shardwise {

namespace {

using Kind = AxisLayout::Kind;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Dimension of the operand that loop axis `axis` shards, or -1.
int dim_of(const Operand& operand, int axis) {
  for (std::size_t d = 0; d < operand.dims.size(); ++d) {
    const std::vector<int>& axes = operand.dims[d];
    if (std::find(axes.begin(), axes.end(), axis) != axes.end()) {
      return static_cast<int>(d);
    }
  }
  return -1;
}

bool share_dimension(const std::vector<Operand>& operands, int a, int b) {
  return std::any_of(operands.begin(), operands.end(), [&](const Operand& operand) {
    const int dim = dim_of(operand, a);
    return dim >= 0 && dim == dim_of(operand, b);
  });
}

// Whether assigning a mesh axis to `assigned` shards loop axis `axis`: the same axis, or for an
// exchange axis the ordinary ones that it stands beside.
bool shards(const Op& op, int assigned, int axis) {
  return assigned == axis || (op.axes[at(assigned)].sharding == AxisSharding::kExchange &&
                              op.axes[at(axis)].sharding != AxisSharding::kExchange &&
                              (share_dimension(op.inputs, assigned, axis) ||
                               share_dimension(op.parameters, assigned, axis)));
}

std::int64_t degree_of(const Op& op, int axis, const AxisAssignment& assignment, const Mesh& mesh) {
  std::int64_t degree = 1;
  for (int m = 0; m < kMeshAxes; ++m) {
    if (assignment[at(m)] != kUnassigned && shards(op, assignment[at(m)], axis)) {
      degree *= mesh.sizes[at(m)];
    }
  }
  return degree;
}

bool is_reduced(const Op& op, int axis) {
  return std::none_of(op.outputs.begin(), op.outputs.end(), [axis](const Operand& output) {
    return contains_axis(output, axis);
  });
}

}  // namespace

std::int64_t shard_degree(const Layout& layout, int dim, const Mesh& mesh) {
  std::int64_t degree = 1;
  for (int m = 0; m < kMeshAxes; ++m) {
    if (layout[at(m)] == AxisLayout::shard(dim)) {
      degree *= mesh.sizes[at(m)];
    }
  }
  return degree;
}

MeshCoordinates coordinates_of(const Mesh& mesh, int index) {
  return {index / (mesh.sizes[1] * mesh.sizes[2]),
          index / mesh.sizes[2] % mesh.sizes[1],
          index % mesh.sizes[2]};
}

int index_of(const Mesh& mesh, const MeshCoordinates& c) {
  return (c[0] * mesh.sizes[1] + c[1]) * mesh.sizes[2] + c[2];
}

bool is_valid_assignment(const Op& op, const AxisAssignment& assignment, const Mesh& mesh) {
  for (int m = 0; m < kMeshAxes; ++m) {
    const int axis = assignment[at(m)];
    if (axis == kUnassigned) {
      continue;
    }
    if (mesh.sizes[at(m)] == 1 || axis < 0 || axis >= static_cast<int>(op.axes.size()) ||
        op.axes[at(axis)].sharding == AxisSharding::kNever) {
      return false;
    }
  }
  for (int axis = 0; axis < static_cast<int>(op.axes.size()); ++axis) {
    const LoopAxis& loop = op.axes[at(axis)];
    const std::int64_t degree = degree_of(op, axis, assignment, mesh);
    if (loop.sharding == AxisSharding::kEven && loop.size % degree != 0) {
      return false;
    }
    if (loop.sharding == AxisSharding::kPadded && degree > std::max<std::int64_t>(loop.size, 1)) {
      return false;
    }
  }
  return true;
}

std::vector<std::int64_t> local_axis_sizes(const Op& op,
                                           const AxisAssignment& assignment,
                                           const Mesh& mesh) {
  std::vector<std::int64_t> sizes;
  sizes.reserve(op.axes.size());
  for (int axis = 0; axis < static_cast<int>(op.axes.size()); ++axis) {
    sizes.push_back(ceil_divide(op.axes[at(axis)].size, degree_of(op, axis, assignment, mesh)));
  }
  return sizes;
}

Layout input_layout(const Op&,
                    const Operand& operand,
                    const AxisAssignment& assignment,
                    const Mesh& mesh) {
  Layout layout{};
  for (int m = 0; m < kMeshAxes; ++m) {
    if (mesh.sizes[at(m)] > 1 && assignment[at(m)] != kUnassigned) {
      const int dim = dim_of(operand, assignment[at(m)]);
      layout[at(m)] = dim >= 0 ? AxisLayout::shard(dim) : AxisLayout::replicate();
    }
  }
  return layout;
}

Layout output_layout(const Op& op,
                     const Operand& operand,
                     const AxisAssignment& assignment,
                     const Mesh& mesh) {
  Layout layout = input_layout(op, operand, assignment, mesh);
  for (int m = 0; m < kMeshAxes; ++m) {
    if (mesh.sizes[at(m)] > 1 && assignment[at(m)] != kUnassigned &&
        layout[at(m)].kind == Kind::kReplicate) {
      layout[at(m)] = AxisLayout::partial();
    }
  }
  return layout;
}

Layout gradient_layout(const Op& op,
                       const Operand& operand,
                       const AxisAssignment& assignment,
                       const Mesh& mesh) {
  Layout layout = output_layout(op, operand, assignment, mesh);
  if (operand.epilogue) {
    for (int m = 0; m < kMeshAxes; ++m) {
      if (layout[at(m)].kind == Kind::kPartial && is_reduced(op, assignment[at(m)])) {
        layout[at(m)] = AxisLayout::replicate();
      }
    }
  }
  return layout;
}

Layout required_gradient_layout(const Layout& layout) {
  Layout required = layout;
  for (AxisLayout& axis : required) {
    if (axis.kind == Kind::kPartial) {
      axis = AxisLayout::replicate();
    }
  }
  return required;
}

std::vector<std::int64_t> local_shape(const std::vector<std::int64_t>& shape,
                                      const Layout& layout,
                                      const Mesh& mesh) {
  std::vector<std::int64_t> local = shape;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    local[d] = ceil_divide(shape[d], shard_degree(layout, static_cast<int>(d), mesh));
  }
  return local;
}

bool Box::empty() const {
  for (std::size_t d = 0; d < begin.size(); ++d) {
    if (begin[d] >= end[d]) {
      return true;
    }
  }
  return false;
}

std::int64_t Box::elements() const {
  std::int64_t count = 1;
  for (std::size_t d = 0; d < begin.size(); ++d) {
    count *= std::max<std::int64_t>(end[d] - begin[d], 0);
  }
  return count;
}

Box shard_box(const std::vector<std::int64_t>& shape,
              const Layout& layout,
              const Mesh& mesh,
              const MeshCoordinates& coordinates) {
  Box box;
  box.begin.assign(shape.size(), 0);
  box.end = shape;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    std::int64_t index = 0;
    for (int m = 0; m < kMeshAxes; ++m) {
      if (layout[at(m)] == AxisLayout::shard(static_cast<int>(d))) {
        index = index * mesh.sizes[at(m)] + coordinates[at(m)];
      }
    }
    const std::int64_t local =
        ceil_divide(shape[d], shard_degree(layout, static_cast<int>(d), mesh));
    box.begin[d] = std::min(index * local, shape[d]);
    box.end[d] = std::min(box.begin[d] + local, shape[d]);
  }
  return box;
}

Box intersect(const Box& a, const Box& b) {
  Box both = a;
  for (std::size_t d = 0; d < a.begin.size(); ++d) {
    both.begin[d] = std::max(a.begin[d], b.begin[d]);
    both.end[d] = std::max(both.begin[d], std::min(a.end[d], b.end[d]));
  }
  return both;
}

std::string to_string(const Layout& layout) {
  std::string text;
  for (const AxisLayout& axis : layout) {
    text += text.empty() ? "" : " | ";
    switch (axis.kind) {
      case Kind::kReplicate:
        text += "replicate";
        break;
      case Kind::kShard:
        text += "shard(" + std::to_string(axis.dim) + ")";
        break;
      case Kind::kPartial:
        text += "partial";
        break;
    }
  }
  return text;
}

std::string to_string(const Mesh& mesh) {
  std::string text = "data " + std::to_string(mesh.sizes[0]);
  for (int m = 1; m < kMeshAxes; ++m) {
    if (mesh.sizes[at(m)] > 1) {
      text += " x free " + std::to_string(mesh.sizes[at(m)]);
    }
  }
  return text;
}

}  // namespace shardwise
