// How simulate() works: ranks fall into classes (rank_classes.h), one of each is lowered and turned
// into a script (script.h), the ends of messages and collectives are tied to each other (Casting),
// and the scripts run against each other (replay.h).
#include "simulate/simulate.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <tuple>

#include "core/errors.h"
#include "lower/lower.h"
#include "simulate/pass_times.h"
#include "simulate/rank_classes.h"
#include "simulate/replay.h"

namespace shardwise {

namespace {

using internal::Cast;
using internal::Channel;
using internal::InstructionPrices;
using internal::Meeting;
using internal::Message;
using internal::MessageEnd;
using internal::RankClasses;
using internal::Role;
using internal::Script;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr double kMostFactor = 1e6;

void check_options(const SimulationOptions& options, const Plan& plan, int num_devices) {
  for (const Straggler& straggler : options.stragglers) {
    if (!(straggler.factor > 0)) {
      throw InputError("straggler",
                       fmt::format("expected a factor above 0, found {}", straggler.factor));
    }
    if (straggler.rank < 0 || straggler.rank >= num_devices) {
      throw InputError(
          "straggler",
          fmt::format("expected a rank below {}, found {}", num_devices, straggler.rank));
    }
  }
  if (!(options.jitter >= 0 && options.jitter <= 0.5)) {
    throw InputError("jitter", fmt::format("expected 0 to 0.5, found {}", options.jitter));
  }
  const std::vector<double>& factors = options.microbatch_factors;
  if (!factors.empty() && factors.size() != at(plan.num_microbatches)) {
    throw InputError("microbatch-factors",
                     fmt::format("expected one for each of the {} micro-batches, found {}",
                                 plan.num_microbatches,
                                 factors.size()));
  }
  for (const double factor : factors) {
    if (!(factor > 0 && factor <= kMostFactor)) {
      throw InputError(
          "microbatch-factors",
          fmt::format("expected factors above 0, at most {}, found {}", kMostFactor, factor));
    }
  }
}

// Ties scripts together. Messages of classes are matched by who sends them and which they are of
// the sender's; those of single programs by ranks and tag.
class Casting {
 public:
  // `classes` null: every script is its own.
  Casting(const Cluster& cluster, const RankClasses* classes)
      : cluster_(cluster), classes_(classes) {}

  void add(Script script) {
    const int actor = static_cast<int>(cast_.roles.size());
    actor_of_rank_[script.rank] = actor;
    cast_.roles.push_back({std::move(script), {}, {}});
  }

  Cast finish() {
    for (int a = 0; a < static_cast<int>(cast_.roles.size()); ++a) {
      tie_meetings(a);
      tie_messages(a);
    }
    add_node_mixes();
    return std::move(cast_);
  }

 private:
  // The actor that plays a rank, or -1.
  int actor_of(int rank) const {
    if (classes_ != nullptr) {
      return classes_->class_of(rank);
    }
    const auto found = actor_of_rank_.find(rank);
    return found == actor_of_rank_.end() ? -1 : found->second;
  }

  void tie_meetings(int a) {
    Role& role = cast_.roles[at(a)];
    for (const Meeting& meeting : role.script.meetings) {
      std::vector<int> actors;
      if (meeting.channel == Channel::kWorld) {
        for (int other = 0; other < static_cast<int>(cast_.roles.size()); ++other) {
          actors.push_back(other);
        }
      }
      for (const int rank : meeting.members) {
        actors.push_back(actor_of(rank));
      }
      std::sort(actors.begin(), actors.end());
      actors.erase(std::unique(actors.begin(), actors.end()), actors.end());
      const auto [entry, is_new] =
          meetings_.try_emplace({meeting.channel, actors}, static_cast<int>(cast_.meetings.size()));
      if (is_new) {
        cast_.meetings.push_back(std::move(actors));
      }
      role.meetings.push_back(entry->second);
    }
  }

  using Key = std::tuple<int, int, int, int, int>;
  Key key_of(int a, const MessageEnd& end) const {
    const Script& script = cast_.roles[at(a)].script;
    if (classes_ == nullptr) {
      return {end.sends ? script.rank : end.peer,
              end.sends ? end.peer : script.rank,
              end.tag,
              end.kind,
              0};
    }
    const auto [sender, ordinal] =
        end.sends ? std::pair(a, end.ordinal)
                  : classes_->sender_of(script.rank, {end.kind, end.passage}, end.ordinal);
    return {sender, ordinal, end.kind, end.passage, end.microbatch};
  }

  void tie_messages(int a) {
    Role& role = cast_.roles[at(a)];
    for (const MessageEnd& end : role.script.messages) {
      const int peer = actor_of(end.peer);
      if (peer < 0) {
        role.messages.push_back(-1);
        continue;
      }
      const auto [entry, is_new] =
          messages_.try_emplace(key_of(a, end), static_cast<int>(cast_.messages.size()));
      if (is_new) {
        Message& message = cast_.messages.emplace_back();
        message.from = end.sends ? a : peer;
        message.to = end.sends ? peer : a;
        message.level = level_between(cluster_, role.script.rank, end.peer);
        message.bytes = end.bytes;
      }
      role.messages.push_back(entry->second);
    }
  }

  void add_node_mixes() {
    if (classes_ != nullptr) {
      for (int c = 0; c < classes_->count(); ++c) {
        cast_.node_mixes.push_back(classes_->node_mix(c));
      }
      return;
    }
    std::map<int, std::vector<std::pair<int, int>>> on_node;
    const auto node_of = [this](const Role& role) {
      return role.script.rank / internal::node_size(cluster_);
    };
    for (int a = 0; a < static_cast<int>(cast_.roles.size()); ++a) {
      on_node[node_of(cast_.roles[at(a)])].emplace_back(a, 1);
    }
    for (const Role& role : cast_.roles) {
      cast_.node_mixes.push_back(on_node[node_of(role)]);
    }
  }

  const Cluster& cluster_;
  const RankClasses* classes_;
  Cast cast_;
  std::map<int, int> actor_of_rank_;
  std::map<std::pair<Channel, std::vector<int>>, int> meetings_;
  std::map<Key, int> messages_;
};

Simulation run(const Cast& cast,
               const std::vector<int>& alike,
               int ranks,
               InstructionPrices& prices) {
  internal::ReplayResult replayed = internal::replay(cast, prices);
  Simulation result;
  result.deadlock = std::move(replayed.deadlock);
  if (result.deadlock) {
    return result;
  }
  for (std::size_t a = 0; a < cast.roles.size(); ++a) {
    const Script& script = cast.roles[a].script;
    const internal::ActorTimes& times = replayed.times[a];
    RankActivity& rank = result.ranks.emplace_back();
    rank.rank = script.rank;
    rank.stage = script.stage;
    rank.alike = alike[a];
    rank.compute = times.compute;
    rank.task_compute = times.task_compute;
    rank.collectives = times.collectives;
    rank.point_to_point = times.point_to_point;
    rank.reductions = times.reductions;
    rank.first_begin = times.first_begin;
    rank.last_end = times.last_end;
    rank.end = times.end;
    rank.state = script.state;
    rank.peak_memory = script.peak_memory;
    result.makespan = std::max(result.makespan, times.end);
  }
  result.overhead = prices.step_overhead(ranks);
  result.extrapolated = prices.extrapolated();
  result.slices = std::move(replayed.slices);
  result.memory = std::move(replayed.memory);
  std::stable_sort(result.slices.begin(), result.slices.end(), [](const Slice& a, const Slice& b) {
    return std::tie(a.begin, a.rank, a.stream) < std::tie(b.begin, b.rank, b.stream);
  });
  std::stable_sort(
      result.memory.begin(), result.memory.end(), [](const MemorySample& a, const MemorySample& b) {
        return std::tie(a.time, a.rank) < std::tie(b.time, b.rank);
      });
  return result;
}

}  // namespace

double Simulation::bubble_rate() const {
  Picoseconds longest{0};
  Picoseconds busiest{0};
  for (const RankActivity& rank : ranks) {
    longest = std::max(longest, rank.span());
    busiest = std::max(busiest, rank.task_compute);
  }
  return longest.count == 0 ? 0 : (longest - busiest) / longest;
}

Simulation simulate(const Plan& plan,
                    const Graph& graph,
                    const Cluster& cluster,
                    const CostTable& costs,
                    const SimulationOptions& options) {
  SHARDWISE_CHECK(graph.microbatch == plan.microbatch() && graph.sequence == plan.sequence,
                  "the graph is built for the plan's micro-batch");
  check_options(options, plan, cluster.num_devices());
  const RankClasses classes(plan, graph, cluster, options);
  InstructionPrices prices(plan, graph, cluster, costs);
  Casting casting(cluster, &classes);
  std::vector<int> alike;
  std::vector<int> representatives;
  int ranks = 0;
  for (int c = 0; c < classes.count(); ++c) {
    representatives.push_back(classes.representative(c));
    alike.push_back(classes.size(c));
    ranks += classes.size(c);
  }
  std::vector<PassTimes> times = options.pass_times;
  if (times.empty() && traits_of(plan.schedule).splits_backward) {
    times = pass_times(plan, graph, cluster, costs);
  }
  const auto cast = [&](const Program& program) {
    casting.add(internal::make_script(program, prices, options));
  };
  lower_each(plan, graph, representatives, cast, times);
  return run(casting.finish(), alike, ranks, prices);
}

Simulation simulate_programs(std::span<const Program> programs,
                             const Plan& plan,
                             const Graph& graph,
                             const Cluster& cluster,
                             const CostTable& costs,
                             const SimulationOptions& options) {
  check_options(options, plan, cluster.num_devices());
  InstructionPrices prices(plan, graph, cluster, costs);
  Casting casting(cluster, nullptr);
  for (const Program& program : programs) {
    casting.add(internal::make_script(program, prices, options));
  }
  const std::vector<int> alike(programs.size(), 1);
  return run(casting.finish(), alike, static_cast<int>(programs.size()), prices);
}

}  // namespace shardwise
