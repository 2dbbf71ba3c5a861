// Runs the program of one rank: one training step after the other.
//
//   Executor executor(program, graph, plan, communicator, {.seed = 1});
//   for (std::int64_t step = 1; step <= 100; ++step) {
//     const StepResult result = executor.run_step(step, 3e-4, batches);
//   }
//
// Buffers of the program are tensors that live as long as the program says; kernels come from
// runtime/kernel.h; reductions of gradients run on a communication thread beside backward.
// Deterministic: the same plan, seed and data give the same bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "graph/plan.h"
#include "lower/program.h"
#include "runtime/activity.h"
#include "runtime/communication_thread.h"
#include "runtime/communicator.h"
#include "runtime/kernel.h"
#include "runtime/optimizer.h"
#include "runtime/parameter_state.h"
#include "runtime/rank_groups.h"

namespace shardwise {

// Where tokens and targets come from.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // The part `box` of a micro-batch's [sequences, tokens], int64, contiguous; tokens in the order
  // of the plan (token_order of runtime/kernel.h). `role`: kTokens or kTargets.
  virtual at::Tensor load(BufferRole role, int microbatch, const Box& box) = 0;
};

struct StepResult {
  double loss = 0;           // mean over all tokens of the step
  double gradient_norm = 0;  // global, before clipping
};

class Executor {
 public:
  struct Options {
    std::uint64_t seed = 0;
    AdamW optimizer;
    Activity* activity = nullptr;  // told what runs, if set; outlives the executor
  };

  // All arguments outlive the executor. Called by all ranks of the job, idle ones included: makes
  // groups.
  Executor(const Program& program,
           const Graph& graph,
           const Plan& plan,
           Communicator& communicator,
           const Options& options);
  ~Executor();

  // One step; `step` counts from 1. Equal results on all ranks. `before_update` (optional) sees the
  // reduced gradients (parameters()). Throws RuntimeFailure for a lost rank and for a loss or norm
  // that is not finite.
  StepResult run_step(std::int64_t step,
                      double learning_rate,
                      BatchSource& batches,
                      const std::function<void()>& before_update = {});

  // Mean loss of one batch of the plan, without learning.
  double evaluate(BatchSource& batches);

  ParameterStore& parameters() { return parameters_; }
  const ParameterStore& parameters() const { return parameters_; }
  const RankGroups& groups() const { return groups_; }
  // Of the last step, by (layer, op): what KernelContext::routed_counts says, run after run.
  const std::map<std::pair<int, int>, std::vector<std::int64_t>>& routed_counts() const {
    return routed_counts_;
  }

 private:
  struct Run;  // what one step or evaluation knows
  struct MessageUnderWay {
    std::unique_ptr<Message> message;
    at::Tensor staging;  // packed part, if the message is not a whole buffer
  };

  void prepare_contexts();
  void run_program(const Program& program, Run& run);
  void run_instruction(const Instruction& instruction, Run& run);
  at::Tensor& slot(BufferId id) { return slots_[static_cast<std::size_t>(id)]; }
  at::Tensor make_buffer(BufferId id) const;

  void load(const Instruction& instruction, Run& run);
  void compute(const Instruction& instruction);
  void compute_forward(const Instruction& instruction, const KernelContext& context);
  void compute_backward(const Instruction& instruction, const KernelContext& context);
  void convert(const Instruction& instruction);
  void accumulate(const Instruction& instruction);
  void copy(const Instruction& instruction);
  void post_send(int transfer);
  void post_receive(int transfer);
  void wait_for(int transfer);
  void gather_parameters(const Instruction& instruction);
  void reduce_gradients(const Instruction& instruction);
  void exchange_tied_gradient(const TiedExchange& tied);
  void exchange_tied_parameter(const TiedExchange& tied);
  void sum_up(const Instruction& instruction, Run& run);
  void update(const Instruction& instruction, const Run& run);

  const Program& program_;
  const Graph& graph_;
  const Plan& plan_;
  Communicator& communicator_;
  Options options_;
  at::ScalarType compute_type_;
  MeshCoordinates coordinates_{0, 0, 0};
  RankGroups groups_;
  ParameterStore parameters_;
  Program forward_;  // made by the first evaluate()

  std::map<std::pair<int, int>, KernelContext> contexts_;          // by layer, op
  std::map<std::pair<int, int>, std::vector<int>> op_parameters_;  // in operand order
  std::map<std::pair<int, int>, std::vector<std::int64_t>> routed_counts_;
  bool counts_loss_ = false;  // of the ranks that compute the same loss, one counts it
  std::vector<at::Tensor> slots_;
  std::vector<MessageUnderWay> messages_;
  CommunicationThread communication_thread_;  // last: ends before what its tasks use
};

}  // namespace shardwise
