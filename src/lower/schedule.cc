#include "lower/schedule.h"

#include <algorithm>

#include "core/errors.h"

namespace shardwise {

namespace {

// `warm_up` forwards, then one forward and one backward in turn, then the backwards left.
// pass(i, is_forward) names the i-th pass of each direction.
template <typename Pass>
StageOrder alternate(int passes, int warm_up, Pass pass) {
  StageOrder order;
  const int lead = std::min(passes, warm_up);
  for (int i = 0; i < lead; ++i) {
    order.push_back(pass(i, true));
  }
  for (int i = lead; i < passes; ++i) {
    order.push_back(pass(i, true));
    order.push_back(pass(i - lead, false));
  }
  for (int i = passes - lead; i < passes; ++i) {
    order.push_back(pass(i, false));
  }
  return order;
}

StageTask whole_microbatch(int i, bool is_forward) { return {is_forward, i, 0}; }

using OrderFunction = StageOrder (*)(const PipelineShape&, int stage);
struct NamedOrder {
  Schedule schedule;
  OrderFunction order;
};
constexpr NamedOrder kOrders[] = {
    {Schedule::kGpipe, gpipe_order},
    {Schedule::k1F1B, one_forward_one_backward_order},
    {Schedule::k1F1BEager, eager_order},
    {Schedule::kInterleaved, interleaved_order},
};

}  // namespace

StageOrder gpipe_order(const PipelineShape& shape, int) {
  return alternate(shape.num_microbatches, shape.num_microbatches, whole_microbatch);
}

StageOrder one_forward_one_backward_order(const PipelineShape& shape, int stage) {
  return alternate(shape.num_microbatches, shape.num_stages - 1 - stage, whole_microbatch);
}

StageOrder eager_order(const PipelineShape& shape, int stage) {
  return alternate(shape.num_microbatches, 2 * (shape.num_stages - 1 - stage), whole_microbatch);
}

StageOrder interleaved_order(const PipelineShape& shape, int stage) {
  const int stages = shape.num_stages;
  const int chunks = shape.num_chunks;
  SHARDWISE_CHECK(shape.num_microbatches % stages == 0, "stages divide the micro-batches");
  const auto pass = [stages, chunks](int i, bool is_forward) {
    const int in_group = i % (stages * chunks);
    const int chunk = in_group / stages;
    return StageTask{is_forward,
                     i / (stages * chunks) * stages + in_group % stages,
                     is_forward ? chunk : chunks - 1 - chunk};
  };
  const int warm_up = 2 * (stages - 1 - stage) + (chunks - 1) * stages;
  return alternate(shape.num_microbatches * chunks, warm_up, pass);
}

StageOrder stage_order(Schedule schedule, const PipelineShape& shape, int stage) {
  SHARDWISE_CHECK(0 <= stage && stage < shape.num_stages, "stages count from zero");
  for (const NamedOrder& named : kOrders) {
    if (named.schedule == schedule) {
      return named.order(shape, stage);
    }
  }
  SHARDWISE_CHECK(false, "unknown schedule");
}

int most_in_flight(const StageOrder& order) {
  int in_flight = 0;
  int most = 0;
  for (const StageTask& task : order) {
    in_flight += task.is_forward ? 1 : 0;
    most = std::max(most, in_flight);
    in_flight -= task.is_forward ? 0 : 1;
  }
  return most;
}

}  // namespace shardwise
