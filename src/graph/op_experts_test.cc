#include <gtest/gtest.h>

#include "graph/block_builder.h"
#include "graph/op_definition.h"

namespace shardwise {
namespace {

TEST(Experts, EveryWayToShardThemOverTwoHalvesTheWork) {
  // 4 sequences of 8 tokens, 2 of 4 experts each, h 16, f 32: 64 pairs x 3 products of 2 * 16 * 32
  // operations = 196608 whole; an exchange takes as many pairs away as it brings.
  BlockBuilder build("moe", 4, 8);
  const TensorIndex x = build.boundary_input(16);
  const auto routing = build.router("router", x, 4, 2, true, 0.02);
  build.boundary_output(build.experts("experts", x, routing, 4, 32, "silu", 0.02, 0.02));
  const Block block = std::move(build).build();
  const Op& op = block.ops[1];
  const Mesh mesh{{1, 2, 1}};
  for (const char* axis : {"b", "s", "f", "e", "xb", "xs"}) {
    SCOPED_TRACE(axis);
    const AxisAssignment assignment{
        kUnassigned, static_cast<std::int8_t>(axis_index(op, axis)), kUnassigned};
    const auto sizes = local_axis_sizes(op, assignment, mesh);
    EXPECT_EQ(definition_of(op.kind).work(op, sizes, Direction::kForward), Flops(196608.0 / 2));
  }
}

}  // namespace
}  // namespace shardwise
