// Bytes: for every plan of the matrix that takes all ranks of this MPI job, what MPI really sends
// (payload_observer.cc) = what the runtime counts = what the cost model charges, exactly. Started
// by mpirun; rank 0 reports for all.
#include <ATen/Parallel.h>
#include <ATen/ops/randint.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <utility>

#include "../runtime/plan_matrix_testing.h"
#include "cost/evaluate.h"
#include "cost/fake_table.h"
#include "lower/lower.h"
#include "payload_counts.h"
#include "runtime/executor.h"
#include "runtime/mpi_communicator.h"

namespace shardwise::testing {
namespace {

Communicator* communicator = nullptr;

class RandomTokens final : public BatchSource {
 public:
  at::Tensor load(BufferRole, int, const Box& box) override {
    return at::randint(61, {box.end[0] - box.begin[0], box.end[1] - box.begin[1]}, at::kLong);
  }
};

// By kind: all-gather, reduce-scatter, all-reduce, all-to-all, sends.
using Payload = std::array<std::int64_t, 5>;

Payload difference(const Payload& after, const Payload& before) {
  Payload result{};
  std::transform(after.begin(), after.end(), before.begin(), result.begin(), std::minus<>());
  return result;
}

Payload counted_so_far() {
  const PayloadCounts counts = communicator->payload();
  return {
      counts.all_gather, counts.reduce_scatter, counts.all_reduce, counts.all_to_all, counts.sends};
}

// Rows for one's own experts never reach MPI; all other rows must.
Payload observed_so_far() {
  const auto seen = observed_payload();
  return {seen[kAllGather],
          seen[kReduceScatter],
          seen[kAllReduce],
          seen[kAllToAll] + seen[kAllToAllSent] + communicator->payload().all_to_all_kept,
          seen[kSends]};
}

Cluster cluster_of(int devices) {
  Cluster cluster;
  cluster.types = {{.name = "any", .memory = Bytes(std::int64_t{1} << 40)}};
  cluster.groups = {{0, devices}};
  cluster.levels = {{.name = "node", .size = devices}};
  return cluster;
}

Payload charged_to(const TestPlan& made, const Program& program) {
  const Evaluation evaluation =
      evaluate(made.plan, made.graph, cluster_of(communicator->size()), FakeTable());
  const StageTraffic& stage = evaluation.traffic[static_cast<std::size_t>(program.stage)];
  const auto of = [&](CollectiveKind kind) {
    return stage.by_collective[static_cast<std::size_t>(kind)];
  };
  const std::vector<int>& devices =
      made.plan.stages[static_cast<std::size_t>(program.stage)].devices;
  const auto index = std::find(devices.begin(), devices.end(), program.rank) - devices.begin();
  return {of(CollectiveKind::kAllGather),
          of(CollectiveKind::kReduceScatter),
          of(CollectiveKind::kAllReduce),
          of(CollectiveKind::kAllToAll),
          stage.sends[static_cast<std::size_t>(index)]};
}

// Bytes that this rank's experts exchange, worked out from the rows that the routing sent and
// received: tokens there and results back; in backward tokens, gradients of results and routing
// weights there, gradients of tokens and (fp32) of routing weights back.
std::int64_t exchanged_bytes(const Program& program,
                             const TestPlan& made,
                             const Executor& executor) {
  std::map<std::pair<int, int>, std::size_t> next;
  std::int64_t bytes = 0;
  for (const Instruction& instruction : program.instructions) {
    if (instruction.kind != InstructionKind::kCompute) {
      continue;
    }
    const Block& block = made.graph.block_of(instruction.layer);
    const Op& op = block.ops[static_cast<std::size_t>(instruction.op)];
    if (op.kind != OpKind::kExperts) {
      continue;
    }
    const std::int64_t width = op.axes[static_cast<std::size_t>(axis_index(op, "h"))].size;
    const std::int64_t element = element_bytes(ElementType::kCompute, made.plan.precision);
    const AxisAssignment& axes = layer_plan(made.plan, place_of(made.plan, instruction.layer))
                                     .op_axes[static_cast<std::size_t>(instruction.op)];
    const auto hops = std::count_if(axes.begin(), axes.end(), [&](int axis) {
      return axis != kUnassigned &&
             op.axes[static_cast<std::size_t>(axis)].sharding == AxisSharding::kExchange;
    });
    const std::vector<std::int64_t>& counts =
        executor.routed_counts().at({instruction.layer, instruction.op});
    std::size_t& at = next[{instruction.layer, instruction.op}];
    for (std::ptrdiff_t hop = 0; hop < hops; ++hop) {
      const std::int64_t sent = counts.at(at++);
      const std::int64_t received = counts.at(at++);
      bytes += instruction.direction == Direction::kForward
                   ? (sent + received) * width * element
                   : sent * (2 * width + 1) * element + received * (width * element + 4);
    }
    ++at;  // rows of its own experts
  }
  return bytes;
}

std::vector<double> sum_over_ranks(const Payload& payload) {
  std::vector<int> everyone(static_cast<std::size_t>(communicator->size()));
  std::iota(everyone.begin(), everyone.end(), 0);
  std::vector<double> sum(payload.begin(), payload.end());
  communicator->make_group(everyone)->control_sum(sum);
  return sum;
}

class PayloadOf : public ::testing::TestWithParam<MatrixCase> {};

TEST_P(PayloadOf, IsTheSameOnTheWireInTheRuntimeAndInTheCostModel) {
  for (const Precision precision : {Precision::kFloat32, Precision::kBFloat16}) {
    const TestPlan made = GetParam().plan(precision);
    const std::vector<Program> programs = lower_all(made.plan, made.graph);
    const Program& program = programs[static_cast<std::size_t>(communicator->rank())];
    const Payload observed_before = observed_so_far();
    const Payload counted_before = counted_so_far();
    std::int64_t exchanged = 0;
    {
      Executor executor(program, made.graph, made.plan, *communicator, {});
      RandomTokens batches;
      executor.run_step(1, 1e-3, batches);
      exchanged = exchanged_bytes(program, made, executor);
    }
    const Payload observed = difference(observed_so_far(), observed_before);
    const Payload counted = difference(counted_so_far(), counted_before);
    const Payload charged = charged_to(made, program);
    // The cost model charges every rank an even share of the routed rows; what this rank must have
    // sent of them follows from the counts.
    const bool exchanges_experts = GetParam().layout.find("ep=") != std::string::npos;
    Payload expected = charged;
    expected[3] = exchanges_experts ? exchanged : charged[3];
    Payload wrong{};
    for (std::size_t kind = 0; kind < wrong.size(); ++kind) {
      const bool is_wrong = observed[kind] != counted[kind] || counted[kind] != expected[kind];
      wrong[kind] = is_wrong ? 1 : 0;
      if (is_wrong) {
        fmt::print(stderr,
                   "{} rank {} kind {}: observed {}, counted {}, expected {}\n",
                   case_name(GetParam()),
                   communicator->rank(),
                   kind,
                   observed[kind],
                   counted[kind],
                   expected[kind]);
      }
    }
    EXPECT_EQ(sum_over_ranks(wrong), std::vector<double>(wrong.size(), 0)) << "ranks that disagree";
    EXPECT_EQ(sum_over_ranks(counted), sum_over_ranks(charged));
    EXPECT_GT(
        sum_over_ranks(observed)[0] + sum_over_ranks(observed)[2] + sum_over_ranks(observed)[4], 0);
  }
}

int world_of(const Plan& plan) {
  int world = 0;
  for (const StagePlan& stage : plan.stages) {
    world += static_cast<int>(stage.devices.size());
  }
  return world;
}

// Known before MPI starts: the launcher says how many ranks there are.
std::vector<MatrixCase> cases_of_this_job() {
  const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
  const int ranks = size == nullptr ? 1 : std::atoi(size);
  std::vector<MatrixCase> list;
  for (const auto& some : {uniform_cases(), uneven_cases()}) {
    std::copy_if(some.begin(), some.end(), std::back_inserter(list), [&](const MatrixCase& c) {
      return world_of(c.plan(Precision::kFloat32).plan) == ranks;
    });
  }
  return list;
}

const auto kNameOfCase = [](const ::testing::TestParamInfo<MatrixCase>& tested) {
  return case_name(tested.param);
};
INSTANTIATE_TEST_SUITE_P(Matrix, PayloadOf, ::testing::ValuesIn(cases_of_this_job()), kNameOfCase);

}  // namespace
}  // namespace shardwise::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  at::set_num_threads(1);
  at::manual_seed(3);
  shardwise::MpiJob job({});
  shardwise::testing::communicator = &job.communicator();
  if (job.communicator().rank() != 0) {
    auto& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    delete listeners.Release(listeners.default_xml_generator());
  }
  return RUN_ALL_TESTS();
}
