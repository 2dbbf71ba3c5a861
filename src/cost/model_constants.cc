#include "cost/model_constants.h"

namespace shardwise {

std::span<const FittedConstant> fitted_constants() {
  using C = ModelConstants;
  static constexpr FittedConstant kConstants[] = {
      {"sustained", &C::sustained, 0.7, 1},
      {"sustained_hopper", &C::sustained_hopper, 0.6, 1},
      {"sum_start", &C::sum_start, 50, 500},
      {"gradient_product", &C::gradient_product, 1, 1.3},
      {"flash_tuned", &C::flash_tuned, 0.4, 1},
      {"score_forward", &C::score_forward, 4, 14},
      {"score_backward", &C::score_backward, 8, 24},
      {"small_format", &C::small_format, 0.8, 1.25},
      {"quantise_bytes", &C::quantise_bytes, 2, 12},
      {"elementwise", &C::elementwise, 1, 2},
      {"exposed", &C::exposed, 0.05, 0.4},
      {"node_share", &C::node_share, 0.75, 0.82},
      {"network_share", &C::network_share, 0.8, 0.95},
      {"all_to_all", &C::all_to_all, 0.3, 1},
      {"step", &C::step, 5e-3, 50e-3},
      {"per_doubling", &C::per_doubling, 1e-3, 20e-3},
      {"expert_layer", &C::expert_layer, 1e-3, 20e-3},
      {"maturing", &C::maturing, 0.01, 1},
      {"grouped", &C::grouped, 0.5, 1},
  };
  return kConstants;
}

}  // namespace shardwise
