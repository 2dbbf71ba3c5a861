// Plans for other frameworks against every uniform layout that the framework can express, one after
// the other. What a framework can express is spelled out here a second time.
#include "planner/target_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <iostream>
#include <random>

#include "core/errors.h"
#include "cost/evaluator.h"
#include "planner/random_table_testing.h"
#include "planner/tiny_models_testing.h"
#include "planner/uniform_layout.h"

namespace shardwise {
namespace {

using testing::TinyModel;

struct Instance {
  TinyModel model;
  PlanRequest request;
  Cluster cluster;
  testing::RandomTable table;

  explicit Instance(unsigned seed) : table(seed), random(seed) {
    model.decoder_layers = pick(1, 4);
    model.sequence = 8;
    model.vocabulary = 8;
    model.width = 8;
    model.ffn = 8;
    model.head_size = 2;
    model.kv_heads = pick(0, 1) == 0 ? 4 : 2;
    model.queries = model.kv_heads == 4 ? 1 : 2;
    model.gated = pick(0, 1) == 0;
    model.tied = pick(0, 2) == 0;
    model.experts = pick(0, 3) == 0 ? 2 : 0;
    const TinyModel shape = model;
    request.graph = [shape](std::int64_t microbatch) {
      TinyModel one = shape;
      one.microbatch = microbatch;
      return testing::tiny_graph(one);
    };
    request.batch = pick(0, 1) == 0 ? 4 : 2;
    request.sequence = model.sequence;
    cluster.name = "random";
    DeviceType type;
    type.name = "device";
    type.memory = Bytes(pick(0, 1) == 0 ? pick(7000, 40000) : 10'000'000);
    cluster.types = {type};
    // With experts few devices: partial expert degrees have no uniform layout.
    cluster.groups = {{0, model.experts > 0 ? pick(2, 3) : pick(2, 8)}};
    cluster.levels = {{"node", 4, BytesPerSecond(1), Seconds(0)},
                      {"network", 2, BytesPerSecond(1), Seconds(0)}};
    request.limits.stage_sizes = SpaceLimits::StageSizes::kAll;
    request.runner_ups = RunnerUps::kSkip;
  }

  int pick(int least, int most) {
    return least + static_cast<int>(random() % static_cast<unsigned>(most - least + 1));
  }

 private:
  std::mt19937 random;
};

// Section by section what the frameworks' documentation says.
bool can_express(Framework target, const UniformLayout& layout, const TinyModel& model) {
  const bool has_pipeline = layout.pipeline > 1;
  const bool has_tensor = layout.tensor > 1;
  const int replicas = layout.data * layout.context;
  const bool repeats_heads = model.kv_heads % layout.tensor != 0;
  if ((layout.zero > 0 && replicas == 1) || layout.recompute == Recompute::kSelective) {
    return false;
  }
  switch (target) {
    case Framework::kMegatron:
      return (!has_pipeline || layout.schedule == Schedule::k1F1B ||
              layout.schedule == Schedule::kInterleaved) &&
             !(layout.expert > 1 && has_tensor && !layout.sequence_parallel) &&
             (!repeats_heads || layout.tensor % model.kv_heads == 0);
    case Framework::kTorchtitan: {
      const int shards = (layout.zero > 1 ? layout.data : 1) * layout.context * layout.tensor;
      return (!has_pipeline || layout.schedule != Schedule::k1F1BEager) && layout.zero != 1 &&
             (layout.context == 1 || layout.zero > 1) &&
             (!has_tensor || layout.sequence_parallel) && !repeats_heads &&
             shards % layout.expert == 0;
    }
    case Framework::kDeepspeed:
      return !has_pipeline && layout.context == 1 && !layout.sequence_parallel &&
             !(has_tensor && layout.expert > 1) && layout.recompute == Recompute::kNone &&
             !repeats_heads;
    case Framework::kAccelerate:
      return !has_pipeline && layout.expert == 1 && !layout.sequence_parallel &&
             (layout.zero == 0 || layout.zero == 3) && !repeats_heads &&
             (layout.recompute == Recompute::kNone || layout.zero == 3) &&
             ((!has_tensor && layout.context == 1) || (layout.zero == 3 && layout.data > 1));
  }
  return false;
}

class Oracle {
 public:
  Oracle(Instance& instance, Framework target) : instance_(instance), target_(target) {}

  std::optional<Picoseconds> best() {
    for (int count = 1; count <= instance_.request.batch; ++count) {
      if (instance_.request.batch % count == 0) {
        graph_ = instance_.request.graph(instance_.request.batch / count);
        evaluator_ = std::make_unique<Evaluator>(graph_, instance_.cluster, instance_.table);
        try_degrees();
      }
    }
    return best_;
  }

 private:
  void try_degrees() {
    const int devices = instance_.cluster.num_devices();
    UniformLayout layout;
    for (layout.tensor = 1; layout.tensor <= devices; ++layout.tensor) {
      for (layout.context = 1; layout.context <= devices; ++layout.context) {
        for (layout.data = 1; layout.data <= devices; ++layout.data) {
          for (layout.pipeline = 1; layout.world() <= devices; ++layout.pipeline) {
            for (const int expert : {1, layout.data, layout.tensor, layout.data * layout.tensor}) {
              layout.expert = expert;
              if (graph_.microbatch % layout.data == 0) {
                layout.micro = graph_.microbatch / layout.data;
                try_modes(layout);
              }
            }
          }
        }
      }
    }
  }

  void try_modes(UniformLayout layout) {
    for (layout.zero = 0; layout.zero < 4; ++layout.zero) {
      for (const Recompute recompute : {Recompute::kNone, Recompute::kFull}) {
        for (const bool sequence_parallel : {false, true}) {
          layout.recompute = recompute;
          layout.sequence_parallel = sequence_parallel;
          if (sequence_parallel && layout.tensor == 1) {
            continue;
          }
          for (const Schedule schedule :
               {Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kGpipe}) {
            layout.schedule = schedule;
            layout.chunks = 1;
            if (can_express(target_, layout, instance_.model)) {
              try_splits(layout, instance_.model.decoder_layers);
            }
          }
          layout.schedule = Schedule::kInterleaved;
          for (layout.chunks = 2; layout.chunks <= instance_.model.decoder_layers;
               ++layout.chunks) {
            if (layout.pipeline > 1 && instance_.model.decoder_layers % layout.chunks == 0 &&
                can_express(target_, layout, instance_.model)) {
              try_splits(layout, instance_.model.decoder_layers / layout.chunks);
            }
          }
        }
      }
    }
  }

  // Every way to deal the decoders of one chunk to the stages.
  void try_splits(const UniformLayout& layout, int decoders) {
    std::vector<int> split;
    const std::function<void(int)> deal = [&](int left) {
      if (static_cast<int>(split.size()) == layout.pipeline) {
        if (left == 0) {
          UniformLayout one = layout;
          for (int chunk = 0; chunk < layout.chunks; ++chunk) {
            one.layers.insert(one.layers.end(), split.begin(), split.end());
          }
          judge(one);
        }
        return;
      }
      const bool is_inside =
          layout.chunks > 1 ||
          (!split.empty() && static_cast<int>(split.size()) + 1 < layout.pipeline);
      for (int count = is_inside ? 1 : 0; count <= left; ++count) {
        split.push_back(count);
        deal(left - count);
        split.pop_back();
      }
    };
    deal(decoders);
  }

  void judge(const UniformLayout& layout) {
    Plan plan;
    try {
      plan = make_uniform_plan(graph_,
                               layout,
                               instance_.request.batch,
                               instance_.request.sequence,
                               Precision::kFloat32,
                               layout.world(),
                               "oracle");
    } catch (const InputError&) {
      return;  // does not fit the model
    }
    plan.stages.front().chunks.front().layers.front().recompute = Recompute::kNone;
    plan.stages.back().chunks.back().layers.back().recompute = Recompute::kNone;
    // A stage stands right before the later ones, or where it straddles nodes as little as it can.
    const int devices = instance_.cluster.num_devices();
    for (int end = devices; end >= layout.world(); --end) {
      Plan moved = plan;
      for (StagePlan& stage : moved.stages) {
        for (int& device : stage.devices) {
          device += end - layout.world();
        }
      }
      if (!may_stand(moved)) {
        continue;
      }
      const Evaluation evaluation = evaluator_->evaluate(moved);
      if (evaluation.fits() && (!best_ || evaluation.step_time < *best_)) {
        best_ = evaluation.step_time;
      }
    }
  }

  bool may_stand(const Plan& plan) const {
    const auto nodes = [](int start, int size) { return (start + size - 1) / 4 - start / 4 + 1; };
    int free_end = instance_.cluster.num_devices();
    for (auto stage = plan.stages.rbegin(); stage != plan.stages.rend(); ++stage) {
      const int size = static_cast<int>(stage->devices.size());
      const int start = stage->devices.front();
      const int fewest = (size + 3) / 4;
      if (start != free_end - size) {
        // Only the nearest such place, and only if the one right before straddles.
        if (nodes(free_end - size, size) == fewest || nodes(start, size) != fewest) {
          return false;
        }
        for (int nearer = start + 1; nearer < free_end - size; ++nearer) {
          if (nodes(nearer, size) == fewest) {
            return false;
          }
        }
      }
      free_end = start;
    }
    return true;
  }

  Instance& instance_;
  const Framework target_;
  Graph graph_;
  std::unique_ptr<Evaluator> evaluator_;
  std::optional<Picoseconds> best_;
};

TEST(TargetPlan, EqualsBruteForceOverWhatTheFrameworkCanExpress) {
  constexpr int kCount = 70;
  for (const Framework target : all_frameworks()) {
    int feasible = 0;
    for (int i = 0; i < kCount; ++i) {
      const auto seed = static_cast<unsigned>(1000 + i);
      SCOPED_TRACE(to_string(target) + ", seed " + std::to_string(seed));
      Instance instance(seed);
      const std::optional<Picoseconds> best = Oracle(instance, target).best();
      const PlanResult result =
          find_target_plan(instance.request, target, instance.cluster, instance.table);
      ASSERT_EQ(result.plan.has_value(), best.has_value());
      if (!best) {
        EXPECT_EQ(result.stop_reason, StopReason::kInfeasible);
        continue;
      }
      ++feasible;
      ASSERT_EQ(result.step_time.count, best->count);
      EXPECT_EQ(result.stop_reason, StopReason::kOptimal);
      const Graph graph = instance.request.graph(result.plan->microbatch());
      EXPECT_EQ(framework_refusal(target, describe_for_frameworks(*result.plan, graph, "plan")),
                "");
    }
    std::cout << to_string(target) << ": " << feasible << " of " << kCount
              << " instances feasible, all equal to brute force\n";
    EXPECT_GE(feasible, 50);
  }
}

TEST(TargetPlan, KeepsConstraintsAndLimits) {
  for (unsigned seed = 0; seed < 20; ++seed) {
    Instance instance(seed);
    instance.request.constraints = {
        parse_constraint(Constraint::Polarity::kForbid, "layer.0: cut=before", "test"),
        parse_constraint(Constraint::Polarity::kPin, "layer.*: recompute=full", "test")};
    instance.request.schedules = {Schedule::k1F1B};
    const PlanResult result =
        find_target_plan(instance.request, Framework::kMegatron, instance.cluster, instance.table);
    if (result.plan) {
      EXPECT_EQ(constraint_violations(instance.request.constraints,
                                      *result.plan,
                                      instance.request.graph(result.plan->microbatch())),
                std::vector<std::string>());
    }
  }
}

TEST(TargetPlan, CostsNoLessThanTheFreeOptimum) {
  for (unsigned seed = 0; seed < 3; ++seed) {
    Instance instance(seed);
    instance.cluster.groups = {{0, 2}};
    instance.request.free_axes = 1;
    instance.request.microbatch_counts = {1};
    instance.request.schedules = {Schedule::k1F1B};
    instance.request.limits.state_shardings = {StateSharding::kNone};
    instance.request.limits.recomputes = {Recompute::kNone};
    const PlanResult free = find_plan(instance.request, instance.cluster, instance.table);
    const PlanResult result =
        find_target_plan(instance.request, Framework::kMegatron, instance.cluster, instance.table);
    if (result.plan) {
      EXPECT_LE(free.step_time, result.step_time);
    }
  }
}

TEST(TargetPlan, ModelsWithoutWordsAreRefused) {
  Instance instance(1);
  const GraphBuilder whole = instance.request.graph;
  instance.request.graph = [whole](std::int64_t microbatch) {
    Graph graph = whole(microbatch);
    graph.layers.back().name = "classifier";
    return graph;
  };
  EXPECT_THROW(
      find_target_plan(instance.request, Framework::kMegatron, instance.cluster, instance.table),
      InputError);
}

}  // namespace
}  // namespace shardwise
