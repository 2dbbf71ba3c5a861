// Skip connections: a boundary that carries several tensors is a layout for each pair of theirs.
// The oracle works on the two tensors themselves.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <limits>
#include <random>

#include "planner/listed_problem.h"

namespace shardwise {
namespace {

constexpr int kLayouts = 2;  // of either tensor

// A chain x_0 -> x_1 -> ...; the result of layer `from` is used again by layer `to`.
struct SkipChain {
  struct Way {
    int input = 0;   // layout of x wanted
    int output = 0;  // layout of x made
    int skip = 0;    // layout of the skip tensor made (from) or wanted (to)
    int time = 0;
    int memory = 0;
  };
  int from = 0;
  int to = 0;
  int num_devices = 1;
  int num_microbatches = 1;
  int memory = 0;
  int held = 0;  // memory of the skip tensor in each layer that only hands it on
  std::vector<std::vector<Way>> ways;         // by layer
  int convert[kLayouts][kLayouts] = {};       // x inside a stage
  int convert_skip[kLayouts][kLayouts] = {};  // skip inside a stage
  int send[kLayouts][kLayouts] = {};          // either between stages

  int num_layers() const { return static_cast<int>(ways.size()); }
  // Whether the skip tensor crosses the boundary behind the layer.
  bool crosses(int layer) const { return layer >= from && layer < to; }
};

SkipChain random_chain(unsigned seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int least, int most) {
    return least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1));
  };
  SkipChain chain;
  const int layers = pick(3, 5);
  chain.from = pick(0, layers - 3);
  chain.to = pick(chain.from + 2, layers - 1);
  chain.num_devices = pick(1, 3);
  chain.num_microbatches = pick(1, 5);
  chain.memory = pick(12, 50);
  chain.held = pick(0, 4);
  for (int layer = 0; layer < layers; ++layer) {
    chain.ways.emplace_back();
    const int count = pick(1, 3);
    for (int i = 0; i < count; ++i) {
      chain.ways.back().push_back({pick(0, 1), pick(0, 1), pick(0, 1), pick(1, 20), pick(0, 12)});
    }
  }
  for (int a = 0; a < kLayouts; ++a) {
    for (int b = 0; b < kLayouts; ++b) {
      chain.convert[a][b] = a == b ? 0 : pick(1, 9);
      chain.convert_skip[a][b] = a == b ? 0 : pick(1, 9);
      chain.send[a][b] = pick(1, 9);
    }
  }
  return chain;
}

// Layout numbers: x + kLayouts * skip; skip 0 where there is none.
ListedProblem listed(const SkipChain& chain) {
  ListedProblem problem;
  problem.types = {{"device", chain.num_devices, Bytes(chain.memory)}};
  problem.meshes = {{0, 1, "one"}};
  problem.num_microbatches = chain.num_microbatches;
  for (int layer = 0; layer < chain.num_layers(); ++layer) {
    std::vector<ListedOption> options;
    for (const SkipChain::Way& way : chain.ways[static_cast<std::size_t>(layer)]) {
      for (int handed = 0; handed < kLayouts; ++handed) {
        const bool hands_on = layer > chain.from && layer < chain.to;
        if (handed > 0 && !hands_on) {
          continue;
        }
        ListedOption option;
        option.forward = Picoseconds(way.time);
        option.state = Bytes(way.memory + (hands_on ? chain.held : 0));
        const int skip_in = hands_on ? handed : layer == chain.to ? way.skip : 0;
        const int skip_out = hands_on ? handed : layer == chain.from ? way.skip : 0;
        option.input = way.input + kLayouts * skip_in;
        option.output = way.output + kLayouts * skip_out;
        options.push_back(option);
      }
    }
    problem.layers.push_back(layer);
    problem.options.push_back({options});
  }
  problem.reshard = [chain](int layer, int, int a, int b) {
    const int x = chain.convert[a % kLayouts][b % kLayouts];
    const int skip = chain.crosses(layer) ? chain.convert_skip[a / kLayouts][b / kLayouts] : 0;
    return ListedMove{Picoseconds(x + skip), Picoseconds(0)};
  };
  problem.crossing = [chain](int layer, int, int a, int, int b) {
    const int x = chain.send[a % kLayouts][b % kLayouts];
    const int skip = chain.crosses(layer) ? chain.send[a / kLayouts][b / kLayouts] : 0;
    return ListedMove{Picoseconds(x + skip), Picoseconds(0)};
  };
  return problem;
}

// Every split, way and layout of the skip tensor in the layers that hand it on.
class SkipBruteForce {
 public:
  explicit SkipBruteForce(const SkipChain& chain) : chain_(chain) {}

  int best() {
    add(0, 0, 0, 0, 0, 0, 0, 0);
    return best_;
  }
  static constexpr int kNone = std::numeric_limits<int>::max();

 private:
  // x, skip: layouts behind the layers so far; time, memory: of the open stage; fill and period: of
  // the stages before it.
  void add(int layer, int stages, int x, int skip, int time, int memory, int fill, int period) {
    if (layer == chain_.num_layers()) {
      const int total = fill + time + (chain_.num_microbatches - 1) * std::max(period, time);
      best_ = std::min(best_, total);
      return;
    }
    const bool hands_on = layer > chain_.from && layer < chain_.to;
    for (const SkipChain::Way& way : chain_.ways[static_cast<std::size_t>(layer)]) {
      for (int handed = 0; handed < (hands_on ? kLayouts : 1); ++handed) {
        const int wanted = hands_on ? handed : way.skip;
        const int behind = layer == chain_.from ? way.skip : hands_on ? handed : 0;
        const int needs = way.memory + (hands_on ? chain_.held : 0);
        const bool has_skip = layer > 0 && chain_.crosses(layer - 1);
        if (layer > 0 && memory + needs <= chain_.memory) {
          const int moved =
              chain_.convert[x][way.input] + (has_skip ? chain_.convert_skip[skip][wanted] : 0);
          add(layer + 1,
              stages,
              way.output,
              behind,
              time + moved + way.time,
              memory + needs,
              fill,
              period);
        }
        if (stages < chain_.num_devices && needs <= chain_.memory) {
          int sent = 0;
          if (layer > 0) {
            sent = chain_.send[x][way.input] + (has_skip ? chain_.send[skip][wanted] : 0);
          }
          add(layer + 1,
              stages + 1,
              way.output,
              behind,
              way.time,
              needs,
              fill + time + sent,
              std::max(period, time + sent));
        }
      }
    }
  }

  const SkipChain& chain_;
  int best_ = kNone;
};

TEST(ListedPlan, EqualsBruteForceOnSkipConnections) {
  int feasible = 0;
  int infeasible = 0;
  for (unsigned seed = 1; seed <= 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const SkipChain chain = random_chain(seed);
    const int best = SkipBruteForce(chain).best();
    const ListedResult found = find_listed_plan(listed(chain));
    ASSERT_EQ(found.plan.has_value(), best != SkipBruteForce::kNone);
    if (found.plan) {
      ++feasible;
      ASSERT_EQ(found.step_time.count, best);
      EXPECT_EQ(found.stop_reason, StopReason::kOptimal);
    } else {
      ++infeasible;
    }
  }
  std::cout << feasible << " feasible and " << infeasible << " infeasible instances\n";
  EXPECT_GE(feasible, 200);
  EXPECT_GE(infeasible, 20);
}

}  // namespace
}  // namespace shardwise
