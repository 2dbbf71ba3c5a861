// How many micro-batches' activations a stage holds at once (evaluate.h: microbatches_in_flight).
#include <algorithm>

#include "core/errors.h"
#include "cost/evaluate.h"

namespace shardwise {

namespace {

// Forwards that a stage runs before its first backward, in chunks, when every stage alternates one
// forward and one backward afterwards: Megatron's interleaved order.
int interleaved_warm_up(int num_stages, int stage, int num_microbatches, int num_chunks) {
  const int all = num_microbatches * num_chunks;
  const int wanted = 2 * (num_stages - stage - 1) + (num_chunks - 1) * num_stages;
  return std::min(all, wanted);
}

}  // namespace

int microbatches_in_flight(
    Schedule schedule, int num_stages, int stage, int num_microbatches, int num_chunks) {
  SHARDWISE_CHECK(0 <= stage && stage < num_stages, "stages count from zero");
  const int later = num_stages - stage - 1;
  switch (schedule) {
    case Schedule::kGpipe:
      return num_microbatches;
    case Schedule::k1F1B:
      return std::min(num_microbatches, later + 1);
    case Schedule::k1F1BEager:
      return std::min(num_microbatches, 2 * later + 1);
    case Schedule::kInterleaved: {
      const int warm_up = interleaved_warm_up(num_stages, stage, num_microbatches, num_chunks);
      const int chunks = std::min(num_microbatches * num_chunks, warm_up + 1);
      return (chunks + num_chunks - 1) / num_chunks;
    }
  }
  SHARDWISE_CHECK(false, "unknown schedule");
}

}  // namespace shardwise
