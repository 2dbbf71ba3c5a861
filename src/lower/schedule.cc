#include "lower/schedule.h"

#include <algorithm>

#include "core/errors.h"
#include "lower/schedule_functions.h"

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

StageTask whole_microbatch(int i, bool is_forward) {
  return {is_forward, i, 0, BackwardPart::kWhole};
}

using OrderFunction = StageOrder (*)(const PipelineShape&, int stage);

template <OrderFunction kOrder>
std::vector<StageOrder> each_stage(const PipelineShape& shape) {
  std::vector<StageOrder> orders;
  orders.reserve(static_cast<std::size_t>(shape.num_stages));
  for (int stage = 0; stage < shape.num_stages; ++stage) {
    orders.push_back(kOrder(shape, stage));
  }
  return orders;
}

struct NamedOrders {
  Schedule schedule;
  std::vector<StageOrder> (*orders)(const PipelineShape&);
};
constexpr NamedOrders kOrders[] = {
    {Schedule::kGpipe, each_stage<gpipe_order>},
    {Schedule::k1F1B, each_stage<one_forward_one_backward_order>},
    {Schedule::k1F1BEager, each_stage<eager_order>},
    {Schedule::kInterleaved, each_stage<interleaved_order>},
    {Schedule::kZeroBubbleH1, internal::zero_bubble_h1_orders},
    {Schedule::kZeroBubbleH2, internal::zero_bubble_h2_orders},
    {Schedule::kZeroBubble1P, internal::zero_bubble_1p_orders},
    {Schedule::kZeroBubble2P, internal::zero_bubble_2p_orders},
    {Schedule::kZeroBubbleV, internal::zero_bubble_v_orders},
    {Schedule::kVHalf, internal::v_half_orders},
    {Schedule::kVMin, internal::v_min_orders},
    {Schedule::kDualPipeV, internal::dualpipe_v_orders},
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
                     is_forward ? chunk : chunks - 1 - chunk,
                     BackwardPart::kWhole};
  };
  const int warm_up = 2 * (stages - 1 - stage) + (chunks - 1) * stages;
  return alternate(shape.num_microbatches * chunks, warm_up, pass);
}

StageOrder stage_order(Schedule schedule, const PipelineShape& shape, int stage) {
  SHARDWISE_CHECK(0 <= stage && stage < shape.num_stages, "stages count from zero");
  return stage_orders(schedule, shape)[static_cast<std::size_t>(stage)];
}

std::vector<StageOrder> stage_orders(Schedule schedule, const PipelineShape& shape) {
  for (const NamedOrders& named : kOrders) {
    if (named.schedule == schedule) {
      return named.orders(shape);
    }
  }
  SHARDWISE_CHECK(false, "unknown schedule");
}

double most_in_flight(const StageOrder& order, double weight_memory) {
  double in_flight = 0;
  double most = 0;
  for (const StageTask& task : order) {
    if (task.is_forward) {
      in_flight += 1;
      most = std::max(most, in_flight);
      continue;
    }
    switch (task.part) {
      case BackwardPart::kWhole:
        in_flight -= 1;
        break;
      case BackwardPart::kInput:
        in_flight -= 1 - weight_memory;
        break;
      case BackwardPart::kWeight:
        in_flight -= weight_memory;
        break;
    }
  }
  return most;
}

}  // namespace shardwise
