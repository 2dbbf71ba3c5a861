#include "cost/link_rings.h"

#include <algorithm>
#include <numeric>

#include "core/errors.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr int kMostDevices = 8;
constexpr int kMostSteps = 1'000'000;  // far beyond those of six links a device

// Rings through devices 0 .. k-1, each once: from device 0, the second before the last.
std::vector<std::vector<int>> rings_through(const LinkCounts& links, int k) {
  std::vector<std::vector<int>> rings;
  std::vector<int> order(at(k));
  std::iota(order.begin(), order.end(), 0);
  do {
    bool is_ring = order[1] < order.back();
    for (int i = 0; i < k && is_ring; ++i) {
      is_ring = links[at(order[at(i)])][at(order[at((i + 1) % k)])] > 0;
    }
    if (is_ring) {
      rings.push_back(order);
    }
  } while (std::next_permutation(order.begin() + 1, order.end()));
  return rings;
}

class DisjointRings {
 public:
  DisjointRings(const LinkCounts& links, int k) : left_(links), rings_(rings_through(links, k)) {
    int ends = 0;  // every ring ends twice at each device
    for (int i = 0; i < k; ++i) {
      const auto& row = left_[at(i)];
      const int own = std::accumulate(row.begin(), row.begin() + k, 0);
      ends = i == 0 ? own : std::min(ends, own);
    }
    bound_ = ends / 2;
  }

  int most() {
    extend(0, 0);
    return most_;
  }

 private:
  // A ring twice is allowed while its links last.
  void extend(std::size_t first, int count) {
    most_ = std::max(most_, count);
    for (std::size_t r = first; r < rings_.size() && most_ < bound_ && steps_ > 0; ++r) {
      --steps_;
      if (move(rings_[r], -1)) {
        extend(r, count + 1);
      }
      move(rings_[r], 1);
    }
  }

  // Whether all of the ring's links are left afterwards.
  bool move(const std::vector<int>& ring, int by) {
    bool sound = true;
    for (std::size_t i = 0; i < ring.size(); ++i) {
      const int a = ring[i];
      const int b = ring[(i + 1) % ring.size()];
      left_[at(a)][at(b)] += by;
      left_[at(b)][at(a)] += by;
      sound = sound && left_[at(a)][at(b)] >= 0;
    }
    return sound;
  }

  LinkCounts left_;
  std::vector<std::vector<int>> rings_;
  int bound_ = 0;
  int most_ = 0;
  int steps_ = kMostSteps;
};

bool joined(const LinkCounts& links, int k) {
  std::vector<int> reached{0};
  for (std::size_t i = 0; i < reached.size(); ++i) {
    for (int j = 0; j < k; ++j) {
      const bool is_new = std::find(reached.begin(), reached.end(), j) == reached.end();
      if (is_new && links[at(reached[i])][at(j)] > 0) {
        reached.push_back(j);
      }
    }
  }
  return static_cast<int>(reached.size()) == k;
}

}  // namespace

LinkCounts hybrid_cube_mesh() {
  return {{0, 1, 1, 2, 2, 0, 0, 0},
          {1, 0, 2, 1, 0, 2, 0, 0},
          {1, 2, 0, 2, 0, 0, 1, 0},
          {2, 1, 2, 0, 0, 0, 0, 1},
          {2, 0, 0, 0, 0, 1, 1, 2},
          {0, 2, 0, 0, 1, 0, 2, 1},
          {0, 0, 1, 0, 1, 2, 0, 2},
          {0, 0, 0, 1, 2, 1, 2, 0}};
}

std::vector<double> ring_links(const LinkCounts& links) {
  const int devices = static_cast<int>(links.size());
  SHARDWISE_CHECK(devices <= kMostDevices, "rings are counted exhaustively");
  std::vector<double> result(at(devices) + 1, 0);
  for (int k = 2; k <= devices; ++k) {
    const int rings = k == 2 ? 0 : DisjointRings(links, k).most();
    if (k == 2) {
      result[at(k)] = links[0][1];
    } else if (rings > 0) {
      result[at(k)] = 2 * rings;
    } else if (joined(links, k)) {
      result[at(k)] = 2.0 * (k - 1) / k;
    }
  }
  return result;
}

}  // namespace shardwise
