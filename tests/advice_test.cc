// Figures of the advisor against fresh runs: the changed cluster is written down anew, as a user
// would, and planned by find_plan.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>

#include "advisor/sensitivity.h"
#include "advisor/why.h"
#include "cost/fake_table.h"
#include "io/cluster_file.h"
#include "models/model.h"
#include "planner/target_search.h"
#include "planner/uniform_layout.h"

namespace shardwise {
namespace {

struct Numbers {
  int nodes = 2;
  std::string memory = "400 MB";
  std::string inside = "20 GB/s";
  std::string outside = "2 GB/s";
};

LoadedCluster cluster_of(const Numbers& numbers) {
  return with_costs(parse_cluster_yaml(fmt::format(R"(name: test
device:
  type: small
  memory: {}
  fp32: 10 TFLOP/s
  bf16: 20 TFLOP/s
  memory_bandwidth: 500 GB/s
levels:
  - {{name: link, size: 2, bandwidth: {}, latency: 5 us}}
  - {{name: network, size: {}, bandwidth: {}, latency: 20 us}}
)",
                                                   numbers.memory,
                                                   numbers.inside,
                                                   numbers.nodes,
                                                   numbers.outside),
                                       "test.yaml"),
                    std::nullopt);
}

ModelConfig model() {
  return parse_model_config(
      parse_json(R"({"model_type": "llama", "vocab_size": 2000, "hidden_size": 512,
                     "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8,
                     "num_key_value_heads": 8, "max_position_embeddings": 512})",
                 "config.json"));
}

PlanRequest request_of(const ModelConfig& config) {
  PlanRequest request;
  request.graph = [config](std::int64_t microbatch) {
    return build_graph(config, microbatch, 512);
  };
  request.batch = 4;
  request.microbatch_counts = {2, 4};
  request.schedules = {Schedule::k1F1B, Schedule::kInterleaved, Schedule::kGpipe};
  request.limits.recomputes = {Recompute::kNone, Recompute::kFull};
  request.limits.state_shardings = {StateSharding::kNone, StateSharding::kParameters};
  request.sequence = 512;
  request.free_axes = 1;
  request.runner_ups = RunnerUps::kSkip;
  return request;
}

const CostsOfCluster kModelled = [](const Cluster& cluster) {
  return with_costs(cluster, std::nullopt).costs;
};

// The usual changes of the numbers above, as a user would type them, by name.
Numbers changed(const std::string& name) {
  Numbers numbers;
  if (name == "one more node") {
    numbers.nodes = 3;
  } else if (name == "10 % more memory") {
    numbers.memory = "440 MB";
  } else if (name == "10 % more bandwidth of link") {
    numbers.inside = "22 GB/s";
  } else if (name == "10 % more bandwidth of network") {
    numbers.outside = "2.2 GB/s";
  } else {
    ADD_FAILURE() << "unknown change " << name;
  }
  return numbers;
}

TEST(Sensitivity, EveryFigureIsThatOfAFreshRun) {
  const PlanRequest request = request_of(model());
  const LoadedCluster base = cluster_of({});
  const PlanFinder finders[] = {
      find_plan, [](const PlanRequest& asked, const Cluster& cluster, const CostTable& costs) {
        return find_target_plan(asked, Framework::kMegatron, cluster, costs);
      }};
  for (const PlanFinder& find : finders) {
    const std::vector<Sensitivity> all = find_sensitivity(request, find, base.cluster, kModelled);
    ASSERT_EQ(all.size(), 4U);
    const PlanResult unchanged = find(request, base.cluster, *base.costs);
    for (const Sensitivity& one : all) {
      SCOPED_TRACE(one.change.name);
      const LoadedCluster fresh = cluster_of(changed(one.change.name));
      const PlanResult result = find(request, fresh.cluster, *fresh.costs);
      ASSERT_TRUE(result.plan && one.result.plan);
      EXPECT_EQ(one.result.step_time, result.step_time);
      EXPECT_EQ(*one.result.plan, *result.plan);
      // Of more nodes the modelled table expects longer waits, even for those that stay idle
      // (ModelConstants::per_doubling).
      if (one.change.name != "one more node") {
        EXPECT_LE(one.result.step_time, unchanged.step_time);
      }
    }
  }
}

// Models and clusters of other kinds: tied embeddings, experts; one level, three levels, two types.
struct OtherCluster {
  const char* name;
  std::string yaml;
  std::vector<std::pair<std::string, std::pair<std::string, std::string>>>
      changes;  // name, from, to
};

std::vector<OtherCluster> other_clusters() {
  const std::string device =
      "memory: 300 MB, fp32: 10 TFLOP/s, bf16: 20 TFLOP/s, memory_bandwidth: 500 GB/s";
  const std::pair<std::string, std::string> more_memory{"memory: 300 MB", "memory: 330 MB"};
  return {
      {"one level",
       "name: flat\ndevice: {type: a, " + device + "}\n" +
           "levels: [{name: bus, size: 4, bandwidth: 10 GB/s, latency: 5 us}]\n",
       {{"10 % more memory", more_memory},
        {"10 % more bandwidth of bus", {"bandwidth: 10 GB/s", "bandwidth: 11 GB/s"}}}},
      {"three levels",
       "name: deep\ndevice: {type: a, " + device + "}\n" +
           "levels: [{name: link, size: 2, bandwidth: 20 GB/s, latency: 5 us},"
           " {name: rack, size: 2, bandwidth: 4 GB/s, latency: 10 us},"
           " {name: hall, size: 1, bandwidth: 1 GB/s, latency: 20 us}]\n",
       {{"one more part of hall", {"name: hall, size: 1", "name: hall, size: 2"}},
        {"10 % more memory", more_memory},
        {"10 % more bandwidth of link", {"bandwidth: 20 GB/s", "bandwidth: 22 GB/s"}},
        {"10 % more bandwidth of rack", {"bandwidth: 4 GB/s", "bandwidth: 4.4 GB/s"}}}},
      {"two types",
       "name: mixed\ngroups:\n"
       "  - {count: 2, device: {type: a, " +
           device + "}}\n" +
           "  - {count: 2, device: {type: b, memory: 200 MB, fp32: 5 TFLOP/s, bf16: 10 TFLOP/s, "
           "memory_bandwidth: 300 GB/s}}\n"
           "levels: [{name: link, size: 2, bandwidth: 20 GB/s, latency: 5 us},"
           " {name: network, size: 2, bandwidth: 2 GB/s, latency: 20 us}]\n",
       {{"one more node", {"- {count: 2, device: {type: b", "- {count: 4, device: {type: b"}},
        {"10 % more memory", more_memory},
        {"10 % more bandwidth of link", {"bandwidth: 20 GB/s", "bandwidth: 22 GB/s"}},
        {"10 % more bandwidth of network", {"bandwidth: 2 GB/s", "bandwidth: 2.2 GB/s"}}}},
  };
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t place = text.find(from);
  EXPECT_NE(place, std::string::npos) << from;
  return place == std::string::npos ? text : text.replace(place, from.size(), to);
}

ModelConfig other_model(const char* text) {
  return parse_model_config(parse_json(text, "config.json"));
}

TEST(Sensitivity, EveryFigureIsThatOfAFreshRunOnOtherModelsAndClusters) {
  const ModelConfig models[] = {
      other_model(R"({"model_type": "gpt2", "vocab_size": 1000, "n_positions": 512, "n_embd": 256,
                      "n_layer": 3, "n_head": 4})"),
      other_model(R"({"model_type": "mixtral", "vocab_size": 1000, "hidden_size": 128,
                      "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
                      "num_key_value_heads": 2, "max_position_embeddings": 512,
                      "num_local_experts": 4, "num_experts_per_tok": 2})")};
  for (const ModelConfig& config : models) {
    PlanRequest request = request_of(config);
    request.free_axes = 0;  // proofs within milliseconds
    request.schedules = {Schedule::k1F1B, Schedule::kGpipe};
    for (const OtherCluster& one : other_clusters()) {
      SCOPED_TRACE(one.name);
      const LoadedCluster base =
          with_costs(parse_cluster_yaml(one.yaml, "test.yaml"), std::nullopt);
      const std::vector<Sensitivity> all =
          find_sensitivity(request, find_plan, base.cluster, kModelled);
      ASSERT_EQ(all.size(), one.changes.size());
      for (std::size_t i = 0; i < all.size(); ++i) {
        const auto& [name, text] = one.changes[i];
        SCOPED_TRACE(name);
        EXPECT_EQ(all[i].change.name, name);
        std::string yaml = replaced(one.yaml, text.first, text.second);
        if (std::string(one.name) == "two types") {  // both lines of a change
          if (name == "one more node") {
            yaml = replaced(yaml, "name: network, size: 2", "name: network, size: 3");
          } else if (name == "10 % more memory") {
            yaml = replaced(yaml, "memory: 200 MB", "memory: 220 MB");
          }
        }
        const LoadedCluster fresh = with_costs(parse_cluster_yaml(yaml, "test.yaml"), std::nullopt);
        const PlanResult result = find_plan(request, fresh.cluster, *fresh.costs);
        ASSERT_TRUE(result.plan && all[i].result.plan);
        EXPECT_EQ(all[i].result.step_time, result.step_time);
        EXPECT_EQ(all[i].result.lower_bound, result.lower_bound);
        EXPECT_EQ(*all[i].result.plan, *result.plan);
      }
    }
  }
}

// Less and less of it, until a tenth more changes the plan. The times do not know the network, so
// nothing else can be worth more.
TEST(Sensitivity, MemoryBindsWhereMoreOfItIsWorthMost) {
  PlanRequest request = request_of(model());
  request.free_axes = 0;  // proofs within milliseconds
  auto table = std::make_shared<FakeTable>();
  const CostsOfCluster costs = [&](const Cluster&) { return table; };
  Cluster cluster = cluster_of({}).cluster;
  bool is_bound = false;
  for (int step = 0; step < 20 && !is_bound; ++step) {
    const PlanResult result = find_plan(request, cluster, *table);
    if (!result.plan) {
      break;
    }
    const Evaluation account =
        evaluate(*result.plan, request.graph(result.plan->microbatch()), cluster, *table);
    const BindingConstraint binding =
        find_binding_constraint(find_sensitivity(request, find_plan, cluster, costs), account);
    is_bound = binding.kind == BindingConstraint::Kind::kMemory;
    if (is_bound) {
      EXPECT_GT(binding.gain, 0);
      EXPECT_EQ(binding.change, "10 % more memory");
    }
    Bytes most{0};
    for (const StageMemory& memory : account.stage_memory) {
      most = std::max(most, memory.total());
    }
    cluster.types[0].memory = Bytes(most.count - most.count / 25);
  }
  EXPECT_TRUE(is_bound);
}

TEST(FittingChanges, EachFitsAndLessDoesNot) {
  PlanRequest request = request_of(model());
  request.free_axes = 0;  // proofs within milliseconds
  request.batch = 64;
  request.microbatch_counts = {1, 2};
  request.explanation_limit = Seconds(1e9);
  Numbers numbers;
  numbers.memory = "40 MB";
  numbers.nodes = 1;
  const LoadedCluster tight = cluster_of(numbers);
  PlanRequest asked = request;
  asked.runner_ups = RunnerUps::kFind;
  const PlanResult result = find_plan(asked, tight.cluster, *tight.costs);
  ASSERT_EQ(result.stop_reason, StopReason::kInfeasible);
  ASSERT_TRUE(result.infeasibility);
  const std::vector<FittingChange> changes =
      find_fitting_changes(request, find_plan, tight.cluster, kModelled, result.infeasibility);
  ASSERT_GE(changes.size(), 2U);
  for (const FittingChange& change : changes) {
    SCOPED_TRACE(change.text);
    EXPECT_TRUE(change.is_least);
    EXPECT_TRUE(
        find_plan(change.request, change.cluster, *kModelled(change.cluster)).plan.has_value());
  }
  // Memory: a whole step of the search (1/4096 of the device) less.
  Numbers less = numbers;
  less.memory = fmt::format(
      "{} B", 40'000'000 + result.infeasibility->extra_memory.count - 40'000'000 / 4096 - 1);
  EXPECT_FALSE(find_plan(request, cluster_of(less).cluster, *cluster_of(less).costs).plan);
  // Nodes: as many as it says, typed anew, and one fewer.
  int nodes = 0;
  for (const FittingChange& change : changes) {
    if (change.text.find("more node") != std::string::npos) {
      nodes = std::atoi(change.text.c_str());
    }
  }
  ASSERT_GT(nodes, 0);
  Numbers more = numbers;
  more.nodes = 1 + nodes;
  EXPECT_TRUE(find_plan(request, cluster_of(more).cluster, *cluster_of(more).costs).plan);
  more.nodes = nodes;
  EXPECT_FALSE(find_plan(request, cluster_of(more).cluster, *cluster_of(more).costs).plan);
}

// A cluster too small for the request, on which something fits with more memory or more nodes.
struct TightCase {
  Numbers numbers;
  std::int64_t memory = 0;  // bytes of a device: numbers.memory
  PlanRequest request;
};

TightCase random_tight_case(unsigned seed) {
  std::mt19937 random(seed);
  const auto pick = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  const ModelConfig configs[] = {
      model(),
      other_model(R"({"model_type": "gpt2", "vocab_size": 1000, "n_positions": 512, "n_embd": 256,
                      "n_layer": 3, "n_head": 4})"),
      other_model(R"({"model_type": "mixtral", "vocab_size": 1000, "hidden_size": 128,
                      "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
                      "num_key_value_heads": 2, "max_position_embeddings": 512,
                      "num_local_experts": 4, "num_experts_per_tok": 2})")};
  TightCase tight;
  const int which = pick(0, 2);
  tight.request = request_of(configs[which]);
  tight.request.free_axes = 0;  // proofs within milliseconds
  tight.request.batch = 8 << pick(0, 2);
  tight.request.microbatch_counts = {1, 2};
  tight.request.schedules = {pick(0, 1) == 0 ? Schedule::k1F1B : Schedule::kGpipe};
  tight.request.precision = pick(0, 1) == 0 ? Precision::kFloat32 : Precision::kBFloat16;
  if (pick(0, 2) == 0) {
    tight.request.constraints = {
        parse_constraint(Constraint::Polarity::kPin, "layer.*: recompute=none", "test")};
  }
  constexpr int kMegabytes[] = {40, 15, 15};
  tight.memory = 100'000 * kMegabytes[which] * pick(7, 15);
  tight.numbers.memory = fmt::format("{} B", tight.memory);
  tight.numbers.nodes = pick(1, 2);
  return tight;
}

bool has_plan(const PlanRequest& request, const Numbers& numbers) {
  const LoadedCluster loaded = cluster_of(numbers);
  return find_plan(request, loaded.cluster, *loaded.costs).plan.has_value();
}

// Does what the text says, as a user would, and then a little less of it.
TEST(FittingChanges, WhatTheTextSaysIsEnoughAndLessIsNotOnRandomCases) {
  int infeasible = 0;
  int by_memory = 0;
  int by_nodes = 0;
  int by_precision = 0;
  for (unsigned seed = 0; seed < 24; ++seed) {
    SCOPED_TRACE(seed);
    const TightCase tight = random_tight_case(seed);
    const LoadedCluster small = cluster_of(tight.numbers);
    PlanRequest asked = tight.request;
    asked.runner_ups = RunnerUps::kFind;
    const PlanResult result = find_plan(asked, small.cluster, *small.costs);
    if (result.stop_reason != StopReason::kInfeasible) {
      continue;
    }
    ++infeasible;
    for (const FittingChange& change : find_fitting_changes(
             tight.request, find_plan, small.cluster, kModelled, result.infeasibility)) {
      SCOPED_TRACE(change.text);
      Numbers enough = tight.numbers;
      Numbers less = tight.numbers;
      PlanRequest request = tight.request;
      bool has_less = change.is_least;
      if (change.text.find(" more memory") != std::string::npos) {
        ++by_memory;
        const std::int64_t more = std::atoll(change.text.c_str() + change.text.find('(') + 1);
        ASSERT_GT(more, 0);
        enough.memory = fmt::format("{} B", tight.memory + more);
        less.memory = fmt::format("{} B", tight.memory + more - tight.memory / 4096 - 1);
      } else if (change.text.find("more node") != std::string::npos) {
        ++by_nodes;
        const int nodes = std::atoi(change.text.c_str());
        enough.nodes += nodes;
        less.nodes += nodes - 1;
      } else {
        ++by_precision;
        ASSERT_EQ(change.text, "bf16 instead of fp32");
        request.precision = Precision::kBFloat16;
        has_less = false;
      }
      EXPECT_TRUE(has_plan(request, enough));
      EXPECT_TRUE(!has_less || !has_plan(request, less));
    }
  }
  EXPECT_GE(infeasible, 12);
  EXPECT_GE(by_memory, 10);
  EXPECT_GE(by_nodes, 5);
  EXPECT_GE(by_precision, 1);
}

TEST(Why, TermsSumToTheStepAndPartsToTheMemory) {
  const PlanRequest request = request_of(model());
  const LoadedCluster base = cluster_of({});
  const PlanResult best = find_plan(request, base.cluster, *base.costs);
  ASSERT_TRUE(best.plan);
  const Evaluation best_account =
      evaluate(*best.plan, request.graph(best.plan->microbatch()), base.cluster, *base.costs);
  for (const char* text : {"dp=4",
                           "tp=2 dp=2 zero=3",
                           "tp=2 pp=2 micro=2 sp=1 zero=3",
                           "pp=4 schedule=gpipe",
                           "pp=2 dp=2 schedule=gpipe recompute=full",
                           "pp=2 vp=2 dp=2 zero=3"}) {
    SCOPED_TRACE(text);
    const UniformLayout layout = parse_uniform_layout(text, "test");
    const Plan plan = make_uniform_plan(
        request.graph, layout, 4, 512, Precision::kFloat32, layout.world(), "test");
    const Evaluation account =
        evaluate(plan, request.graph(plan.microbatch()), base.cluster, *base.costs);
    const std::vector<TermPair> terms = compare_terms(*best.plan, best_account, plan, account);
    Picoseconds best_sum{0};
    Picoseconds own_sum{0};
    for (const TermPair& term : terms) {
      best_sum += term.best;
      own_sum += term.other;
    }
    EXPECT_EQ(best_sum, best_account.step_time);
    EXPECT_EQ(own_sum, account.step_time);
    const std::vector<MemoryPair> parts = compare_memory(best_account, account);
    Bytes sum{0};
    for (std::size_t i = 0; i + 2 < parts.size(); ++i) {
      sum += parts[i].other;
    }
    EXPECT_EQ(sum, parts[parts.size() - 2].other);
    EXPECT_GE(account.step_time, best.step_time);  // the layout lies in the space
  }
}

}  // namespace
}  // namespace shardwise
