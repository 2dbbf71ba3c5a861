#include "planner/methods/piper_downsets.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>

#include "core/errors.h"

namespace shardwise::planning {

namespace {

constexpr std::size_t kMaxDownsets = 200'000;

int fastest_of(const std::vector<PiperImplementation>& choices) {
  const auto best =
      std::min_element(choices.begin(), choices.end(), [](const auto& a, const auto& b) {
        return a.time_s < b.time_s;
      });
  return static_cast<int>(best - choices.begin());
}

// What a node adds to the sums of a set at a degree.
void add_node(const PiperNode& node, int degree, int fastest, PiperSums& sums) {
  const auto* choices = node.at_degree(degree);
  if (fastest < 0) {
    ++sums.unsupported;
    return;
  }
  const PiperImplementation& own = (*choices)[static_cast<std::size_t>(fastest)];
  double least = own.parameter_bytes;
  for (const PiperImplementation& choice : *choices) {
    least = std::min(least, choice.parameter_bytes);
  }
  sums.least_time += own.time_s;
  sums.least_bytes += least;
  sums.bytes += own.parameter_bytes;
  sums.slope += own.memory_slope_bytes;
  sums.base += own.memory_base_bytes;
}

double least_work(const PiperNode& node) {
  double least = std::numeric_limits<double>::max();
  for (const PiperDegree& degree : node.degrees) {
    for (const PiperImplementation& choice : degree.implementations) {
      least = std::min(least, degree.tensor * choice.time_s);
    }
  }
  return least;
}

}  // namespace

DownsetSpace enumerate_downsets(const PiperProblem& problem) {
  const int count = static_cast<int>(problem.nodes.size());
  if (count > NodeSet::kMaxNodes) {
    throw InputError(
        "Piper problem",
        fmt::format("expected at most {} nodes, found {}; merge some", NodeSet::kMaxNodes, count));
  }
  DownsetSpace space;
  std::set<int> degrees;
  for (const PiperNode& node : problem.nodes) {
    for (const PiperDegree& degree : node.degrees) {
      degrees.insert(degree.tensor);
    }
  }
  space.degrees.assign(degrees.begin(), degrees.end());
  double all_work = 0;
  for (const PiperNode& node : problem.nodes) {
    space.fastest.emplace_back();
    for (const int degree : space.degrees) {
      const auto* choices = node.at_degree(degree);
      const bool is_known = choices != nullptr && !choices->empty();
      space.fastest.back().push_back(is_known ? fastest_of(*choices) : -1);
    }
    all_work += least_work(node);
  }

  // By size: every downset grows by one node whose successors it holds.
  Downset empty;
  empty.sums.resize(space.degrees.size());
  empty.work_left = all_work;
  space.downsets.push_back(std::move(empty));
  std::size_t from = 0;
  while (from < space.downsets.size()) {
    const std::size_t end = space.downsets.size();
    std::set<NodeSet> seen;
    for (; from < end; ++from) {
      for (int v = 0; v < count; ++v) {
        const PiperNode& node = problem.nodes[static_cast<std::size_t>(v)];
        if (space.downsets[from].nodes.has(v) ||
            !std::all_of(node.edges_out.begin(), node.edges_out.end(), [&](int e) {
              return space.downsets[from].nodes.has(
                  problem.edges[static_cast<std::size_t>(e)].target);
            })) {
          continue;
        }
        Downset grown = space.downsets[from];
        grown.nodes.add(v);
        if (!seen.insert(grown.nodes).second) {
          continue;
        }
        if (space.downsets.size() >= kMaxDownsets) {
          throw InputError("Piper problem",
                           fmt::format("more than {} downsets; merge nodes", kMaxDownsets));
        }
        ++grown.size;
        grown.work_left = std::max(0.0, grown.work_left - least_work(node));
        for (std::size_t t = 0; t < space.degrees.size(); ++t) {
          add_node(
              node, space.degrees[t], space.fastest[static_cast<std::size_t>(v)][t], grown.sums[t]);
        }
        std::erase_if(grown.edges_in, [&](int e) {
          return problem.edges[static_cast<std::size_t>(e)].source == v;
        });
        grown.edges_in.insert(grown.edges_in.end(), node.edges_in.begin(), node.edges_in.end());
        space.downsets.push_back(std::move(grown));
      }
    }
  }
  return space;
}

}  // namespace shardwise::planning
