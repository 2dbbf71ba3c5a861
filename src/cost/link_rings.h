// Rings of a node whose devices are joined by direct links, without a switch.
#pragma once

#include <vector>

namespace shardwise {

// Links between devices i and j at [i][j]: symmetric, zero where there are none.
using LinkCounts = std::vector<std::vector<int>>;

// Eight devices of a DGX-1 with V100 or a p3.16xlarge: a hybrid cube mesh, three interwoven rings
// of six links a device (NVIDIA, "DGX-1 with Tesla V100", 2017).
LinkCounts hybrid_cube_mesh();

// [k]: links' worth of bandwidth of a ring through devices 0 .. k-1, that is, what a collective's
// bus bandwidth is in links:
//   most rings that share no link, times two: each runs both ways; a pair: its links
//   2 (k - 1) / k where there is no ring but a chain, down which sums and up which results flow
//   0 where direct links do not join them.
// The most rings that a search of a million steps finds, exact for real nodes; at most 8 devices.
std::vector<double> ring_links(const LinkCounts& links);

}  // namespace shardwise
