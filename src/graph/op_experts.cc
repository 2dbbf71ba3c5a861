// router:  b s h, e h -> b s k (weights), b s k (expert ids)
// experts: b s h, b s k, b s k, e f h, e f h, e h f -> b s h    dispatch, gated experts, combine
//
// Ways to shard the experts, all read off the axes:
//   b, s    tokens are local, experts replicated: their gradients are partial
//   f       every expert cut: input replicated, output partial (tensor parallel)
//   e       own experts for all tokens: input replicated, output partial
//   xb, xs  the exchange axes stand beside b (or s) AND e: tokens and experts are both sharded,
//   tokens
//           travel to their experts and back by all-to-all inside the kernel (expert parallel)
#include "graph/op_table.h"

namespace shardwise {

namespace {

double ratio(const Op& op, std::span<const std::int64_t> sizes, std::string_view axis) {
  const int index = axis_index(op, std::string(axis));
  return static_cast<double>(sizes[static_cast<std::size_t>(index)]) /
         static_cast<double>(op.axes[static_cast<std::size_t>(index)].size);
}

// (token, expert) pairs this rank computes under an even routing: own tokens times k, less those
// for experts of other ranks (e); an exchange brings as many as it takes away.
double routed_tokens(const Op& op, std::span<const std::int64_t> sizes) {
  const auto pairs = static_cast<double>(size_of(op, sizes, "b") * size_of(op, sizes, "s") *
                                         size_of(op, sizes, "k"));
  return pairs * ratio(op, sizes, "e") / (ratio(op, sizes, "xb") * ratio(op, sizes, "xs"));
}

Flops experts_work(const Op& op, std::span<const std::int64_t> sizes, Direction direction) {
  const double product = 2 * routed_tokens(op, sizes) *
                         static_cast<double>(size_of(op, sizes, "f") * size_of(op, sizes, "h"));
  // Forward: gate, up, down. Backward: gate and up again, then two products for each of the three.
  return Flops((direction == Direction::kForward ? 3 : 8) * product);
}

SavedForBackward experts_saved(const Op&) {
  return {.inputs = {0, 1, 2}, .outputs = {}, .statistics = {}};
}

// Sorted tokens and results [t, h], gate, up and activation [t, f]; backward holds their gradients
// too.
Bytes experts_workspace(const Op& op,
                        std::span<const std::int64_t> sizes,
                        Direction direction,
                        std::int64_t element) {
  const auto tokens = static_cast<std::int64_t>(routed_tokens(op, sizes));
  const std::int64_t forward =
      tokens * (2 * size_of(op, sizes, "h") + 3 * size_of(op, sizes, "f")) * element;
  return Bytes(direction == Direction::kForward ? forward : 2 * forward);
}

std::vector<InternalCollective> experts_collectives(const Op& op,
                                                    const AxisAssignment& assignment,
                                                    const Mesh& mesh,
                                                    Direction direction,
                                                    std::int64_t element) {
  std::vector<InternalCollective> collectives;
  const std::vector<std::int64_t> sizes = local_axis_sizes(op, assignment, mesh);
  const auto tokens = static_cast<std::int64_t>(routed_tokens(op, sizes));
  const Bytes rows(tokens * size_of(op, sizes, "h") * element);
  for (int m = 0; m < kMeshAxes; ++m) {
    const int axis = assignment[static_cast<std::size_t>(m)];
    if (axis == kUnassigned ||
        op.axes[static_cast<std::size_t>(axis)].sharding != AxisSharding::kExchange) {
      continue;
    }
    // Forward: tokens there, results back. Backward: tokens, gradients of results and routing
    // weights there, gradients of tokens and (fp32) of routing weights back.
    const int exchanges = direction == Direction::kForward ? 2 : 3;
    for (int i = 0; i < exchanges; ++i) {
      collectives.push_back({CollectiveKind::kAllToAll, m, rows, /*routed=*/true});
    }
    if (direction != Direction::kForward) {
      collectives.push_back(
          {CollectiveKind::kAllToAll, m, Bytes(tokens * element), /*routed=*/true});
      collectives.push_back({CollectiveKind::kAllToAll, m, Bytes(tokens * 4), /*routed=*/true});
    }
  }
  return collectives;
}

Flops router_work(const Op& op, std::span<const std::int64_t> sizes, Direction direction) {
  const auto product = static_cast<double>(2 * size_of(op, sizes, "b") * size_of(op, sizes, "s") *
                                           size_of(op, sizes, "h") * size_of(op, sizes, "e"));
  return Flops((direction == Direction::kForward ? 1 : 2) * product);
}

SavedForBackward router_saved(const Op& op) {
  return {.inputs = {0},
          .outputs = {1},
          .statistics = {{"probabilities",
                          ElementType::kFloat32,
                          {axis_index(op, "b"), axis_index(op, "s"), axis_index(op, "e")}}}};
}

}  // namespace

OpDefinition router_definition() {
  return {OpKind::kRouter,
          "router",
          /*splits_backward=*/false,
          /*cheap=*/false,
          router_work,
          streamed_traffic,
          router_saved,
          no_workspace,
          no_collectives};
}

OpDefinition experts_definition() {
  return {OpKind::kExperts,
          "experts",
          /*splits_backward=*/false,
          /*cheap=*/false,
          experts_work,
          streamed_traffic,
          experts_saved,
          experts_workspace,
          experts_collectives};
}

}  // namespace shardwise
