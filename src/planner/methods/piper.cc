// How it works: a bottleneck is feasible if the downsets can be stacked from the last stage to the
// first so that no stage takes longer. Feasible bottlenecks are found by bisection and then lowered
// until the next lower one is proved infeasible.
#include "planner/methods/piper.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "core/errors.h"
#include "planner/count_knapsack.h"
#include "planner/methods/piper_downsets.h"

namespace shardwise {

namespace {

using planning::CountGroup;
using planning::CountProblem;
using planning::Downset;
using planning::DownsetSpace;

constexpr double kTolerance = 1e-9;      // of a bottleneck, relative
constexpr double kMemoryUnits = 64;      // per byte, to count fractions of bytes as integers
constexpr double kRounding = 1 + 1e-12;  // sums of doubles in two orders
constexpr double kLargestMemory = 1e15;  // bytes
constexpr double kLargestTime = 1e30;    // seconds
constexpr std::size_t kMaxClassesInKey = 16;

// A way to run everything inside a downset.
struct Label {
  int devices = 0;
  int degrees = 0;  // sum of data degrees
  std::int32_t downset = 0;
  std::int32_t below = -1;  // index in labels_of_[downset] of the stages after
  int tensor = 0;           // index into the degrees
  int data = 0;
};

class PiperSearch {
 public:
  explicit PiperSearch(const PiperProblem& problem)
      : problem_(problem), space_(planning::enumerate_downsets(problem)) {
    const int most = std::min(problem.devices, problem.microbatches);
    for (int d = 1; d <= most; ++d) {
      if (problem.microbatches % d == 0) {
        data_degrees_.push_back(d);
      }
    }
    find_classes();
  }

  PiperResult search() {
    PiperResult result;
    result.downsets = space_.downsets.size();
    double lower = space_.downsets.front().work_left / problem_.devices;
    // No stage of any plan takes longer.
    const double largest = largest_stage() * kRounding;
    // From the work bound upwards, for low bottlenecks leave little to try.
    const double least = lower;
    for (double share = 1e-6;; share *= 8) {
      const double wanted = std::min(least * (1 + share), largest);
      if (improve(wanted, result)) {
        break;
      }
      lower = wanted;
      if (wanted >= largest) {
        result.stop_reason = is_exact_ ? StopReason::kInfeasible : StopReason::kLimitReached;
        return result;
      }
    }
    double upper = result.seconds_per_microbatch;
    while (upper > lower * (1 + kTolerance)) {
      const double wanted = std::max((lower + upper) / 2, lower * (1 + kTolerance));
      if (improve(std::min(wanted, upper * (1 - kTolerance / 2)), result)) {
        upper = result.seconds_per_microbatch;
      } else {
        lower = wanted;
      }
    }
    const double work = space_.downsets.front().work_left / problem_.devices;
    result.lower_bound = is_exact_ ? std::min(lower, upper) : work;
    const bool is_proved = result.lower_bound >= upper * (1 - 2 * kTolerance);
    result.stop_reason = is_proved ? StopReason::kOptimal : StopReason::kFeasible;
    return result;
  }

 private:
  struct Pair {
    const Downset& inner;
    const Downset& outer;
  };

  double largest_stage() const {
    double time = 0;
    for (const PiperNode& node : problem_.nodes) {
      double most = 0;
      for (const PiperDegree& degree : node.degrees) {
        for (const PiperImplementation& own : degree.implementations) {
          double bytes = 4 * own.parameter_bytes;
          for (const double sync : own.sync_in_bytes) {
            bytes += 2 * sync;
          }
          for (const double sync : own.sync_out_bytes) {
            bytes += 2 * sync;
          }
          most = std::max(most, own.time_s + bytes / problem_.bandwidth);
        }
      }
      time += most;
    }
    for (const PiperEdge& edge : problem_.edges) {
      time += 4 * edge.bytes / problem_.bandwidth;
    }
    return time;
  }

  // Nodes that cost the same in everything but their edges share a class.
  void find_classes() {
    const auto is_same = [](const PiperNode& a, const PiperNode& b) {
      if (a.degrees.size() != b.degrees.size()) {
        return false;
      }
      for (std::size_t t = 0; t < a.degrees.size(); ++t) {
        const auto& mine = a.degrees[t].implementations;
        const auto& other = b.degrees[t].implementations;
        if (a.degrees[t].tensor != b.degrees[t].tensor || mine.size() != other.size()) {
          return false;
        }
        for (std::size_t k = 0; k < mine.size(); ++k) {
          if (mine[k].time_s != other[k].time_s ||
              mine[k].parameter_bytes != other[k].parameter_bytes ||
              mine[k].memory_slope_bytes != other[k].memory_slope_bytes ||
              mine[k].memory_base_bytes != other[k].memory_base_bytes) {
            return false;
          }
        }
      }
      return true;
    };
    std::vector<std::size_t> first_of;
    for (std::size_t v = 0; v < problem_.nodes.size(); ++v) {
      std::size_t c = 0;
      while (c < first_of.size() && !is_same(problem_.nodes[first_of[c]], problem_.nodes[v])) {
        ++c;
      }
      if (c == first_of.size()) {
        first_of.push_back(v);
      }
      class_of_.push_back(static_cast<int>(c));
    }
    num_classes_ = first_of.size();
  }

  // Finds a plan with a bottleneck of at most `limit`, if there is one.
  bool improve(double limit, PiperResult& result) {
    limit_ = limit;
    labels_of_.assign(space_.downsets.size(), {});
    labels_of_[0].push_back({});
    for (std::size_t x = 0; x + 1 < space_.downsets.size(); ++x) {
      if (!labels_of_[x].empty()) {
        extend(x);
      }
    }
    if (labels_of_.back().empty()) {
      return false;
    }
    PiperPlan plan = plan_of(labels_of_.back().front());
    const PiperEvaluation judged = evaluate_piper(problem_, plan);
    SHARDWISE_CHECK(judged.fits && judged.seconds_per_microbatch <= limit * kRounding,
                    "a plan that is not what its search took it for");
    result.plan = std::move(plan);
    result.seconds_per_microbatch = judged.seconds_per_microbatch;
    return true;
  }

  // All stages that start behind downset `x`.
  void extend(std::size_t x) {
    const Downset& inner = space_.downsets[x];
    int fewest = problem_.devices;
    for (const Label& label : labels_of_[x]) {
      fewest = std::min(fewest, label.devices);
    }
    for (std::size_t y = x + 1; y < space_.downsets.size(); ++y) {
      const Downset& outer = space_.downsets[y];
      const int room = problem_.devices - fewest - devices_for(outer.work_left);
      if (outer.size == inner.size || room < 1 ||
          inner.work_left - outer.work_left > room * limit_ * kRounding ||
          !inner.nodes.is_inside(outer.nodes)) {
        continue;
      }
      for (std::size_t t = 0; t < space_.degrees.size(); ++t) {
        if (inner.sums[t].unsupported == outer.sums[t].unsupported) {
          extend_at_degree(x, y, t, room);
        }
      }
    }
  }

  // No fewer devices do that work within the bottleneck.
  int devices_for(double work) const {
    return static_cast<int>(std::min(1e6, std::ceil(work / limit_ * (1 - 1e-9) - 1e-9)));
  }

  void extend_at_degree(std::size_t x, std::size_t y, std::size_t t, int room) {
    const Pair pair{space_.downsets[x], space_.downsets[y]};
    const int tensor = space_.degrees[t];
    const double least_time = pair.outer.sums[t].least_time - pair.inner.sums[t].least_time;
    bool has_edges = false;
    Edges edges;
    for (const int d : data_degrees_) {
      if (d * tensor > room) {
        break;
      }
      if (least_time > d * limit_ * kRounding) {
        continue;
      }
      if (!has_edges) {
        edges = edges_of(pair, t);
        has_edges = true;
      }
      Stage stage{pair, t, d, edges, nullptr};
      if (least_stage_time(stage) > limit_ * kRounding) {
        continue;
      }
      for (std::size_t l = 0; l < labels_of_[x].size(); ++l) {
        const Label below = labels_of_[x][l];
        Label label;
        label.devices = below.devices + d * tensor;
        label.degrees = below.degrees + d;
        if (label.devices + devices_for(pair.outer.work_left) > problem_.devices ||
            label.degrees > problem_.microbatches || is_beaten(label, labels_of_[y]) ||
            !fits(stage, (label.degrees + d - 1) / d)) {
          continue;
        }
        label.downset = static_cast<std::int32_t>(x);
        label.below = static_cast<std::int32_t>(l);
        label.tensor = static_cast<int>(t);
        label.data = d;
        std::erase_if(labels_of_[y], [&](const Label& other) {
          return label.devices <= other.devices && label.degrees <= other.degrees;
        });
        labels_of_[y].push_back(label);
      }
    }
  }

  static bool is_beaten(const Label& label, const std::vector<Label>& others) {
    return std::any_of(others.begin(), others.end(), [&](const Label& other) {
      return other.devices <= label.devices && other.degrees <= label.degrees;
    });
  }

  // Bytes over the edges of a stage, all with their factor 2: least possible, and with the fastest
  // implementations.
  struct Edges {
    double least = 0;
    double fastest = 0;
  };

  // What is known of the best time of a stage, whatever the bottleneck.
  struct KnownTime {
    double lower = 0;
    double upper = std::numeric_limits<double>::infinity();
  };
  using KnownTimes = std::map<int, KnownTime>;  // by micro-batches in flight

  struct Stage {
    Pair pair;
    std::size_t degree;
    int data;
    Edges edges;
    KnownTimes* times = nullptr;  // what is known of its knapsack
  };

  template <typename Visit>
  void visit_edges(const Pair& pair, Visit&& visit) const {
    for (const int e : pair.outer.edges_in) {
      const int node = problem_.edges[static_cast<std::size_t>(e)].target;
      if (!pair.inner.nodes.has(node)) {
        visit(node, e, problem_.nodes[static_cast<std::size_t>(node)].edges_in, true);
      }
    }
    for (const int e : pair.inner.edges_in) {
      const int node = problem_.edges[static_cast<std::size_t>(e)].source;
      if (pair.outer.nodes.has(node)) {
        visit(node, e, problem_.nodes[static_cast<std::size_t>(node)].edges_out, false);
      }
    }
  }

  // Bytes of edge `e` at `node` with one implementation.
  double edge_bytes(const PiperImplementation& own,
                    int e,
                    const std::vector<int>& edges,
                    bool is_entering) const {
    const auto place =
        static_cast<std::size_t>(std::find(edges.begin(), edges.end(), e) - edges.begin());
    return 2 * (problem_.edges[static_cast<std::size_t>(e)].bytes +
                (is_entering ? own.sync_in_bytes[place] : own.sync_out_bytes[place]));
  }

  Edges edges_of(const Pair& pair, std::size_t t) const {
    Edges total;
    visit_edges(pair, [&](int node, int e, const std::vector<int>& edges, bool is_entering) {
      const auto v = static_cast<std::size_t>(node);
      const auto& choices = *problem_.nodes[v].at_degree(space_.degrees[t]);
      double least = std::numeric_limits<double>::max();
      for (const PiperImplementation& own : choices) {
        least = std::min(least, edge_bytes(own, e, edges, is_entering));
      }
      const auto fastest = static_cast<std::size_t>(space_.fastest[v][t]);
      total.least += least;
      total.fastest += edge_bytes(choices[fastest], e, edges, is_entering);
    });
    return total;
  }

  // Seconds of a parameter byte at data degree d.
  double seconds_per_parameter_byte(int d) const {
    return 4 * (d - 1.0) / d / problem_.microbatches / problem_.bandwidth;
  }

  double least_stage_time(const Stage& stage) const {
    const auto& outer = stage.pair.outer.sums[stage.degree];
    const auto& inner = stage.pair.inner.sums[stage.degree];
    const double d = stage.data;
    return (outer.least_time - inner.least_time) / d + stage.edges.least / d / problem_.bandwidth +
           seconds_per_parameter_byte(stage.data) * (outer.least_bytes - inner.least_bytes);
  }

  // Whether some implementations keep the stage within bottleneck and memory.
  bool fits(Stage& stage, int in_flight) {
    const auto& outer = stage.pair.outer.sums[stage.degree];
    const auto& inner = stage.pair.inner.sums[stage.degree];
    const double d = stage.data;
    const double memory = (outer.slope - inner.slope) * in_flight + (outer.base - inner.base);
    const double time = (outer.least_time - inner.least_time) / d +
                        stage.edges.fastest / d / problem_.bandwidth +
                        seconds_per_parameter_byte(stage.data) * (outer.bytes - inner.bytes);
    constexpr double kSafety = 1 - 1e-9;  // the sums are differences
    if (memory <= problem_.memory_bytes * kSafety && time <= limit_ * kSafety) {
      return true;
    }
    if (stage.times == nullptr) {
      stage.times = &times_of_[key_of(stage)];
    }
    // With fewer in flight a stage is no slower.
    for (const auto& [held, times] : *stage.times) {
      if (held <= in_flight && times.lower > limit_ * kRounding) {
        return false;
      }
      if (held >= in_flight && times.upper <= limit_) {
        return true;
      }
    }
    return choose(stage, in_flight, &(*stage.times)[in_flight]).has_value();
  }

  // Stages of equal keys have equal knapsacks: degrees, nodes by class, bytes of the edges that no
  // implementation changes, and the other edges.
  using StageKey = std::vector<double>;
  StageKey key_of(const Stage& stage) const {
    StageKey key = {static_cast<double>(stage.degree), static_cast<double>(stage.data), 0};
    if (num_classes_ > kMaxClassesInKey) {  // hardly any two stages are alike
      key.push_back(static_cast<double>(&stage.pair.inner - space_.downsets.data()));
      key.push_back(static_cast<double>(&stage.pair.outer - space_.downsets.data()));
      return key;
    }
    key.resize(3 + num_classes_, 0);
    for (std::size_t v = 0; v < problem_.nodes.size(); ++v) {
      const int node = static_cast<int>(v);
      if (stage.pair.outer.nodes.has(node) && !stage.pair.inner.nodes.has(node)) {
        ++key[3 + static_cast<std::size_t>(class_of_[v])];
      }
    }
    const int tensor = space_.degrees[stage.degree];
    visit_edges(stage.pair, [&](int node, int e, const std::vector<int>& edges, bool is_entering) {
      const auto& choices = *problem_.nodes[static_cast<std::size_t>(node)].at_degree(tensor);
      const double bytes = edge_bytes(choices[0], e, edges, is_entering);
      if (std::all_of(choices.begin(), choices.end(), [&](const PiperImplementation& own) {
            return edge_bytes(own, e, edges, is_entering) == bytes;
          })) {
        key[2] += bytes;
      } else {
        key.push_back(is_entering ? e : -1 - e);
      }
    });
    return key;
  }

  struct Choice {
    std::vector<int> nodes;
    std::vector<int> implementations;
  };

  // Implementations that keep the stage within bottleneck and memory, found exactly.
  std::optional<Choice> choose(const Stage& stage, int in_flight, KnownTime* known = nullptr) {
    const int tensor = space_.degrees[stage.degree];
    const double d = stage.data;
    Choice choice;
    std::vector<std::vector<double>> edge_seconds;  // [node of the stage][implementation]
    std::map<int, std::size_t> place_of;
    for (int v = 0; v < static_cast<int>(problem_.nodes.size()); ++v) {
      if (stage.pair.outer.nodes.has(v) && !stage.pair.inner.nodes.has(v)) {
        place_of[v] = choice.nodes.size();
        choice.nodes.push_back(v);
        edge_seconds.emplace_back(
            problem_.nodes[static_cast<std::size_t>(v)].at_degree(tensor)->size(), 0.0);
      }
    }
    visit_edges(stage.pair, [&](int node, int e, const std::vector<int>& edges, bool is_entering) {
      auto& seconds = edge_seconds[place_of.at(node)];
      const auto& choices = *problem_.nodes[static_cast<std::size_t>(node)].at_degree(tensor);
      for (std::size_t k = 0; k < seconds.size(); ++k) {
        seconds[k] += edge_bytes(choices[k], e, edges, is_entering) / d / problem_.bandwidth;
      }
    });
    // Like nodes without a choice at their edges share a group.
    CountProblem knapsack;
    double edges_constant = 0;
    std::map<int, std::size_t> group_of_class;
    std::vector<std::size_t> group_of(choice.nodes.size());
    for (std::size_t i = 0; i < choice.nodes.size(); ++i) {
      const auto v = static_cast<std::size_t>(choice.nodes[i]);
      const double least = *std::min_element(edge_seconds[i].begin(), edge_seconds[i].end());
      edges_constant += least;
      const bool is_plain = std::all_of(edge_seconds[i].begin(),
                                        edge_seconds[i].end(),
                                        [&](double seconds) { return seconds == least; });
      const auto shared = group_of_class.find(class_of_[v]);
      if (is_plain && shared != group_of_class.end()) {
        group_of[i] = shared->second;
        ++knapsack.groups[shared->second].size;
        continue;
      }
      group_of[i] = knapsack.groups.size();
      if (is_plain) {
        group_of_class[class_of_[v]] = group_of[i];
      }
      CountGroup group{1, {}};
      const auto& choices = *problem_.nodes[v].at_degree(tensor);
      for (std::size_t k = 0; k < choices.size(); ++k) {
        const double time = choices[k].time_s / d +
                            seconds_per_parameter_byte(stage.data) * choices[k].parameter_bytes +
                            edge_seconds[i][k] - least;
        const double memory =
            choices[k].memory_slope_bytes * in_flight + choices[k].memory_base_bytes;
        group.options.push_back({time, 0, in_memory_units(memory)});
      }
      knapsack.groups.push_back(std::move(group));
    }
    knapsack.budget = in_memory_units(problem_.memory_bytes);
    knapsack.pieces = {{1, 0, edges_constant}};
    const planning::CountAnswer answer = planning::find_counts_within(knapsack, limit_ * kRounding);
    is_exact_ = is_exact_ && answer.is_proved;
    if (known != nullptr) {
      known->lower = std::max(known->lower, answer.relaxed);
      if (answer.solution) {
        known->upper = std::min(known->upper, answer.solution->value);
      } else if (answer.is_proved) {
        known->lower = std::max(known->lower, std::nextafter(limit_ * kRounding, kLargestTime));
      }
    }
    if (!answer.solution) {
      return std::nullopt;
    }
    auto counts = answer.solution->counts;
    for (std::size_t i = 0; i < choice.nodes.size(); ++i) {
      auto& left = counts[group_of[i]];
      std::size_t k = 0;
      while (left[k] == 0) {
        ++k;
      }
      --left[k];
      choice.implementations.push_back(static_cast<int>(k));
    }
    return choice;
  }

  static std::int64_t in_memory_units(double bytes) {
    return std::llround(std::min(bytes, kLargestMemory) * kMemoryUnits);
  }

  PiperPlan plan_of(const Label& top) {
    PiperPlan plan;
    std::size_t outer = space_.downsets.size() - 1;
    const Label* label = &top;
    while (label->below >= 0) {
      const auto inner = static_cast<std::size_t>(label->downset);
      const Pair pair{space_.downsets[inner], space_.downsets[outer]};
      const auto t = static_cast<std::size_t>(label->tensor);
      const Stage stage{pair, t, label->data, edges_of(pair, t), nullptr};
      const auto choice = choose(stage, (label->degrees + label->data - 1) / label->data);
      SHARDWISE_CHECK(choice.has_value(), "a stage that fitted does not fit");
      plan.stages.push_back(
          {choice->nodes, choice->implementations, space_.degrees[t], label->data});
      outer = inner;
      label = &labels_of_[inner][static_cast<std::size_t>(label->below)];
    }
    return plan;
  }

  const PiperProblem& problem_;
  DownsetSpace space_;
  std::vector<int> data_degrees_;
  std::vector<int> class_of_;
  std::size_t num_classes_ = 0;
  std::map<StageKey, KnownTimes> times_of_;
  std::vector<std::vector<Label>> labels_of_;
  double limit_ = 0;
  bool is_exact_ = true;  // no knapsack was cut short
};

}  // namespace

PiperResult find_piper_plan(const PiperProblem& problem) { return PiperSearch(problem).search(); }

}  // namespace shardwise
