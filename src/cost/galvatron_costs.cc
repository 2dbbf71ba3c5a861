#include "cost/galvatron_costs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/errors.h"

namespace shardwise {

namespace {

constexpr double kMsToSeconds = 1e-3;
constexpr double kBytesPerMb = 1024.0 * 1024.0;
constexpr double kContextMb = 1024;     // what a process holds on its device before any layer
constexpr int kStatesPerParameter = 4;  // states in units of the parameters at 4 bytes

double at_degree(const std::map<int, double>& values, int degree, const char* what) {
  if (const auto found = values.find(degree); found != values.end()) {
    return found->second;
  }
  // Releases up to 2.1 measured embedding and head for one degree.
  if (values.size() == 1 && values.begin()->first == 1) {
    return values.begin()->second;
  }
  throw InputError(
      "Galvatron profile",
      fmt::format("no {} for degree {}; profile it or forbid the degree", what, degree));
}

const GalvatronCollective& at_group(const std::map<int, GalvatronCollective>& tables,
                                    int group,
                                    const char* what) {
  const auto found = tables.find(group);
  if (found == tables.end()) {
    throw InputError(
        "Galvatron hardware profile",
        fmt::format("no {} times for a group of {}; add its sp_time file", what, group));
  }
  return found->second;
}

bool is_zero3(const GalvatronStrategy& strategy) {
  return strategy.states == GalvatronStrategy::States::kZero3;
}
bool is_recomputed(const GalvatronStrategy& strategy) {
  return strategy.activations == GalvatronStrategy::Activations::kRecomputed;
}

}  // namespace

double GalvatronCollective::at(double mb) const {
  if (mb >= 1 && mb < std::numeric_limits<int>::max() && mb == std::floor(mb)) {
    if (const auto found = ms_by_mb.find(static_cast<int>(mb)); found != ms_by_mb.end()) {
      return found->second;
    }
  }
  return line.at(mb);
}

int GalvatronJob::num_layers() const { return std::accumulate(layers.begin(), layers.end(), 0); }

int GalvatronJob::type_of_layer(int layer) const {
  int type = 0;
  while (layer >= layers[static_cast<std::size_t>(type)]) {
    layer -= layers[static_cast<std::size_t>(type)];
    ++type;
  }
  return type;
}

std::int64_t GalvatronJob::memory_limit_mb() const {
  const auto whole = static_cast<std::int64_t>(memory_gb * 1024);
  const bool has_reserve = whole / 1024 > 20;
  return has_reserve ? whole - static_cast<std::int64_t>(0.2 * static_cast<double>(whole)) : whole;
}

GalvatronCosts::GalvatronCosts(const GalvatronJob& job, int chunks, int pipeline)
    : job_(&job), chunks_(chunks), pipeline_(pipeline) {}

double GalvatronCosts::samples(const GalvatronStrategy& strategy) const {
  if (job_->version == GalvatronVersion::kMain) {
    const int samples = job_->batch / chunks_ / strategy.data;  // whole ones, as its code divides
    return samples;
  }
  return static_cast<double>(job_->batch) / chunks_ / strategy.data;
}

double GalvatronCosts::bandwidth(int group, bool consecutive) const {
  const GalvatronHardware& hardware = job_->hardware;
  if (!consecutive) {
    const auto strided = hardware.allreduce_strided_gb_s.find(group);
    if (strided != hardware.allreduce_strided_gb_s.end()) {
      return strided->second;
    }
  }
  const auto found = hardware.allreduce_consecutive_gb_s.find(group);
  if (found == hardware.allreduce_consecutive_gb_s.end()) {
    throw InputError(
        "Galvatron hardware profile",
        fmt::format("no all-reduce bandwidth for a group of {}; add allreduce_size_{}_consec_1",
                    group,
                    group));
  }
  return found->second;
}

// Both sides run `overlap` times slower while they overlap; the rest runs alone.
double GalvatronCosts::overlapped(double message_mb, double ms_per_mb, double backward) const {
  const double slow = job_->hardware.overlap;
  const double message = message_mb * ms_per_mb;
  if (message > backward) {
    return backward * slow + (message - backward);
  }
  return message * slow + (backward - message);
}

double GalvatronCosts::boundary_ms(double samples) const {
  if (pipeline_ == 1) {
    return 0;
  }
  const GalvatronModelProfile& model = job_->model;
  const auto found = job_->hardware.point_to_point_gb_s.find(pipeline_);
  if (found == job_->hardware.point_to_point_gb_s.end()) {
    throw InputError(
        "Galvatron hardware profile",
        fmt::format(
            "no point-to-point bandwidth for {} stages; add pp_size_{}", pipeline_, pipeline_));
  }
  const double mb = 2 * samples * model.sequence * model.hidden * 2 / kBytesPerMb;
  return pipeline_ * mb / found->second / job_->num_layers();
}

GalvatronTime GalvatronCosts::layer_time(int type, const GalvatronStrategy& strategy) const {
  if (job_->version == GalvatronVersion::kV21) {
    return v21_layer_time(type, strategy);
  }
  const GalvatronModelProfile& model = job_->model;
  const GalvatronLayerProfile& layer = model.layer_types[static_cast<std::size_t>(type)];
  const double batch = samples(strategy);
  const int sharers = strategy.data * strategy.sequence;  // of equal parameters
  const double forward = layer.forward_ms.at(batch / strategy.degree());
  const double backward = (is_recomputed(strategy) ? 3 : 2) * forward;

  // 2 (D - 1) / D parameters at 2 of their 4 profiled bytes.
  const double message = (sharers - 1.0) / sharers * layer.parameter_mb / strategy.tensor;
  const double ms_per_mb = sharers == 1 ? 0 : 1 / bandwidth(sharers, strategy.tensor == 1);

  double exchange = 0;
  const double mb = batch * model.sequence * model.hidden * 2 / kBytesPerMb;
  const double again = is_recomputed(strategy) ? 1.5 : 1;
  if (strategy.tensor > 1) {
    const auto& table = at_group(job_->hardware.allreduce, strategy.tensor, "all-reduce");
    exchange = 6 * again * table.at(mb) / 2;  // an all-gather is half an all-reduce
  } else if (strategy.sequence > 1) {
    const auto& table = at_group(job_->hardware.all_to_all, strategy.sequence, "all-to-all");
    exchange = 4 * again * table.at(mb);
  }

  const double gather = is_zero3(strategy) ? message / 2 * ms_per_mb : 0;
  const double rest = forward + exchange + gather + boundary_ms(batch);
  const double synchronised =
      strategy.data == 1 ? backward : overlapped(message, ms_per_mb, backward);
  return {(rest + synchronised) * kMsToSeconds, (rest + backward) * kMsToSeconds};
}

GalvatronTime GalvatronCosts::v21_layer_time(int type, const GalvatronStrategy& strategy) const {
  const GalvatronModelProfile& model = job_->model;
  const GalvatronLayerProfile& layer = model.layer_types[static_cast<std::size_t>(type)];
  const int tensor = strategy.tensor;
  const int data = strategy.data;
  const double batch = samples(strategy);
  const bool is_mixed = tensor > 1 && data > 1;
  const bool tensor_near = strategy.tensor_ranks == GalvatronStrategy::TensorRanks::kConsecutive;
  const double data_ms_per_mb = data == 1 ? 0 : 1 / bandwidth(data, !is_mixed || !tensor_near);
  const double tensor_ms_per_mb = tensor == 1 ? 0 : 1 / bandwidth(tensor, !is_mixed || tensor_near);

  const double forward = layer.forward_ms.at(batch) / tensor;
  const double backward = (is_recomputed(strategy) ? 3 : 2) * forward;
  const double message = (data - 1.0) / data * layer.parameter_mb / tensor;
  const double activation_mb = batch * model.sequence * model.hidden * 2 / kBytesPerMb;
  // Four all-reduces of the activation, half as many again if recomputed.
  const double exchange = 2 * (tensor - 1.0) / tensor * 4 * activation_mb *
                          (is_recomputed(strategy) ? 1.5 : 1) * tensor_ms_per_mb;
  const double gather = is_zero3(strategy) ? message / 2 * data_ms_per_mb : 0;
  const double rest = forward + exchange + gather + boundary_ms(batch);

  double synchronised = backward;
  if (data > 1) {
    // With much tensor parallelism only half of backward is taken to hide the gradients.
    const double hiding = is_mixed && tensor >= tensor * data / 2 ? backward / 2 : backward;
    synchronised = backward - hiding + overlapped(message, data_ms_per_mb, hiding);
  }
  return {(rest + synchronised) * kMsToSeconds, (rest + backward) * kMsToSeconds};
}

double GalvatronCosts::states_ratio(const GalvatronStrategy& strategy) const {
  const int sharers = strategy.data * strategy.sequence;
  if (sharers == 1) {
    return 1;
  }
  const double shard = 1.0 / sharers + 0.003;
  // With several micro-batches gradients stay whole until they are reduced.
  const double zero3 = chunks_ == 1 ? shard : 7.0 / 8 * shard + 1.0 / 8;
  const double zero2 = chunks_ == 1 ? 7.0 / 8 * shard + 1.0 / 8 : 6.0 / 8 * shard + 2.0 / 8;
  return is_zero3(strategy) ? zero3 : zero2;
}

int GalvatronCosts::in_flight(int stage) const { return std::min(pipeline_ - stage, chunks_); }

std::int64_t GalvatronCosts::layer_memory_mb(int type,
                                             const GalvatronStrategy& strategy,
                                             int stage) const {
  const GalvatronLayerProfile& layer = job_->model.layer_types[static_cast<std::size_t>(type)];
  const double held = samples(strategy) * in_flight(stage);
  const double states =
      kStatesPerParameter * layer.parameter_mb / strategy.tensor * states_ratio(strategy);
  double activation = 0;
  if (is_recomputed(strategy)) {
    const bool is_split = job_->version == GalvatronVersion::kMain;
    activation = layer.checkpoint_mb * held / (is_split ? strategy.degree() : 1);
  } else {
    activation = at_degree(layer.activation_mb, strategy.degree(), "activation memory") * held;
  }
  return static_cast<std::int64_t>(std::ceil(states + activation));
}

GalvatronEndsTime GalvatronCosts::ends_time(const GalvatronStrategy& ends) const {
  if (job_->version == GalvatronVersion::kV21) {
    return {};
  }
  const GalvatronModelProfile& model = job_->model;
  const double batch = samples(ends);
  const int sharers = ends.data * ends.sequence;
  const double forward = model.ends_forward_ms.at(batch / ends.degree());
  const double ms_per_mb =
      sharers == 1 ? 0 : (sharers - 1.0) / sharers / bandwidth(sharers, ends.tensor == 1);
  const double mb = batch * model.sequence * model.hidden * 2 / kBytesPerMb;
  const double gather =
      ends.tensor > 1 ? at_group(job_->hardware.allreduce, ends.tensor, "all-reduce").at(mb) / 2
                      : 0;
  const double slow = job_->hardware.overlap;
  // Only computation slows down here, and ZeRO-3 gathers once each way.
  const auto end = [&](double states_mb, double forward_ms, double gathers) {
    const double message = is_zero3(ends) ? states_mb / kStatesPerParameter / 2 * ms_per_mb / 2 : 0;
    const auto hidden = [&](double compute) {
      return compute * slow > message ? message + (compute * slow - message) / slow : message;
    };
    return (hidden(forward_ms) + hidden(2 * forward_ms) + gathers) * kMsToSeconds;
  };
  if (pipeline_ == 1) {
    return {end(at_degree(model.ends.states_mb, ends.tensor, "states of embedding and head"),
                forward,
                2 * gather),
            0};
  }
  return {end(at_degree(model.first_end.states_mb, ends.tensor, "states of the embedding"),
              forward / 2,
              gather),
          end(at_degree(model.last_end.states_mb, ends.tensor, "states of the head"),
              forward / 2,
              gather)};
}

std::int64_t GalvatronCosts::ends_memory_mb(const GalvatronStrategy& ends, int stage) const {
  const GalvatronModelProfile& model = job_->model;
  const bool is_v21 = job_->version == GalvatronVersion::kV21;
  const GalvatronEndsProfile* profile = nullptr;
  if (pipeline_ == 1) {
    profile = &model.ends;
  } else if (stage == 0) {
    profile = &model.first_end;
  } else if (stage == pipeline_ - 1) {
    profile = &model.last_end;
  }
  double mb = kContextMb;
  if (profile != nullptr) {
    const int degree = is_v21 ? 1 : ends.degree();
    mb += at_degree(profile->states_mb, ends.tensor, "states of embedding and head") *
              states_ratio(ends) +
          at_degree(profile->activation_mb, degree, "activations of embedding and head") *
              samples(ends) * in_flight(stage);
  }
  return static_cast<std::int64_t>(std::ceil(mb));
}

std::int64_t GalvatronCosts::buffer_mb(int buffer_degree) const {
  if (buffer_degree == 0 || job_->version == GalvatronVersion::kV21) {
    return 0;
  }
  const int data = job_->devices / pipeline_ / buffer_degree;
  const double batch = static_cast<double>(job_->batch) / chunks_ / data;
  return static_cast<std::int64_t>(batch * job_->model.hidden * job_->model.sequence * 2 /
                                   kBytesPerMb);
}

double GalvatronCosts::pipeline_time(const std::vector<double>& compute) const {
  if (job_->version == GalvatronVersion::kV21) {
    return *std::max_element(compute.begin(), compute.end()) * (chunks_ - 1 + pipeline_);
  }
  const double first = compute.front();
  const double others = std::accumulate(compute.begin() + 1, compute.end(), 0.0);
  const double last_binds = first + others + (chunks_ - 1) * compute.back();
  const double first_binds = std::max((std::min(pipeline_, chunks_) - 1) * first, others) +
                             first * std::max(0, chunks_ + 1 - pipeline_);
  return std::max(last_binds, first_binds);
}

double GalvatronCosts::exposed_sync(const std::vector<double>& compute,
                                    const std::vector<double>& sync) const {
  double exposed = 0;
  double hidden = 0;
  for (std::size_t i = 0; i < compute.size(); ++i) {
    hidden += compute[i];
    exposed = std::max(exposed, sync[i] - hidden);
  }
  return exposed;
}

GalvatronEvaluation evaluate_galvatron(const GalvatronJob& job, const GalvatronPlan& plan) {
  const int pipeline = static_cast<int>(plan.stage_layers.size());
  const int total = std::accumulate(plan.stage_layers.begin(), plan.stage_layers.end(), 0);
  if (pipeline == 0 || plan.chunks < 1 || total != job.num_layers() ||
      plan.layers.size() != static_cast<std::size_t>(total)) {
    throw InputError("Galvatron plan",
                     fmt::format("expected {} layers over its stages, found {} over {} stages",
                                 job.num_layers(),
                                 plan.layers.size(),
                                 pipeline));
  }
  const auto check_degrees = [&](const GalvatronStrategy& strategy) {
    const bool is_whole =
        strategy.tensor >= 1 && strategy.sequence >= 1 && strategy.data >= 1 &&
        std::int64_t{strategy.tensor} * strategy.sequence * strategy.data * pipeline == job.devices;
    if (!is_whole || (strategy.tensor > 1 && strategy.sequence > 1)) {
      throw InputError("Galvatron plan",
                       fmt::format("degrees tp {} sp {} dp {} do not make {} stages of {} devices",
                                   strategy.tensor,
                                   strategy.sequence,
                                   strategy.data,
                                   pipeline,
                                   job.devices));
    }
  };
  check_degrees(plan.ends);
  const GalvatronCosts costs(job, plan.chunks, pipeline);
  const GalvatronEndsTime ends = costs.ends_time(plan.ends);
  GalvatronEvaluation result;
  std::vector<double> compute;
  std::vector<double> sync;
  int layer = 0;
  for (int stage = 0; stage < pipeline; ++stage) {
    compute.push_back(0);
    sync.push_back(0);
    std::int64_t memory =
        costs.ends_memory_mb(plan.ends, stage) + costs.buffer_mb(plan.buffer_degree);
    for (int k = 0; k < plan.stage_layers[static_cast<std::size_t>(stage)]; ++k, ++layer) {
      const GalvatronStrategy& strategy = plan.layers[static_cast<std::size_t>(layer)];
      check_degrees(strategy);
      const int type = job.type_of_layer(layer);
      const GalvatronTime time = costs.layer_time(type, strategy);
      compute.back() += time.without_sync;
      sync.back() += time.with_sync;
      memory += costs.layer_memory_mb(type, strategy, stage);
    }
    result.stage_memory_mb.push_back(memory);
    result.fits = result.fits && memory <= job.memory_limit_mb();
  }
  compute.front() += ends.first;
  compute.back() += ends.last;
  result.step_time = Seconds(costs.pipeline_time(compute) + costs.exposed_sync(compute, sync));
  return result;
}

}  // namespace shardwise
