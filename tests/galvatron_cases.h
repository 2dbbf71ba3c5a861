// The published runs of Galvatron's search (shared/reference/galvatron.md, sections 2.1 and 2.2).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cost/galvatron_costs.h"
#include "io/galvatron_profile.h"

namespace shardwise {

struct GalvatronCase {
  std::string name;
  GalvatronJob job;
  double printed_s = 0;                   // what Galvatron predicted for the plan it found
  std::optional<GalvatronPlan> its_plan;  // where it is written out
};

namespace galvatron_cases_detail {

using Strategy = GalvatronStrategy;
inline constexpr auto kZero2 = Strategy::States::kZero2;
inline constexpr auto kZero3 = Strategy::States::kZero3;
inline constexpr auto kKept = Strategy::Activations::kKept;
inline constexpr auto kRecomputed = Strategy::Activations::kRecomputed;

inline GalvatronPlan plan_of(int chunks,
                             const std::vector<int>& stages,
                             const std::vector<std::pair<int, Strategy>>& runs,
                             const Strategy& ends,
                             int buffer_degree = 0) {
  GalvatronPlan plan;
  plan.chunks = chunks;
  plan.stage_layers = stages;
  plan.ends = ends;
  plan.buffer_degree = buffer_degree;
  for (const auto& [count, strategy] : runs) {
    plan.layers.insert(plan.layers.end(), static_cast<std::size_t>(count), strategy);
  }
  return plan;
}

}  // namespace galvatron_cases_detail

inline std::vector<GalvatronCase> galvatron_cases_main(const std::filesystem::path& folder) {
  using namespace galvatron_cases_detail;
  const std::filesystem::path configs = folder / "main/galvatron/models/gpt/configs";
  GalvatronJob job;
  job.model = read_galvatron_model(configs / "computation_profiling_bf16_llama2-7b_all.json",
                                   configs / "memory_profiling_bf16_llama2-7b_all.json",
                                   {.hidden = 4096,
                                    .sequence = 2048,
                                    .time_mode = GalvatronTimeMode::kBatch,
                                    .memory_mode = GalvatronMemoryMode::kSequenceParallel});
  job.hardware =
      read_galvatron_hardware(folder / "main/galvatron/profile_hardware/hardware_configs", 1, 8);
  job.layers = {32};
  job.devices = 8;
  const Strategy data_f{.data = 8, .states = kZero3};
  const Strategy data_fc{.data = 8, .states = kZero3, .activations = kRecomputed};
  const Strategy data_c{.data = 8, .activations = kRecomputed};
  const Strategy data{.data = 8};
  const Strategy head2{.sequence = 2, .data = 4, .states = kZero3};
  const Strategy head4{.sequence = 4, .data = 2, .states = kZero3};
  const Strategy tensor_c{.tensor = 4, .activations = kRecomputed};
  const Strategy tensor{.tensor = 4};
  std::vector<GalvatronCase> cases;
  const auto add = [&](int batch, double gb, double printed, std::optional<GalvatronPlan> plan) {
    job.batch = batch;
    job.memory_gb = gb;
    cases.push_back({"llama2-7b batch " + std::to_string(batch) + ", " +
                         std::to_string(static_cast<int>(gb)) + " GB",
                     job,
                     printed,
                     std::move(plan)});
  };
  add(16, 36, 1.0860, plan_of(1, {32}, {{20, data_fc}, {12, data_f}}, head2));
  add(16, 24, 1.1716, plan_of(1, {32}, {{30, data_fc}, {2, data_f}}, head4));
  add(64, 38, 4.1808, plan_of(1, {32}, {{23, data_fc}, {9, data_c}}, head4));
  add(64, 24, 5.0570, std::nullopt);
  add(64, 80, 3.5188, plan_of(4, {32}, {{16, data_f}, {16, data}}, head2));
  add(64, 16, 5.8733, plan_of(16, {16, 16}, {{31, tensor_c}, {1, tensor}}, Strategy{.data = 4}, 4));
  return cases;
}

inline std::vector<GalvatronCase> galvatron_cases_v21(const std::filesystem::path& folder) {
  using namespace galvatron_cases_detail;
  const std::filesystem::path root = folder / "v2.1/galvatron";
  const auto model = [&](const char* family, const std::string& shape, int hidden) {
    const std::filesystem::path configs = root / "models" / family / "configs";
    return read_galvatron_model(configs / ("computation_profiling_bf16_" + shape),
                                configs / ("memory_profiling_bf16_" + shape),
                                {.hidden = hidden, .sequence = 2048});
  };
  const GalvatronModelProfile small = model("llama_fa", "hidden4096_head32_seqlen2048.json", 4096);
  const GalvatronModelProfile large = model("llama_hf", "hidden5120_head40_seqlen2048.json", 5120);
  const GalvatronHardware two_nodes =
      read_galvatron_hardware(root / "profile_hardware/hardware_configs", 2, 8);
  // The release shipped no one-node file; the newest has the bandwidths, this one the overlap.
  GalvatronHardware one_node =
      read_galvatron_hardware(folder / "main/galvatron/profile_hardware/hardware_configs", 1, 8);
  one_node.overlap = two_nodes.overlap;

  std::vector<GalvatronCase> cases;
  const auto add = [&](const char* name,
                       const GalvatronModelProfile& profile,
                       int layers,
                       int nodes,
                       double gb,
                       double printed,
                       std::optional<GalvatronPlan> plan) {
    GalvatronJob job;
    job.version = GalvatronVersion::kV21;
    job.model = profile;
    job.hardware = nodes == 1 ? one_node : two_nodes;
    job.layers = {layers};
    job.devices = 8 * nodes;
    job.batch = 64;
    job.memory_gb = gb;
    cases.push_back({name, job, printed, std::move(plan)});
  };
  const Strategy ends16{.data = 16};
  const Strategy ends4{.data = 4};
  const Strategy data4{.data = 4};
  add("hidden 5120, 20 layers, 2x8, 30 GB",
      large,
      20,
      2,
      30,
      2.6574,
      plan_of(16, {5, 5, 5, 5}, {{20, data4}}, ends4));
  add("llama-7b, 2x8, 40 GB",
      small,
      32,
      2,
      40,
      1.9747,
      plan_of(4, {32}, {{32, Strategy{.tensor = 2, .data = 8}}}, ends16));
  add("llama-7b, 2x8, 24 GB",
      small,
      32,
      2,
      24,
      2.4555,
      plan_of(16,
              {8, 8, 8, 8},
              {{3, Strategy{.data = 4, .activations = kRecomputed}}, {29, data4}},
              ends4));
  add("llama-7b, 1x8, 38 GB",
      small,
      32,
      1,
      38,
      3.9118,
      plan_of(32, {8, 8, 8, 8}, {{32, Strategy{.data = 2}}}, Strategy{.data = 2}));
  add("llama-13b, 2x8, 40 GB", large, 40, 2, 40, 6.1495, std::nullopt);
  add("llama-13b, 2x8, 24 GB", large, 40, 2, 24, 7.2997, std::nullopt);
  return cases;
}

}  // namespace shardwise
