// Times op kernels as training runs them: many different ops in turn, so that weights and saved
// tensors are as cold as they are between two layers, inputs as warm as the op before leaves them.
#pragma once

#include <memory>
#include <vector>

#include "cost/required_measurements.h"
#include "graph/plan.h"

namespace shardwise {

// One kernel with its own random inputs, parameters and gradients.
class TimedOp {
 public:
  TimedOp(const RequiredOp& required, Precision precision);
  ~TimedOp();
  TimedOp(TimedOp&&) noexcept;
  TimedOp& operator=(TimedOp&&) noexcept;

  const RequiredOp& required() const;
  Bytes memory() const;  // of its tensors, about

  // Seconds of one execution. Backward directions need a forward before.
  Seconds measure_forward();
  Seconds measure(Direction direction);
  // Drops what forward left.
  void forget();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shardwise
