// Conversions are carried out on small numbered tensors by a simulation of the collectives that
// knows nothing of layouts but "who holds which box": every rank must end with its box of the
// whole.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "graph/layout.h"

namespace shardwise {
namespace {

using Values = std::vector<std::int64_t>;  // row-major local tensor

std::size_t at(int index) { return static_cast<std::size_t>(index); }

struct LocalTensor {
  std::vector<std::int64_t> shape;
  Values values;
};

std::int64_t row_major(const std::vector<std::int64_t>& index,
                       const std::vector<std::int64_t>& shape) {
  std::int64_t offset = 0;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    offset = offset * shape[d] + index[d];
  }
  return offset;
}

template <typename Visit>
void for_each_index(const std::vector<std::int64_t>& shape, Visit visit) {
  std::vector<std::int64_t> index(shape.size(), 0);
  for (std::int64_t left = element_count(shape); left > 0; --left) {
    visit(index);
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (++index[d] < shape[d]) {
        break;
      }
      index[d] = 0;
    }
  }
}

// The box of a tensor whose element at row-major offset o is o; `share`: partial values add up to
// it.
LocalTensor local_part(const std::vector<std::int64_t>& shape,
                       const Layout& layout,
                       const Mesh& mesh,
                       const MeshCoordinates& coordinates) {
  const Box box = shard_box(shape, layout, mesh, coordinates);
  bool is_zero_share = false;  // a partial tensor: coordinate 0 holds the value, the others zero
  for (int m = 0; m < kMeshAxes; ++m) {
    is_zero_share |= layout[at(m)].kind == AxisLayout::Kind::kPartial && coordinates[at(m)] > 0;
  }
  LocalTensor local;
  for (std::size_t d = 0; d < shape.size(); ++d) {
    local.shape.push_back(box.end[d] - box.begin[d]);
  }
  for_each_index(local.shape, [&](std::vector<std::int64_t> index) {
    for (std::size_t d = 0; d < shape.size(); ++d) {
      index[d] += box.begin[d];
    }
    local.values.push_back(is_zero_share ? 0 : 1 + row_major(index, shape));
  });
  return local;
}

LocalTensor part_of(const LocalTensor& x, int dim, std::int64_t index, std::int64_t parts) {
  LocalTensor part;
  part.shape = x.shape;
  part.shape[at(dim)] /= parts;
  for_each_index(part.shape, [&](std::vector<std::int64_t> i) {
    i[at(dim)] += index * part.shape[at(dim)];
    part.values.push_back(x.values[static_cast<std::size_t>(row_major(i, x.shape))]);
  });
  return part;
}

LocalTensor joined(const std::vector<LocalTensor>& parts, int dim) {
  LocalTensor whole;
  whole.shape = parts[0].shape;
  const std::int64_t size = whole.shape[at(dim)];
  whole.shape[at(dim)] *= static_cast<std::int64_t>(parts.size());
  for_each_index(whole.shape, [&](std::vector<std::int64_t> i) {
    const LocalTensor& part = parts[static_cast<std::size_t>(i[at(dim)] / size)];
    i[at(dim)] %= size;
    whole.values.push_back(part.values[static_cast<std::size_t>(row_major(i, part.shape))]);
  });
  return whole;
}

LocalTensor summed(const std::vector<LocalTensor>& parts) {
  LocalTensor sum = parts[0];
  for (std::size_t p = 1; p < parts.size(); ++p) {
    for (std::size_t i = 0; i < sum.values.size(); ++i) {
      sum.values[i] += parts[p].values[i];
    }
  }
  return sum;
}

LocalTensor carried_out(const CollectiveStep& step,
                        const std::vector<LocalTensor>& group,
                        std::int64_t me) {
  const auto n = static_cast<std::int64_t>(group.size());
  switch (step.kind) {
    case CollectiveKind::kAllGather:
      return joined(group, step.dim);
    case CollectiveKind::kAllReduce:
      return summed(group);
    case CollectiveKind::kReduceScatter:
      return part_of(summed(group), step.dim, me, n);
    case CollectiveKind::kSlice:
      return part_of(group[static_cast<std::size_t>(me)], step.dim, me, n);
    case CollectiveKind::kAllToAll: {
      std::vector<LocalTensor> received;
      for (const LocalTensor& member : group) {
        received.push_back(part_of(member, step.to_dim, me, n));
      }
      return joined(received, step.dim);
    }
  }
  return group[0];
}

std::vector<LocalTensor> run(const std::vector<CollectiveStep>& steps,
                             const Mesh& mesh,
                             std::vector<LocalTensor> ranks) {
  for (const CollectiveStep& step : steps) {
    std::vector<LocalTensor> after;
    for (int rank = 0; rank < mesh.devices(); ++rank) {
      MeshCoordinates c = coordinates_of(mesh, rank);
      const int me = c[at(step.mesh_axis)];
      std::vector<LocalTensor> group;
      for (c[at(step.mesh_axis)] = 0; c[at(step.mesh_axis)] < mesh.sizes[at(step.mesh_axis)];
           ++c[at(step.mesh_axis)]) {
        group.push_back(ranks[at(index_of(mesh, c))]);
      }
      EXPECT_EQ(element_count(group[0].shape), step.elements_before);
      after.push_back(carried_out(step, group, me));
      EXPECT_EQ(element_count(after.back().shape), step.elements_after);
    }
    ranks = std::move(after);
  }
  return ranks;
}

AxisLayout random_axis(std::mt19937_64& random, int size, int dims, bool may_be_partial) {
  if (size == 1) {
    return AxisLayout::replicate();
  }
  const auto pick = static_cast<int>(random() % static_cast<std::uint64_t>(dims + 2));
  if (pick < dims) {
    return AxisLayout::shard(pick);
  }
  return pick == dims && may_be_partial ? AxisLayout::partial() : AxisLayout::replicate();
}

TEST(Conversion, EveryPairOfLayoutsOnRandomMeshesEndsInTheRightBoxes) {
  constexpr std::uint64_t kSeed = 20261122;
  SCOPED_TRACE(kSeed);
  std::mt19937_64 random(kSeed);
  int with_steps = 0;
  for (int round = 0; round < 1500; ++round) {
    Mesh mesh;
    for (int& size : mesh.sizes) {
      size = static_cast<int>(random() % 3) + 1;
    }
    const std::vector<std::int64_t> shape{36, 72};
    Layout from{};
    Layout to{};
    for (int m = 0; m < kMeshAxes; ++m) {
      from[at(m)] = random_axis(random, mesh.sizes[at(m)], 2, true);
      to[at(m)] = random_axis(random, mesh.sizes[at(m)], 2, false);
    }
    if (!is_convertible(shape, from, to, mesh)) {
      continue;  // 27 shards of 36
    }
    const std::vector<CollectiveStep> steps = conversion_steps(shape, from, to, mesh);
    with_steps += steps.empty() ? 0 : 1;
    std::vector<LocalTensor> ranks;
    for (int rank = 0; rank < mesh.devices(); ++rank) {
      ranks.push_back(local_part(shape, from, mesh, coordinates_of(mesh, rank)));
    }
    ranks = run(steps, mesh, std::move(ranks));
    for (int rank = 0; rank < mesh.devices(); ++rank) {
      const LocalTensor expected = local_part(shape, to, mesh, coordinates_of(mesh, rank));
      ASSERT_EQ(ranks[at(rank)].shape, expected.shape)
          << to_string(mesh) << ": " << to_string(from) << " -> " << to_string(to);
      ASSERT_EQ(ranks[at(rank)].values, expected.values)
          << to_string(mesh) << ": " << to_string(from) << " -> " << to_string(to);
    }
  }
  EXPECT_GT(with_steps, 500);
}

TEST(Conversion, PaddedShardsStayWhereTheyAre) {
  const Mesh mesh{{1, 2, 1}};
  const Layout sharded{AxisLayout{}, AxisLayout::shard(0), AxisLayout{}};
  EXPECT_FALSE(is_convertible({5}, sharded, Layout{}, mesh));
  EXPECT_TRUE(is_convertible({5}, sharded, sharded, mesh));
}

TEST(CollectivePayload, AllReduceCountsTwiceTheInputPaddedToTheGroup) {
  // 5 elements on 2 ranks: padded to 6, reduce-scattered and gathered: 2 * 6 * 4 bytes.
  const Mesh mesh{{1, 2, 1}};
  CollectiveStep step;
  step.kind = CollectiveKind::kAllReduce;
  step.mesh_axis = 1;
  step.elements_before = step.elements_after = 5;
  EXPECT_EQ(collective_payload(step, mesh, 4), Bytes(48));
}

}  // namespace
}  // namespace shardwise
