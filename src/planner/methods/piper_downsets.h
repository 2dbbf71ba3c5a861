// Sets of nodes closed under successors, with the sums that a stage between two of them needs.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cost/piper_problem.h"

namespace shardwise::planning {

class NodeSet {
 public:
  static constexpr int kMaxNodes = 256;
  bool has(int node) const { return (words_[word(node)] >> (node % 64) & 1) != 0; }
  void add(int node) { words_[word(node)] |= std::uint64_t{1} << (node % 64); }
  bool is_inside(const NodeSet& other) const {
    std::uint64_t outside = 0;
    for (std::size_t w = 0; w < words_.size(); ++w) {
      outside |= words_[w] & ~other.words_[w];
    }
    return outside == 0;
  }
  auto operator<=>(const NodeSet&) const = default;

 private:
  static std::size_t word(int node) { return static_cast<std::size_t>(node) / 64; }
  std::array<std::uint64_t, kMaxNodes / 64> words_{};
};

// Sums over the nodes of a set at one tensor degree, by the fastest implementation of each node.
struct PiperSums {
  int unsupported = 0;     // nodes not profiled at the degree
  double least_time = 0;   // of any implementation
  double least_bytes = 0;  // parameters, of any implementation
  double bytes = 0;        // parameters of the fastest
  double slope = 0;        // its memory
  double base = 0;
};

struct Downset {
  NodeSet nodes;
  int size = 0;
  std::vector<PiperSums> sums;  // by degree
  double work_left = 0;         // least device-seconds of the nodes outside
  std::vector<int> edges_in;    // from outside to inside
};

struct DownsetSpace {
  std::vector<int> degrees;               // tensor degrees that occur, rising
  std::vector<Downset> downsets;          // by size; the first is empty, the last is everything
  std::vector<std::vector<int>> fastest;  // [node][degree]: implementation with the least time
};

// Throws InputError beyond NodeSet::kMaxNodes nodes or 200,000 downsets.
DownsetSpace enumerate_downsets(const PiperProblem& problem);

}  // namespace shardwise::planning
