// How many micro-batches' activations a stage holds at once (evaluate.h: microbatches_in_flight).
#include <algorithm>

#include "core/errors.h"
#include "cost/evaluate.h"
#include "cost/stage_prices.h"

namespace shardwise {

namespace {

// Forwards that a stage runs before its first backward, in chunks, when every stage alternates one
// forward and one backward afterwards: Megatron's interleaved order.
int interleaved_warm_up(int num_stages, int stage, int num_microbatches, int num_chunks) {
  const int all = num_microbatches * num_chunks;
  const int wanted = 2 * (num_stages - stage - 1) + (num_chunks - 1) * num_stages;
  return std::min(all, wanted);
}

// Chunk that the i-th pass of a stage runs: groups of P micro-batches, chunk by chunk.
int chunk_of_pass(int i, int num_stages, int num_chunks, bool is_forward) {
  const int chunk = i % (num_stages * num_chunks) / num_stages;
  return is_forward ? chunk : num_chunks - 1 - chunk;
}

}  // namespace

int internal::interleaved_passes_in_flight(int num_stages,
                                           int stage,
                                           int num_microbatches,
                                           int num_chunks) {
  const int warm_up = interleaved_warm_up(num_stages, stage, num_microbatches, num_chunks);
  return std::min(num_microbatches * num_chunks, warm_up + 1);
}

Bytes internal::interleaved_activations(int num_stages,
                                        int stage,
                                        int num_microbatches,
                                        const std::vector<Bytes>& by_chunk) {
  const int chunks = static_cast<int>(by_chunk.size());
  const int passes = num_microbatches * chunks;
  const int warm_up = interleaved_warm_up(num_stages, stage, num_microbatches, chunks);
  const auto bytes_of = [&](int pass, bool is_forward) {
    return by_chunk[static_cast<std::size_t>(chunk_of_pass(pass, num_stages, chunks, is_forward))];
  };
  Bytes held{0};
  Bytes most{0};
  for (int forward = 0; forward < passes; ++forward) {
    held += bytes_of(forward, true);
    most = std::max(most, held);
    if (forward >= warm_up) {
      held -= bytes_of(forward - warm_up, false);
    }
  }
  return most;
}

int microbatches_in_flight(
    Schedule schedule, int num_stages, int stage, int num_microbatches, int num_chunks) {
  SHARDWISE_CHECK(0 <= stage && stage < num_stages, "stages count from zero");
  const int later = num_stages - stage - 1;
  switch (schedule) {
    case Schedule::kGpipe:
      return num_microbatches;
    case Schedule::k1F1B:
      return std::min(num_microbatches, later + 1);
    // Every stage up to its limit (Qi et al., ICLR'24, section 3).
    case Schedule::kZeroBubble1P:
      return std::min(num_microbatches, num_stages);
    case Schedule::kZeroBubble2P:
      return std::min(num_microbatches, 2 * num_stages - 1);
    case Schedule::k1F1BEager:
      return std::min(num_microbatches, 2 * later + 1);
    case Schedule::kInterleaved: {
      const int passes =
          internal::interleaved_passes_in_flight(num_stages, stage, num_microbatches, num_chunks);
      return (passes + num_chunks - 1) / num_chunks;
    }
    default:
      break;  // no formula
  }
  SHARDWISE_CHECK(false, "unknown schedule");
}

}  // namespace shardwise
