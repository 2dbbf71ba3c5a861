// Programs of many uniform plans: well formed, free of deadlock, and with the very bytes that the
// cost model charges.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "core/errors.h"
#include "cost/evaluate.h"
#include "cost/fake_table.h"
#include "lower/deadlock.h"
#include "lower/dump.h"
#include "lower/lower.h"
#include "lower/memory.h"
#include "lower/traffic.h"
#include "planner/tiny_models_testing.h"
#include "planner/uniform_layout.h"

namespace shardwise {
namespace {

using testing::tiny_gpt2;
using testing::tiny_graph;
using testing::tiny_llama;
using testing::tiny_mixtral;
using testing::TinyModel;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr std::int64_t kBatch = 16;

struct Case {
  std::string name;
  Graph graph;
  Plan plan;
};

Case make_case(const std::string& model_name,
               TinyModel model,
               const std::string& text,
               Precision precision = Precision::kFloat32) {
  const UniformLayout layout = parse_uniform_layout(text, "test");
  model.microbatch = layout.microbatch();
  Case made{model_name + " " + text, tiny_graph(model), {}};
  made.plan = make_uniform_plan(
      made.graph, layout, kBatch, model.sequence, precision, layout.world(), "test");
  return made;
}

std::vector<Case> dense_cases() {
  std::vector<Case> cases;
  TinyModel odd = tiny_gpt2();
  odd.decoder_layers = 5;
  odd.vocabulary = 51;
  const std::vector<std::pair<std::string, TinyModel>> models = {
      {"gpt2", tiny_gpt2()}, {"odd gpt2", odd}, {"llama", tiny_llama()}};
  const std::vector<std::string> meshes = {"micro=4",
                                           "dp=2 micro=2",
                                           "dp=4",
                                           "tp=2 micro=2",
                                           "tp=4 micro=2",
                                           "tp=2 sp=1 micro=2",
                                           "cp=2 micro=2",
                                           "dp=2 tp=2 sp=1",
                                           "dp=2 tp=2 cp=2"};
  const std::vector<std::string> pipelines = {"",
                                              "pp=2",
                                              "pp=4",
                                              "pp=2 schedule=gpipe",
                                              "pp=3 schedule=1f1b-eager layers=1,2,",
                                              "pp=2 vp=2"};
  const std::vector<std::string> states = {
      "zero=0", "zero=1 recompute=selective", "zero=2", "zero=3 recompute=full", "zero=3"};
  for (const auto& [name, model] : models) {
    for (const std::string& mesh : meshes) {
      for (std::string pipeline : pipelines) {
        if (pipeline.ends_with(",")) {
          pipeline += std::to_string(model.decoder_layers - 3);
        }
        // One state after the other: each meets every mesh and every pipeline.
        const std::string& state = states[cases.size() % states.size()];
        cases.push_back(make_case(name, model, fmt::format("{} {} {}", mesh, pipeline, state)));
      }
    }
  }
  return cases;
}

std::vector<Case> other_cases() {
  std::vector<Case> cases;
  for (const std::string text : {"dp=2 ep=2 micro=2",
                                 "dp=2 ep=2 tp=2 pp=2",
                                 "tp=2 ep=2 micro=2 sp=1",
                                 "dp=4 tp=2 ep=2 zero=2",
                                 "dp=2 tp=2 ep=4 zero=3",
                                 "dp=2 ep=2 cp=2 recompute=full zero=1",
                                 "dp=2 ep=2 recompute=selective zero=2"}) {
    cases.push_back(make_case("mixtral", tiny_mixtral(), text));
  }
  for (const std::string text : {"dp=2 tp=2 pp=2 zero=3 recompute=selective",
                                 "dp=2 pp=2 zero=1",
                                 "tp=2 sp=1 micro=2 zero=2 recompute=selective",
                                 "pp=4 vp=1 schedule=interleaved",
                                 "vp=2 micro=2 dp=2",
                                 "pp=2 vp=3 dp=2 tp=2",
                                 "pp=2 vp=2 dp=2 layers=3,1,1,1"}) {
    TinyModel model = tiny_gpt2();
    model.decoder_layers = 6;
    cases.push_back(make_case("bf16 gpt2", model, text, Precision::kBFloat16));
  }
  return cases;
}

// First stage of one uniform plan, last stage of another with as many micro-batches.
Case mixed_case(const std::string& first, const std::string& last) {
  Case made = make_case("mixed gpt2", tiny_gpt2(), first);
  made.plan.stages[1] = make_case("", tiny_gpt2(), last).plan.stages[1];
  made.name += " | " + last;
  int device = 0;
  for (StagePlan& stage : made.plan.stages) {
    for (int& rank : stage.devices) {
      rank = device++;
    }
  }
  return made;
}

// Chunks of one stage whose boundary changes its layout: copies inside a rank, and messages.
Case relaid_case(bool gathers) {
  Case made = make_case("relaid gpt2", tiny_gpt2(), "tp=2 sp=1 vp=2 micro=2");
  std::vector<ChunkPlan>& chunks = made.plan.stages[0].chunks;
  (gathers ? chunks[1].layers[0].input_layout : chunks[0].output_layout)[1] =
      AxisLayout::replicate();
  made.name += gathers ? " gathers" : " slices";
  return made;
}

std::vector<Case> uneven_cases() {
  return {mixed_case("dp=2 micro=2 pp=2", "tp=2 micro=4 pp=2"),
          mixed_case("dp=4 micro=1 pp=2 zero=2", "tp=2 sp=1 micro=4 pp=2 zero=1"),
          mixed_case("tp=2 dp=2 micro=1 pp=2 layers=3,1", "micro=2 pp=2 layers=3,1"),
          mixed_case("micro=4 pp=2 recompute=full", "cp=2 dp=2 micro=2 pp=2 zero=3"),
          relaid_case(true),
          relaid_case(false)};
}

const std::vector<Case>& all_cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> all;
    for (const auto& some : {dense_cases(), other_cases(), uneven_cases()}) {
      all.insert(all.end(), some.begin(), some.end());
    }
    for (const Case& c : all) {
      SHARDWISE_CHECK(plan_violations(c.plan, c.graph).empty(), c.name);
    }
    return all;
  }();
  return cases;
}

Cluster cluster_of(int devices) {
  Cluster cluster;
  cluster.types = {{.name = "any", .memory = Bytes(std::int64_t{1} << 40)}};
  cluster.groups = {{0, devices}};
  cluster.levels = {{.name = "node", .size = devices}};
  return cluster;
}

int world_of(const Plan& plan) {
  int world = 0;
  for (const StagePlan& stage : plan.stages) {
    world += static_cast<int>(stage.devices.size());
  }
  return world;
}

// What is wrong with the life of the program's buffers, "" if nothing.
std::string buffer_fault(const Program& program) {
  enum class State { kUnborn, kArriving, kAlive, kDead };
  std::vector<State> states(program.buffers.size(), State::kUnborn);
  std::vector<int> arriving(program.buffers.size(), 0);
  std::vector<int> waited(program.transfers.size(), 0);
  for (std::size_t i = 0; i < program.instructions.size(); ++i) {
    const Instruction& instruction = program.instructions[i];
    const auto fault = [&](const std::string& what, BufferId id) {
      return fmt::format("rank {} instruction {}: {} %{}", program.rank, i, what, id);
    };
    for (const BufferId id : instruction.reads) {
      if (states[at(id)] != State::kAlive) {
        return fault("reads", id);
      }
    }
    for (const BufferId id : instruction.writes) {
      if (id < 0) {
        continue;
      }
      const bool receives = instruction.kind == InstructionKind::kPostReceive;
      const bool copies = instruction.kind == InstructionKind::kCopy;
      const bool fits = states[at(id)] == State::kUnborn ||
                        (receives && states[at(id)] != State::kDead) ||
                        (copies && states[at(id)] != State::kDead);
      if (!fits) {
        return fault("writes", id);
      }
      arriving[at(id)] += receives ? 1 : 0;
      states[at(id)] = receives                ? State::kArriving
                       : arriving[at(id)] == 0 ? State::kAlive
                                               : State::kArriving;
    }
    if (instruction.kind == InstructionKind::kWait) {
      const Transfer& transfer = program.transfers[at(instruction.transfer)];
      if (++waited[at(instruction.transfer)] > 1) {
        return fault("waits twice for", transfer.buffer);
      }
      if (!transfer.sends && --arriving[at(transfer.buffer)] == 0) {
        states[at(transfer.buffer)] = State::kAlive;
      }
    }
    const auto& frees = instruction.frees;
    if (instruction.in_place >= 0 &&
        std::find(frees.begin(), frees.end(), instruction.in_place) == frees.end()) {
      return fault("keeps", instruction.in_place);
    }
    for (const BufferId id : frees) {
      if (states[at(id)] != State::kAlive) {
        return fault("frees", id);
      }
      states[at(id)] = State::kDead;
    }
  }
  for (std::size_t id = 0; id < states.size(); ++id) {
    if (states[id] != State::kDead) {
      return fmt::format("rank {}: %{} is never freed", program.rank, id);
    }
  }
  for (std::size_t t = 0; t < waited.size(); ++t) {
    if (waited[t] == 0 && program.transfers[t].peer != program.rank) {
      return fmt::format("rank {}: nobody waits for transfer {}", program.rank, t);
    }
  }
  return "";
}

// (from, to, tag) -> bytes, of sends and of receives.
using Messages = std::map<std::tuple<int, int, int>, std::int64_t>;

std::string message_fault(const std::vector<Program>& programs) {
  Messages sent;
  Messages received;
  for (const Program& program : programs) {
    for (const Transfer& transfer : program.transfers) {
      const int from = transfer.sends ? program.rank : transfer.peer;
      const int to = transfer.sends ? transfer.peer : program.rank;
      Messages& messages = transfer.sends ? sent : received;
      if (!messages.emplace(std::tuple(from, to, transfer.tag), transfer.bytes.count).second) {
        return fmt::format("tag {} from {} to {} is used twice", transfer.tag, from, to);
      }
      const Buffer& buffer = program.buffers[at(transfer.buffer)];
      for (std::size_t d = 0; d < buffer.shape.size(); ++d) {
        if (transfer.box.begin[d] < 0 || transfer.box.end[d] > buffer.shape[d]) {
          return fmt::format("rank {}: a box leaves its buffer", program.rank);
        }
      }
    }
  }
  return sent == received ? "" : "sends and receives differ";
}

TEST(LoweredPrograms, BuffersAreWrittenBeforeTheyAreReadAndFreedOnce) {
  for (const Case& c : all_cases()) {
    for (const Program& program : lower_all(c.plan, c.graph)) {
      ASSERT_EQ(buffer_fault(program), "") << c.name << "\n" << dump(program, c.graph);
    }
  }
}

TEST(LoweredPrograms, EverySendHasItsReceive) {
  for (const Case& c : all_cases()) {
    ASSERT_EQ(message_fault(lower_all(c.plan, c.graph)), "") << c.name;
  }
}

TEST(LoweredPrograms, NoneDeadlocksWithRendezvousSends) {
  for (const Case& c : all_cases()) {
    const std::vector<Program> programs = lower_all(c.plan, c.graph);
    ASSERT_EQ(find_deadlock(programs).value_or(""), "") << c.name;
  }
}

TEST(LoweredPrograms, TrafficIsWhatTheCostModelCharges) {
  const FakeTable costs;
  for (const Case& c : all_cases()) {
    const Evaluation evaluation = evaluate(c.plan, c.graph, cluster_of(world_of(c.plan)), costs);
    for (const Program& program : lower_all(c.plan, c.graph)) {
      const ProgramTraffic counted = traffic_of(program);
      const StageTraffic& charged = evaluation.traffic[at(program.stage)];
      for (std::size_t kind = 0; kind < counted.by_collective.size(); ++kind) {
        ASSERT_EQ(counted.by_collective[kind], charged.by_collective[kind])
            << c.name << ", rank " << program.rank << ", "
            << to_string(static_cast<CollectiveKind>(kind));
      }
      const std::vector<int>& devices = c.plan.stages[at(program.stage)].devices;
      const auto index = std::find(devices.begin(), devices.end(), program.rank) - devices.begin();
      ASSERT_EQ(counted.sends, charged.sends[static_cast<std::size_t>(index)])
          << c.name << ", rank " << program.rank;
      ASSERT_EQ(counted.routed, charged.routed) << c.name;
    }
  }
}

TEST(LoweredPrograms, MemoryIsWhatTheCostModelAllows) {
  const FakeTable costs;
  for (const Case& c : all_cases()) {
    const Evaluation evaluation = evaluate(c.plan, c.graph, cluster_of(world_of(c.plan)), costs);
    for (const Program& program : lower_all(c.plan, c.graph)) {
      const ProgramMemory counted = memory_of(program);
      const StageMemory& charged = evaluation.stage_memory[at(program.stage)];
      ASSERT_EQ(counted.weights, charged.weights) << c.name;
      ASSERT_EQ(counted.gradients, charged.gradients) << c.name;
      ASSERT_EQ(counted.optimizer, charged.optimizer) << c.name;
      // The account adds the most of each part; in the program they need not come together.
      const Bytes kept = charged.activations;
      const Bytes besides = charged.transient + charged.boundary_buffers;
      ASSERT_LE(counted.peak_dynamic, kept + besides) << c.name << ", rank " << program.rank;
      ASSERT_GE(counted.peak_dynamic, kept) << c.name << ", rank " << program.rank;
    }
  }
}

}  // namespace
}  // namespace shardwise
