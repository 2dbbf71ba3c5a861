// Meshes, layouts of tensors on them, and everything that follows from "mesh axis m of this op is
// assigned to loop axis a": sharded shapes, partial results forward and backward, conversions.
//
// A stage's devices form a mesh of up to three axes: axis 0 is `data`, 1 and 2 are free.
// Coordinates are row-major: rank index in stage = (c0 * size1 + c1) * size2 + c2.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/units.h"
#include "graph/op.h"

namespace shardwise {

inline constexpr int kMeshAxes = 3;
inline constexpr int kDataAxis = 0;

struct Mesh {
  std::array<int, kMeshAxes> sizes{1, 1, 1};

  int devices() const { return sizes[0] * sizes[1] * sizes[2]; }
  auto operator<=>(const Mesh&) const = default;
};

using MeshCoordinates = std::array<int, kMeshAxes>;
MeshCoordinates coordinates_of(const Mesh& mesh, int index_in_stage);
int index_of(const Mesh& mesh, const MeshCoordinates& coordinates);

// What one mesh axis does to a tensor.
struct AxisLayout {
  enum class Kind : std::int8_t { kReplicate, kShard, kPartial };
  Kind kind = Kind::kReplicate;
  std::int8_t dim = -1;  // kShard only

  auto operator<=>(const AxisLayout&) const = default;
  static AxisLayout replicate() { return {}; }
  static AxisLayout shard(int dim) { return {Kind::kShard, static_cast<std::int8_t>(dim)}; }
  static AxisLayout partial() { return {Kind::kPartial, -1}; }
};

// Layout of a tensor on a mesh. Several mesh axes may shard one dimension: the lower mesh axis is
// the major one (coarse blocks). Mesh axes of size 1 always say kReplicate (canonical form).
using Layout = std::array<AxisLayout, kMeshAxes>;

// Per mesh axis the loop axis of the op it shards, or kUnassigned: replicated work.
inline constexpr int kUnassigned = -1;
using AxisAssignment = std::array<std::int8_t, kMeshAxes>;

// Whether sizes divide (kEven), may be padded (kPadded), and no axis is kNever. Mesh axes of size 1
// must be unassigned.
bool is_valid_assignment(const Op& op, const AxisAssignment& assignment, const Mesh& mesh);

// Local sizes of the op's loop axes: ceil(size / product of mesh axes assigned to it). The expert
// exchange axes "xb" / "xs" shard b / s and e at once.
std::vector<std::int64_t> local_axis_sizes(const Op& op,
                                           const AxisAssignment& assignment,
                                           const Mesh& mesh);

// Layout in which the op reads an input or parameter (never partial), on `mesh`.
Layout input_layout(const Op& op,
                    const Operand& operand,
                    const AxisAssignment& assignment,
                    const Mesh& mesh);
// Layout in which the op leaves an output: shard, partial (axis summed away) or replicate.
Layout output_layout(const Op& op,
                     const Operand& operand,
                     const AxisAssignment& assignment,
                     const Mesh& mesh);
// Layout of the gradient that backward yields for an input or parameter: shard where the operand
// has the axis, partial where it lacks the assigned axis (epilogue operands: replicate if that axis
// is summed away), replicate where the mesh axis is unassigned.
Layout gradient_layout(const Op& op,
                       const Operand& operand,
                       const AxisAssignment& assignment,
                       const Mesh& mesh);
// Layout in which backward needs the gradient of a tensor laid out as `layout`: partial ->
// replicate.
Layout required_gradient_layout(const Layout& layout);

// Shards that the layout cuts dimension `dim` into.
std::int64_t shard_degree(const Layout& layout, int dim, const Mesh& mesh);
// Shape of a local shard, padded: every shard has ceil(size / degree) of a sharded dimension.
std::vector<std::int64_t> local_shape(const std::vector<std::int64_t>& shape,
                                      const Layout& layout,
                                      const Mesh& mesh);

// Half-open index range per dimension.
struct Box {
  std::vector<std::int64_t> begin;
  std::vector<std::int64_t> end;

  bool empty() const;
  std::int64_t elements() const;
  bool operator==(const Box&) const = default;
};
// The part of the whole tensor that the device at `coordinates` holds (cut at the true size:
// padding is not part of it). Partial counts as replicate.
Box shard_box(const std::vector<std::int64_t>& shape,
              const Layout& layout,
              const Mesh& mesh,
              const MeshCoordinates& coordinates);
Box intersect(const Box& a, const Box& b);

enum class CollectiveKind { kAllGather, kReduceScatter, kAllReduce, kAllToAll, kSlice };

// One step of a layout conversion along one mesh axis.
//   kAllGather      shard(dim) -> replicate        kAllReduce  partial -> replicate
//   kReduceScatter  partial -> shard(dim)          kSlice      replicate -> shard(dim), free
//   kAllToAll       shard(dim) -> shard(to_dim)
struct CollectiveStep {
  CollectiveKind kind = CollectiveKind::kSlice;
  int mesh_axis = 0;
  int dim = -1;  // all-gather: dimension that was sharded; reduce-scatter, slice: that becomes so
  int to_dim = -1;  // all-to-all only
  // Elements of the tensor that this rank holds before and after the step.
  std::int64_t elements_before = 0;
  std::int64_t elements_after = 0;
};

// Payload bytes of a collective on one rank, the convention of every account in Shardwise (program,
// cost model, PMPI count), n = group size:
//   all-gather       bytes contributed x n  (= bytes of the result)
//   reduce-scatter   bytes of the input     (= result x n)
//   all-to-all       bytes of the input
//   all-reduce       bytes of the input x 2 (done as reduce-scatter + all-gather, input padded to a
//                    multiple of n elements)
// Sums in fp32 for a 2-byte compute type do not change the bytes sent.
Bytes collective_payload(const CollectiveStep& step, const Mesh& mesh, std::int64_t element_bytes);

// Whether conversion_steps may be asked: layouts are equal, or every dimension sharded in either is
// divisible by its degree (padded shards stay where they are).
bool is_convertible(const std::vector<std::int64_t>& shape,
                    const Layout& from,
                    const Layout& to,
                    const Mesh& mesh);

// Steps that turn layout `from` into `to` (never partial where `from` is not). Where a major mesh
// axis of a dimension changes while a minor one shards the same dimension, the minor one is
// gathered first and sliced again after. Order: reduce-scatter and slices first, then all-to-all,
// all-reduce, all-gather (least data moved), ties by mesh axis; deterministic. Empty if equal.
// Requires is_convertible.
std::vector<CollectiveStep> conversion_steps(const std::vector<std::int64_t>& shape,
                                             const Layout& from,
                                             const Layout& to,
                                             const Mesh& mesh);

std::string to_string(const Layout& layout);  // "shard(0) | replicate | partial"
std::string to_string(const Mesh& mesh);      // "data 2 x free 2"
std::string to_string(CollectiveKind kind);

}  // namespace shardwise
