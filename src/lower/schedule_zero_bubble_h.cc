// ZB-H1 and ZB-H2 (Qi et al., ICLR'24, section 2.3): the order of 1F1B with `factor` times its
// warm-up of P - 1 - i forwards in stage i; weight parts begin when `factor` i input parts are
// done, so that the last stages keep theirs for the drain, and all stages hold as much as the
// first.
#include <algorithm>

#include "lower/schedule_functions.h"

namespace shardwise::internal {

namespace {

StageOrder handcrafted_order(const PipelineShape& shape, int stage, int factor) {
  const int count = shape.num_microbatches;
  const int warm_up = std::min(count, factor * (shape.num_stages - 1 - stage));
  const int delay = factor * stage;
  StageOrder order;
  for (int i = 0; i < warm_up; ++i) {
    order.push_back(forward_task(i));
  }
  int weights = 0;
  for (int i = 0; i < count; ++i) {
    if (warm_up + i < count) {
      order.push_back(forward_task(warm_up + i));
    }
    order.push_back(input_task(i));
    if (i >= delay) {
      order.push_back(weight_task(weights++));
    }
  }
  while (weights < count) {
    order.push_back(weight_task(weights++));
  }
  return order;
}

std::vector<StageOrder> handcrafted_orders(const PipelineShape& shape, int factor) {
  std::vector<StageOrder> orders;
  orders.reserve(static_cast<std::size_t>(shape.num_stages));
  for (int stage = 0; stage < shape.num_stages; ++stage) {
    orders.push_back(handcrafted_order(shape, stage, factor));
  }
  return orders;
}

}  // namespace

std::vector<StageOrder> zero_bubble_h1_orders(const PipelineShape& shape) {
  return handcrafted_orders(shape, 1);
}

std::vector<StageOrder> zero_bubble_h2_orders(const PipelineShape& shape) {
  return handcrafted_orders(shape, 2);
}

}  // namespace shardwise::internal
