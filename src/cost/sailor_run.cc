#include "cost/sailor_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/errors.h"

namespace shardwise {

namespace {

constexpr double kStateCopies = 5;  // weights, gradients, two moments, the reduced copy
constexpr double kLargest = 1e18;   // bytes, within what Bytes holds

// Each of `devices` sends that many bytes to another node at once.
Seconds message_time(const SailorLink& link, int devices, double bytes) {
  return Seconds(bytes * devices / link.bandwidth(bytes).count);
}

Bytes whole(double bytes) { return Bytes(std::llround(bytes)); }

}  // namespace

BytesPerSecond SailorLink::bandwidth(double message_bytes) const {
  const double x = std::log2(std::max(message_bytes * 1e-6, 1.0));
  // A parabola that opens downwards falls again beyond its top, which no link does.
  const double top = a < 0 ? std::min(x, std::max(0.0, -b / (2 * a))) : x;
  return BytesPerSecond(std::min(1e9 * (a * top * top + b * top + c), most.count));
}

SailorEvaluation evaluate_sailor(const SailorRun& run,
                                 const std::string& run_name,
                                 const LayerProfile& profile,
                                 const SailorSizes& sizes,
                                 const SailorLinks& links,
                                 Bytes process_memory) {
  const auto times = profile.layers.find({run.microbatch, run.tensor});
  if (times == profile.layers.end()) {
    throw InputError(run_name,
                     fmt::format("micro-batch {} with tensor degree {} is not in the layer profile",
                                 run.microbatch,
                                 run.tensor));
  }
  const auto sized = sizes.find(run.tensor);
  if (sized == sizes.end()) {
    throw InputError(run_name,
                     fmt::format("tensor degree {} is not in the layer sizes", run.tensor));
  }
  const auto num_layers = std::accumulate(run.layers.begin(), run.layers.end(), std::size_t{0});
  if (times->second.size() != num_layers || sized->second.size() != num_layers) {
    throw InputError(run_name,
                     fmt::format("its stages hold {} layers, the profile {}, the sizes {}; name "
                                 "one model in all three",
                                 num_layers,
                                 times->second.size(),
                                 sized->second.size()));
  }
  const auto link = links.find(run.tensor);
  const bool sends = run.layers.size() > 1 || run.data > 1;
  if (sends && link == links.end()) {
    throw InputError(
        run_name, fmt::format("no bandwidth of {} devices that send at once is known", run.tensor));
  }

  const int num_stages = static_cast<int>(run.layers.size());
  const int microbatches = run.microbatches();
  SailorEvaluation evaluation;
  Seconds sum(0);
  Seconds period(0);
  Seconds per_step(0);
  std::size_t layer = 0;
  for (int i = 0; i < num_stages; ++i) {
    SailorStage stage;
    double weights = 0;
    double kept = 0;
    double most_kept = 0;
    double output = 0;  // of the last layer, sent on
    for (int l = 0; l < run.layers[static_cast<std::size_t>(i)]; ++l, ++layer) {
      const ProfiledLayer& timed = times->second[layer];
      const SailorLayerSize& size = sized->second[layer];
      stage.compute += timed.forward_backward;
      stage.update += timed.update;
      weights += size.parameter_bytes;
      output = run.microbatch * size.output_bytes;
      kept += run.microbatch * size.kept_bytes;
      most_kept = std::max(most_kept, run.microbatch * size.kept_bytes);
    }
    if (i + 1 < num_stages) {
      stage.transfer = 2.0 * message_time(link->second, run.tensor, output);
    }
    if (run.data > 1) {
      const double passes = 2.0 * (run.data - 1) / run.data;
      stage.reduction = passes * message_time(link->second, run.tensor, weights);
    }
    const Seconds before = i > 0 ? evaluation.stages.back().transfer : Seconds(0);
    period = std::max(period, before + stage.compute + stage.transfer);
    per_step = std::max(per_step, stage.reduction + stage.update);
    sum += stage.compute + stage.transfer;
    const double in_flight = std::min(microbatches, num_stages - i) * kept;
    if (kStateCopies * weights + in_flight + most_kept > kLargest) {
      throw InputError(run_name, "the layer sizes add up to more than 1e18 bytes on a device");
    }
    stage.states = whole(kStateCopies * weights);
    stage.kept = whole(in_flight);
    stage.memory = process_memory + stage.states + stage.kept + whole(most_kept);
    evaluation.memory = std::max(evaluation.memory, stage.memory);
    evaluation.stages.push_back(stage);
  }
  evaluation.step = sum + static_cast<double>(microbatches - 1) * period + per_step;
  return evaluation;
}

}  // namespace shardwise
