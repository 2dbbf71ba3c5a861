// Starting values of parameters: a function of seed, full name and global index only, so every plan
// trains the same model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/layout.h"

namespace shardwise {

// What of which parameter to fill.
struct InitialValues {
  std::uint64_t seed = 0;
  std::string name;  // full: layer prefix + tensor name; an alias starts as its owner
  Initializer initializer = Initializer::kNormal;
  double stddev = 0.02;
  std::vector<std::int64_t> global_shape;
};

// Writes the part `box` of the parameter to `out`, row-major, with rows as long as those of
// `local_shape` (>= the box; what lies beyond the box is padding and becomes 0).
//
// Normal values: with key = mix(seed, hash of name), pair p = global index / 2 takes two 53-bit
// uniforms u, v from the counter-based generator splitmix64(key, 2 p), splitmix64(key, 2 p + 1)
// (Steele et al., OOPSLA'14) and gives sqrt(-2 ln u) (cos 2 pi v, sin 2 pi v) (Box and Muller,
// 1958).
void fill_initial_values(const InitialValues& what,
                         const Box& box,
                         const std::vector<std::int64_t>& local_shape,
                         float* out);

}  // namespace shardwise
