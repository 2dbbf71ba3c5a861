#include "runtime/executor_state.h"

namespace shardwise {

HeldValues ExecutorState::held(int parameter, StateValues which) {
  const ParameterState& state = store_.state(parameter);
  switch (which) {
    case StateValues::kWeight:
      return state.weight_flat.defined() ? HeldValues{state.weight_flat, 0}
                                         : HeldValues{state.weight_share, state.share_begin()};
    case StateValues::kMaster:
      if (precision() == Precision::kFloat32) {
        return {};
      }
      return {state.master, state.share_begin()};
    case StateValues::kFirstMoment:
      return {state.first_moment, state.share_begin()};
    case StateValues::kSecondMoment:
      return {state.second_moment, state.share_begin()};
  }
  return {};
}

}  // namespace shardwise
