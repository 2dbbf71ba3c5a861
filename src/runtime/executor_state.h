// The executor's parameters as checkpoints see them.
#pragma once

#include <vector>

#include "runtime/parameter_state.h"
#include "runtime/training_state.h"

namespace shardwise {

class ExecutorState final : public TrainingState {
 public:
  // Both outlive this.
  ExecutorState(const Program& program, ParameterStore& store) : program_(program), store_(store) {}

  const std::vector<LocalParameter>& parameters() const override { return program_.parameters; }
  Precision precision() const override { return program_.precision; }
  HeldValues held(int parameter, StateValues which) override;
  TrainingProgress progress() const override { return progress_; }
  void set_progress(const TrainingProgress& progress) override { progress_ = progress; }

 private:
  const Program& program_;
  ParameterStore& store_;
  TrainingProgress progress_;
};

}  // namespace shardwise
