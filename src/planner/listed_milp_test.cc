// Listed problems too large for brute force, against HiGHS: the same choice written down as a flow
// through (stage, mesh, boundary, layout) with memory, devices and period as side rows.
//
//   minimise   sum of times on arcs + (m - 1) (F + B) + S + overhead
//   flow       one unit from before layer 0 to behind the last; arcs: an option of a layer, a
//              reshard inside a stage, a crossing to the next stage; a binary each
//   memory(s)  sum of (state + k_s activations) + T_s <= memory of the stage's type
//   peak(s, a) T_s >= transient of arc a if used
//   devices(t) sum over stages of devices on type t <= what there is
//   period     F (and B for gpipe) >= what the schedule counts of each stage
//   once(s)    S >= per_step of stage s
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <tuple>

#include "core/errors.h"
#include "planner/listed_problem.h"
#include "planner/milp.h"

namespace shardwise {
namespace {

using planning::Milp;

constexpr int kLayouts = 2;

ListedProblem random_problem(unsigned seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int least, int most) {
    return least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1));
  };
  ListedProblem problem;
  const int layers = pick(7, 16);
  const int types = pick(1, 2);
  for (int type = 0; type < types; ++type) {
    problem.types.push_back({"type", pick(2, 6), Bytes(layers * pick(4, 14))});
    problem.meshes.push_back({type, pick(1, 2), "mesh"});
  }
  const int blocks = pick(1, 3);
  for (int layer = 0; layer < layers; ++layer) {
    problem.layers.push_back(std::min(layer, pick(0, blocks - 1)));
  }
  for (int block = 0; block < blocks; ++block) {
    problem.options.emplace_back(problem.meshes.size());
    for (std::vector<ListedOption>& options : problem.options.back()) {
      for (int count = pick(4, 8); count > 0; --count) {
        ListedOption option;
        option.forward = Picoseconds(pick(4, 40));
        option.backward = Picoseconds(pick(8, 80));
        option.per_step = Picoseconds(pick(0, 30));
        option.state = Bytes(pick(1, 12));
        option.activations = Bytes(pick(0, 6));
        option.transient = Bytes(pick(0, 9));
        option.input = pick(0, kLayouts - 1);
        option.output = pick(0, kLayouts - 1);
        options.push_back(option);
      }
    }
  }
  const auto price = [seed](int a, int b, int c, int d) {
    std::mt19937 own(seed * 977U + static_cast<unsigned>(a + 7 * b + 31 * c + 101 * d));
    return ListedMove{Picoseconds(static_cast<std::int64_t>(own() % 9)),
                      Picoseconds(static_cast<std::int64_t>(own() % 9))};
  };
  problem.reshard = [price](int block, int mesh, int output, int input) {
    return output == input ? ListedMove{} : price(block, mesh, output, input);
  };
  problem.crossing = [price](int block, int sender, int output, int receiver, int input) {
    return price(block + 20, sender + 3 * receiver, output, input);
  };
  problem.num_microbatches = pick(1, 6);
  const Schedule schedules[] = {Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kGpipe};
  problem.schedules = {schedules[pick(0, 2)]};
  problem.min_stages = problem.max_stages = pick(1, 3);
  problem.overhead = Picoseconds(pick(0, 10));
  return problem;
}

class Programme {
 public:
  explicit Programme(const ListedProblem& problem)
      : problem_(problem), stages_(problem.max_stages), m_(problem.num_microbatches) {}

  // Least step time, or nothing: infeasible.
  std::optional<std::int64_t> solve() {
    first_period_ = milp_.add_variable(m_ - 1, 0, Milp::kInfinity, Milp::Domain::kContinuous);
    second_period_ = milp_.add_variable(m_ - 1, 0, Milp::kInfinity, Milp::Domain::kContinuous);
    once_ = milp_.add_variable(1, 0, Milp::kInfinity, Milp::Domain::kContinuous);
    for (int stage = 0; stage < stages_; ++stage) {
      peak_.push_back(milp_.add_variable(0, 0, Milp::kInfinity, Milp::Domain::kContinuous));
    }
    parts_.resize(static_cast<std::size_t>(stages_));
    add_arcs();
    add_flow_rows();
    add_stage_rows();
    add_device_rows();
    const Milp::Result result = milp_.solve(Seconds(300));
    if (result.stop_reason == StopReason::kInfeasible) {
      return std::nullopt;
    }
    EXPECT_EQ(result.stop_reason, StopReason::kOptimal);
    return std::llround(result.objective) + problem_.overhead.count;
  }

 private:
  using Terms = std::vector<Milp::Term>;
  struct StageParts {
    Terms forward;
    Terms backward;
    Terms sent_forward;
    Terms sent_backward;
    Terms once;
    Terms memory;
    std::map<int, Terms> entered;  // by mesh
  };
  enum Side { kBefore, kBehind };  // of a boundary: a layer begins, a layer has ended
  using Node = std::tuple<int, int, int, Side, int>;  // stage, mesh, boundary, side, layout

  int in_flight(int stage) const {
    switch (problem_.schedules[0]) {
      case Schedule::kGpipe:
        return m_;
      case Schedule::k1F1B:
        return std::min(m_, stages_ - stage);
      default:
        return std::min(m_, 2 * (stages_ - stage - 1) + 1);
    }
  }

  int arc(const Node& from, const Node& to, std::int64_t cost) {
    const int variable = milp_.add_binary(static_cast<double>(cost));
    balance_[from].push_back({variable, -1});
    balance_[to].push_back({variable, 1});
    return variable;
  }

  void add_arcs() {
    const int layers = static_cast<int>(problem_.layers.size());
    const int meshes = static_cast<int>(problem_.meshes.size());
    for (int stage = 0; stage < stages_; ++stage) {
      StageParts& parts = parts_[static_cast<std::size_t>(stage)];
      for (int mesh = 0; mesh < meshes; ++mesh) {
        for (int layer = 0; layer < layers; ++layer) {
          const int block = problem_.layers[static_cast<std::size_t>(layer)];
          for (const ListedOption& option :
               problem_.options[static_cast<std::size_t>(block)][static_cast<std::size_t>(mesh)]) {
            const int x = arc({stage, mesh, layer, kBefore, option.input},
                              {stage, mesh, layer + 1, kBehind, option.output},
                              option.forward.count + option.backward.count);
            const auto add = [x](Terms& terms, std::int64_t factor) {
              terms.push_back({x, static_cast<double>(factor)});
            };
            add(parts.forward, option.forward.count);
            add(parts.backward, option.backward.count);
            add(parts.once, option.per_step.count);
            add(parts.memory, option.state.count + in_flight(stage) * option.activations.count);
            milp_.add_row(0,
                          {{peak_[static_cast<std::size_t>(stage)], 1},
                           {x, -static_cast<double>(option.transient.count)}},
                          Milp::kInfinity);
          }
          add_moves(stage, mesh, layer + 1, block);
        }
        if (stage == 0) {
          for (int layout = 0; layout < kLayouts; ++layout) {
            const int begin = milp_.add_binary(0);
            balance_[{0, mesh, 0, kBefore, layout}].push_back({begin, 1});
            source_.push_back({begin, 1});
            parts.entered[mesh].push_back({begin, 1});
          }
        }
        if (stage + 1 == stages_) {
          for (int layout = 0; layout < kLayouts; ++layout) {
            const int end = milp_.add_binary(0);
            balance_[{stage, mesh, layers, kBehind, layout}].push_back({end, -1});
          }
        }
      }
    }
  }

  // Behind a layer of `block`, at boundary `boundary`.
  void add_moves(int stage, int mesh, int boundary, int block) {
    const int layers = static_cast<int>(problem_.layers.size());
    StageParts& parts = parts_[static_cast<std::size_t>(stage)];
    for (int output = 0; boundary < layers && output < kLayouts; ++output) {
      const Node from{stage, mesh, boundary, kBehind, output};
      for (int input = 0; input < kLayouts; ++input) {
        const ListedMove move = *problem_.reshard(block, mesh, output, input);
        const int x = arc(from,
                          {stage, mesh, boundary, kBefore, input},
                          move.forward.count + move.backward.count);
        parts.forward.push_back({x, static_cast<double>(move.forward.count)});
        parts.backward.push_back({x, static_cast<double>(move.backward.count)});
        for (int next = 0; stage + 1 < stages_ && next < static_cast<int>(problem_.meshes.size());
             ++next) {
          const ListedMove sent = *problem_.crossing(block, mesh, output, next, input);
          const int y = arc(from,
                            {stage + 1, next, boundary, kBefore, input},
                            sent.forward.count + sent.backward.count);
          parts.sent_forward.push_back({y, static_cast<double>(sent.forward.count)});
          parts.sent_backward.push_back({y, static_cast<double>(sent.backward.count)});
          parts_[static_cast<std::size_t>(stage) + 1].entered[next].push_back({y, 1});
        }
      }
    }
  }

  void add_flow_rows() {
    milp_.add_row(1, source_, 1);
    for (const auto& [node, terms] : balance_) {
      milp_.add_row(0, terms, 0);
    }
  }

  // variable >= sum of the lists.
  void at_least(int variable, std::initializer_list<const Terms*> lists) {
    Terms row{{variable, 1}};
    for (const Terms* list : lists) {
      for (const Milp::Term& term : *list) {
        row.push_back({term.variable, -term.factor});
      }
    }
    milp_.add_row(0, merged(row), Milp::kInfinity);
  }

  // A variable may stand in a row once.
  static Terms merged(const Terms& terms) {
    std::map<int, double> factors;
    for (const Milp::Term& term : terms) {
      factors[term.variable] += term.factor;
    }
    Terms row;
    for (const auto& [variable, factor] : factors) {
      row.push_back({variable, factor});
    }
    return row;
  }

  void add_stage_rows() {
    for (int stage = 0; stage < stages_; ++stage) {
      const StageParts& parts = parts_[static_cast<std::size_t>(stage)];
      switch (problem_.schedules[0]) {
        case Schedule::k1F1B:
          at_least(first_period_,
                   {&parts.forward, &parts.backward, &parts.sent_forward, &parts.sent_backward});
          break;
        case Schedule::k1F1BEager:
          at_least(first_period_, {&parts.forward, &parts.backward});
          at_least(first_period_, {&parts.sent_forward, &parts.sent_backward});
          break;
        default:
          at_least(first_period_, {&parts.forward});
          at_least(first_period_, {&parts.sent_forward});
          at_least(second_period_, {&parts.backward});
          at_least(second_period_, {&parts.sent_backward});
      }
      at_least(once_, {&parts.once});
      Terms memory = parts.memory;
      memory.push_back({peak_[static_cast<std::size_t>(stage)], 1});
      for (const auto& [mesh, terms] : parts.entered) {
        const int type = problem_.meshes[static_cast<std::size_t>(mesh)].type;
        const auto limit =
            static_cast<double>(problem_.types[static_cast<std::size_t>(type)].memory.count);
        for (const Milp::Term& term : terms) {
          memory.push_back({term.variable, -limit});
        }
      }
      milp_.add_row(-Milp::kInfinity, merged(memory), 0);
    }
  }

  void add_device_rows() {
    for (int type = 0; type < static_cast<int>(problem_.types.size()); ++type) {
      Terms row;
      for (const StageParts& parts : parts_) {
        for (const auto& [mesh, terms] : parts.entered) {
          const ListedMesh& one = problem_.meshes[static_cast<std::size_t>(mesh)];
          for (const Milp::Term& term : terms) {
            if (one.type == type) {
              row.push_back({term.variable, static_cast<double>(one.devices)});
            }
          }
        }
      }
      milp_.add_row(
          -Milp::kInfinity, merged(row), problem_.types[static_cast<std::size_t>(type)].devices);
    }
  }

  const ListedProblem& problem_;
  const int stages_;
  const int m_;
  Milp milp_;
  int first_period_ = 0;
  int second_period_ = 0;
  int once_ = 0;
  std::vector<int> peak_;
  std::vector<StageParts> parts_;
  std::map<Node, Terms> balance_;
  Terms source_;
};

bool has_highs() {
  try {
    Milp milp;
    milp.add_binary(1);
    milp.solve(Seconds(10));
    return true;
  } catch (const InputError&) {
    return false;
  }
}

TEST(ListedPlan, EqualsHighsOnLargerInstances) {
  if (!has_highs()) {
    GTEST_SKIP() << "this build has no HiGHS";
  }
  const int count = std::getenv("SHARDWISE_LONG_TESTS") == nullptr ? 20 : 110;
  int feasible = 0;
  for (int i = 0; i < count; ++i) {
    const auto seed = static_cast<unsigned>(5000 + i);
    SCOPED_TRACE("seed " + std::to_string(seed));
    const ListedProblem problem = random_problem(seed);
    const ListedResult found = find_listed_plan(problem);
    const std::optional<std::int64_t> expected = Programme(problem).solve();
    ASSERT_EQ(found.plan.has_value(), expected.has_value());
    if (expected) {
      ++feasible;
      ASSERT_EQ(found.step_time.count, *expected);
      EXPECT_EQ(found.stop_reason, StopReason::kOptimal);
    }
  }
  std::cout << feasible << " of " << count
            << " instances of 7 to 16 layers and 4 to 8 strategies feasible, all as HiGHS says\n";
  EXPECT_GE(feasible, count / 2);
}

}  // namespace
}  // namespace shardwise
