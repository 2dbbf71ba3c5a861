// Facts of single lowered programs, by hand on small models.
#include "lower/lower.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "lower/deadlock.h"
#include "lower/dump.h"
#include "lower/traffic.h"
#include "planner/tiny_models_testing.h"
#include "planner/uniform_layout.h"

namespace shardwise {
namespace {

using ::testing::HasSubstr;
using testing::tiny_gpt2;
using testing::tiny_graph;
using testing::tiny_llama;
using testing::TinyModel;

std::size_t at(int index) { return static_cast<std::size_t>(index); }
std::size_t at(CollectiveKind kind) { return static_cast<std::size_t>(kind); }

struct Lowered {
  Graph graph;
  Plan plan;
  std::vector<Program> programs;
};

Lowered lower_text(TinyModel model, const std::string& text, std::int64_t batch = 8) {
  const UniformLayout layout = parse_uniform_layout(text, "test");
  model.microbatch = layout.microbatch();
  Lowered lowered{tiny_graph(model), {}, {}};
  lowered.plan = make_uniform_plan(
      lowered.graph, layout, batch, model.sequence, Precision::kFloat32, layout.world(), "test");
  lowered.programs = lower_all(lowered.plan, lowered.graph);
  return lowered;
}

TinyModel untied_gpt2() {
  TinyModel model = tiny_gpt2();
  model.tied = false;
  model.vocabulary = 48;
  return model;
}

int count(const Program& program, InstructionKind kind) {
  return static_cast<int>(
      std::count_if(program.instructions.begin(),
                    program.instructions.end(),
                    [kind](const Instruction& instruction) { return instruction.kind == kind; }));
}

TEST(LowerTraffic, MegatronsBlocksByHand) {
  // tp 2, one micro-batch [8 16], width 32: a tensor [8 16 32] is 4096 elements, 16384 bytes, an
  // all-reduce of it 32768. Forward: one after the embedding, two for each of 4 blocks. Backward:
  // two for each block, one for the head's input. The loss gathers 3 fp32 numbers for each of 128
  // tokens from 2 ranks.
  const Lowered lowered = lower_text(untied_gpt2(), "tp=2 micro=8");
  for (const Program& program : lowered.programs) {
    const ProgramTraffic traffic = traffic_of(program);
    EXPECT_EQ(traffic.by_collective[at(CollectiveKind::kAllReduce)], 32768 * (1 + 8 + 8 + 1));
    EXPECT_EQ(traffic.by_collective[at(CollectiveKind::kAllGather)], 2 * 3 * 128 * 4);
    EXPECT_EQ(traffic.sends, 0);
  }
}

TEST(LowerTraffic, DataParallelReducesEveryParameterOnce) {
  // 2 x 4 bytes for every parameter, whatever the number of micro-batches.
  const Lowered lowered = lower_text(untied_gpt2(), "dp=2");
  const ProgramTraffic traffic = traffic_of(lowered.programs[1]);
  EXPECT_EQ(traffic.by_collective[at(CollectiveKind::kAllReduce)],
            2 * 4 * parameter_count(lowered.graph));
}

TEST(LowerTraffic, PipelineSendsOneTensorEachWayPerMicrobatch) {
  // 8 micro-batches, [1 16 32] fp32 = 2048 bytes. The last stage sends gradients only.
  const Lowered lowered = lower_text(untied_gpt2(), "pp=3");
  EXPECT_EQ(traffic_of(lowered.programs[0]).sends, 8 * 2048);
  EXPECT_EQ(traffic_of(lowered.programs[1]).sends, 2 * 8 * 2048);
  EXPECT_EQ(traffic_of(lowered.programs[2]).sends, 8 * 2048);
}

TEST(LowerTied, OnOneStageBothUsesAreOneParameter) {
  const Lowered lowered = lower_text(tiny_gpt2(), "dp=2");
  const Program& program = lowered.programs[0];
  const LocalParameter& table = program.parameters[0];
  EXPECT_EQ(table.name, "embedding.weight");
  ASSERT_EQ(table.uses.size(), 2U);
  EXPECT_EQ(table.uses[1].layer, 5);  // head
  EXPECT_TRUE(program.tied.empty());
  EXPECT_TRUE(std::none_of(program.parameters.begin(),
                           program.parameters.end(),
                           [](const LocalParameter& p) { return p.name == "head.weight"; }));
}

TEST(LowerTied, AcrossStagesGradientGoesToTheOwnerAndValuesComeBack) {
  // Table [50 32], fp32: 6400 bytes.
  const Lowered lowered = lower_text(tiny_gpt2(), "pp=2");
  const TiedExchange& owner = lowered.programs[0].tied.at(0);
  const TiedExchange& alias = lowered.programs[1].tied.at(0);
  EXPECT_GE(owner.owner_parameter, 0);
  EXPECT_EQ(owner.alias_parameter, -1);
  ASSERT_EQ(owner.gradient_messages.size(), 1U);
  EXPECT_FALSE(owner.gradient_messages[0].sends);
  EXPECT_TRUE(owner.parameter_messages[0].sends);
  ASSERT_EQ(alias.gradient_messages.size(), 1U);
  EXPECT_TRUE(alias.gradient_messages[0].sends);
  EXPECT_EQ(alias.gradient_messages[0].bytes, Bytes(6400));
  EXPECT_EQ(alias.gradient_messages[0].tag, owner.gradient_messages[0].tag);
  const LocalParameter& copy = lowered.programs[1].parameters[at(alias.alias_parameter)];
  EXPECT_FALSE(copy.has_optimizer_state());
  EXPECT_FALSE(copy.counts_in_norm);
}

TEST(LowerNorm, EveryParameterElementCountsOnce) {
  for (const char* text : {"dp=2",
                           "dp=2 zero=1",
                           "dp=2 tp=2 zero=2",
                           "tp=4",
                           "dp=2 tp=2 cp=2 zero=3",
                           "pp=2 tp=2 sp=1",
                           "dp=4 pp=2 zero=3"}) {
    for (TinyModel model : {tiny_gpt2(), tiny_llama()}) {
      model.vocabulary = 48;  // no padding
      const Lowered lowered = lower_text(model, text);
      std::int64_t counted = 0;
      for (const Program& program : lowered.programs) {
        for (const LocalParameter& p : program.parameters) {
          const std::int64_t begin =
              p.state_sharding == StateSharding::kNone ? 0 : p.index_in_group * p.chunk;
          const std::int64_t end = p.state_sharding == StateSharding::kNone
                                       ? p.elements
                                       : std::min(begin + p.chunk, p.elements);
          counted += p.counts_in_norm ? std::max<std::int64_t>(end - begin, 0) : 0;
        }
      }
      EXPECT_EQ(counted, parameter_count(lowered.graph)) << text;
    }
  }
}

TEST(LowerState, FullyShardedParametersAreGatheredTwiceAMicrobatchAndReleased) {
  // 4 micro-batches; ops with parameters: 2 + 4 x 8 (two norms, q, k, v, o, fc1, fc2) + 2.
  const Lowered lowered = lower_text(untied_gpt2(), "dp=2 zero=3");
  const Program& program = lowered.programs[0];
  constexpr int kOps = 2 + 4 * 8 + 2;
  EXPECT_EQ(count(program, InstructionKind::kGatherParameters), 2 * 4 * kOps);
  EXPECT_EQ(count(program, InstructionKind::kReleaseParameters), 2 * 4 * kOps);
  EXPECT_EQ(count(program, InstructionKind::kReduceGradients), 4 * kOps);
  EXPECT_EQ(count(program, InstructionKind::kGatherUpdated), 0);
}

TEST(LowerState, ShardedOptimizerReducesAndGathersOnceAStep) {
  const Lowered lowered = lower_text(untied_gpt2(), "dp=2 zero=1");
  const Program& program = lowered.programs[0];
  constexpr int kOps = 2 + 4 * 8 + 2;
  EXPECT_EQ(count(program, InstructionKind::kReduceGradients), kOps);
  EXPECT_EQ(count(program, InstructionKind::kGatherUpdated), kOps);
  EXPECT_EQ(count(program, InstructionKind::kUpdate), kOps);
  EXPECT_EQ(count(program, InstructionKind::kGatherParameters), 0);
}

TEST(LowerState, ChunksOfAStageShareTheirBoundary) {
  const Lowered lowered = lower_text(untied_gpt2(), "vp=2");
  const Program& program = lowered.programs[0];
  EXPECT_TRUE(program.transfers.empty());
  EXPECT_EQ(count(program, InstructionKind::kCopy), 0);
}

TEST(LowerLoss, LastStageReadsEveryMicrobatchsLossAtTheNorm) {
  const Lowered lowered = lower_text(untied_gpt2(), "pp=2");
  const auto losses = [](const Program& program) {
    for (const Instruction& instruction : program.instructions) {
      if (instruction.kind == InstructionKind::kGradientNorm) {
        return static_cast<int>(instruction.reads.size());
      }
    }
    return -1;
  };
  EXPECT_EQ(losses(lowered.programs[0]), 0);
  EXPECT_EQ(losses(lowered.programs[1]), 8);
}

TEST(LowerIdle, UnusedDeviceOnlyTakesPartInTheNorm) {
  const Lowered lowered = lower_text(untied_gpt2(), "pp=2");
  const std::vector<Program> programs = lower_all(lowered.plan, lowered.graph, 3);
  ASSERT_EQ(programs.size(), 3U);
  EXPECT_EQ(programs[2].stage, -1);
  EXPECT_EQ(programs[2].instructions.size(), 1U);
  EXPECT_EQ(find_deadlock(programs), std::nullopt);
}

// Moves every wait for a send to right after its post.
Program eager_waits(Program program) {
  std::vector<Instruction> instructions;
  for (const Instruction& instruction : program.instructions) {
    const bool waits_for_send = instruction.kind == InstructionKind::kWait &&
                                program.transfers[at(instruction.transfer)].sends;
    if (waits_for_send) {
      continue;
    }
    instructions.push_back(instruction);
    if (instruction.kind == InstructionKind::kPostSend) {
      Instruction wait;
      wait.kind = InstructionKind::kWait;
      wait.transfer = instruction.transfer;
      instructions.push_back(wait);
    }
  }
  program.instructions = std::move(instructions);
  return program;
}

// Receives are posted only when they are needed.
Program late_receives(Program program) {
  std::vector<Instruction> instructions;
  std::vector<Instruction> posts(program.transfers.size());
  for (const Instruction& instruction : program.instructions) {
    if (instruction.kind == InstructionKind::kPostReceive) {
      posts[at(instruction.transfer)] = instruction;
      continue;
    }
    if (instruction.kind == InstructionKind::kWait &&
        !program.transfers[at(instruction.transfer)].sends) {
      instructions.push_back(posts[at(instruction.transfer)]);
    }
    instructions.push_back(instruction);
  }
  program.instructions = std::move(instructions);
  return program;
}

TEST(LowerDeadlock, WaitingRightAfterEachSendHangs1F1B) {
  // Steady state: a stage waits for its activation to be taken while the next one waits for its
  // gradient to be taken.
  Lowered lowered = lower_text(untied_gpt2(), "pp=2");
  EXPECT_EQ(find_deadlock(lowered.programs), std::nullopt);
  for (Program& program : lowered.programs) {
    program = late_receives(eager_waits(program));
  }
  EXPECT_THAT(find_deadlock(lowered.programs).value_or("none"), HasSubstr("circle closes"));
}

TEST(LowerDump, NamesLayersOpsBuffersAndPeers) {
  const Lowered lowered = lower_text(tiny_llama(), "pp=2 tp=2 micro=4");
  const std::string text = dump(lowered.programs[1], lowered.graph);
  EXPECT_THAT(text, HasSubstr("rank 1 (stage 0, mesh data 1 x free 2)\n"));
  EXPECT_THAT(text, HasSubstr("layer.0.attention.q.weight [1, 2, 8, 32] of [2, 2, 8, 32]"));
  EXPECT_THAT(text, HasSubstr("forward mb 1 layer.1 mlp.down"));
  EXPECT_THAT(text, HasSubstr("all-reduce over ranks 0 1 mb 0 layer.0"));
  EXPECT_THAT(text, HasSubstr("to rank 3 (tag "));
}

TEST(LowerSize, SeventyBillionParametersAndManyMicrobatchesStayLight) {
  // 82 layers x 64 micro-batches on one rank: the number of instructions is what matters, widths
  // do not.
  TinyModel model = tiny_llama();
  model.decoder_layers = 80;
  const Lowered lowered = lower_text(model, "micro=1 recompute=full", 64);
  EXPECT_LT(lowered.programs[0].instructions.size(), 64U * 82U * 64U);
}

}  // namespace
}  // namespace shardwise
