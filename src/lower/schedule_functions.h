// Schedules with a file of their own: orders of all stages (schedule.h says what each is). Internal
// to lower.
#pragma once

#include "lower/schedule.h"

namespace shardwise::internal {

std::vector<StageOrder> zero_bubble_h1_orders(const PipelineShape& shape);
std::vector<StageOrder> zero_bubble_h2_orders(const PipelineShape& shape);
std::vector<StageOrder> zero_bubble_1p_orders(const PipelineShape& shape);
std::vector<StageOrder> zero_bubble_2p_orders(const PipelineShape& shape);
std::vector<StageOrder> zero_bubble_v_orders(const PipelineShape& shape);
std::vector<StageOrder> v_half_orders(const PipelineShape& shape);
std::vector<StageOrder> v_min_orders(const PipelineShape& shape);
std::vector<StageOrder> dualpipe_v_orders(const PipelineShape& shape);

// Where virtual stages lie in a V of two chunks, or in a row of one.
struct PassPlace {
  int stage = 0;
  int chunk = 0;
};
inline PassPlace place_in_v(int num_stages, int k) {
  return k < num_stages ? PassPlace{k, 0} : PassPlace{2 * num_stages - 1 - k, 1};
}
inline int index_in_v(int num_stages, const PassPlace& place) {
  return place.chunk == 0 ? place.stage : 2 * num_stages - 1 - place.stage;
}

inline StageTask forward_task(int microbatch, int chunk = 0) {
  return {true, microbatch, chunk, BackwardPart::kWhole};
}
inline StageTask input_task(int microbatch, int chunk = 0) {
  return {false, microbatch, chunk, BackwardPart::kInput};
}
inline StageTask weight_task(int microbatch, int chunk = 0) {
  return {false, microbatch, chunk, BackwardPart::kWeight};
}
inline StageTask whole_task(int microbatch, int chunk = 0) {
  return {false, microbatch, chunk, BackwardPart::kWhole};
}

}  // namespace shardwise::internal
