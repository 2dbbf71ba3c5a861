#include "cost/link_rings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace shardwise {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;

// By hand on the figure of the DGX-1: 0-1 one link; the triangle 0-1-2 one ring; 0-3-1-2 and
// 0-1-2-3 are disjoint; device 4 hangs on 0 alone, 2 * 4 / 5 of a link; all eight: three rings.
TEST(LinkRings, HybridCubeMeshIsThreeInterwovenRings) {
  EXPECT_THAT(ring_links(hybrid_cube_mesh()), ElementsAre(0, 0, 1, 2, 4, DoubleEq(1.6), 2, 4, 6));
}

TEST(LinkRings, DevicesWithoutDirectLinksHaveNone) {
  EXPECT_THAT(ring_links({{0, 1, 0, 0}, {1, 0, 0, 0}, {0, 0, 0, 1}, {0, 0, 1, 0}}),
              ElementsAre(0, 0, 1, 0, 0));
}

// Each pair of four by four links: twelve links a device, six rings.
TEST(LinkRings, FullMeshUsesEveryLink) {
  const LinkCounts links = {{0, 4, 4, 4}, {4, 0, 4, 4}, {4, 4, 0, 4}, {4, 4, 4, 0}};
  EXPECT_THAT(ring_links(links), ElementsAre(0, 0, 4, 8, 12));
}

}  // namespace
}  // namespace shardwise
