// Memory of published runs against what their authors computed and measured.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "core/text.h"
#include "cost/device_preset.h"
#include "files/json.h"
#include "files/read_file.h"
#include "report/published_run.h"

namespace shardwise {
namespace {

std::string folder() {
  const char* data = std::getenv("SHARDWISE_DATA");
  return std::string(data != nullptr ? data : "../shared/data") + "/calculon/";
}

#define SKIP_WITHOUT_DATA()                                      \
  if (!std::filesystem::exists(folder())) {                      \
    GTEST_SKIP() << "no " << folder() << "; set SHARDWISE_DATA"; \
  }

// Korthikanti et al., 2022: mode "seq" shards the sequence, "sel" computes attention again.
struct Case {
  std::string table, model, mode, quantity;
  double value = 0;
};

std::vector<Case> cases_of(const std::string& table) {
  std::vector<Case> cases;
  for (const std::string& line : split(read_file(folder() + "validation/published.csv"), '\n')) {
    const std::vector<std::string> fields = split(line, ',');
    if (fields.size() == 5 && fields[0] == table) {
      cases.push_back({fields[0], fields[1], fields[2], fields[3], std::stod(fields[4])});
    }
  }
  return cases;
}

// The run of a configuration with some times its layers.
Evaluation evaluate_case(const Case& wanted, int times) {
  const JsonValue model = read_json_file(folder() + "models/" + wanted.model + ".json");
  const JsonValue run = read_json_file(fmt::format(
      "{}validation/seqsel/{}/{}_{}.json", folder(), wanted.table, wanted.model, wanted.mode));
  DecoderShape shape;
  shape.layers = times * model.at("num_blocks").as_int64();
  shape.hidden = model.at("hidden").as_int64();
  shape.heads = model.at("attn_heads").as_int64();
  shape.key_value_heads = shape.heads;
  shape.head_width = model.at("attn_size").as_int64();
  shape.feed_forward = model.at("feedforward").as_int64();
  shape.vocabulary = 64;
  RunLayout layout;
  layout.grid.tensor = run.at("tensor_par").as_int();
  layout.grid.pipeline = run.at("pipeline_par").as_int();
  layout.grid.data = run.at("data_par").as_int();
  layout.grid.micro = run.at("microbatch_size").as_int64();
  layout.grid.chunks = run.at("pipeline_interleaving").as_int();
  layout.grid.schedule = layout.grid.chunks > 1 ? Schedule::kInterleaved : Schedule::k1F1B;
  layout.grid.sequence_parallel = wanted.mode.starts_with("seq");
  layout.batch = run.at("batch_size").as_int64();
  layout.sequence = model.at("seq_size").as_int64();
  Execution execution;
  execution.dropout = true;
  execution.attention =
      wanted.mode.ends_with("sel") ? AttentionKernel::kRecomputed : AttentionKernel::kStored;
  execution.gathers_again = true;
  layout.grid.recompute = wanted.mode == "full" ? Recompute::kFull : Recompute::kNone;
  const int devices = layout.grid.world();
  const Cluster machine = cluster_of(*find_node("dgx-a100"), (devices + 7) / 8, "a100");
  return RunModel(shape, layout, execution, machine).evaluate();
}

// Of the layers in the first stage: twice as many less once, for the paper leaves embedding and
// head out (its section 4).
struct LayerBytes {
  double states = 0;
  double activations = 0;
};
LayerBytes layer_bytes(const Case& wanted) {
  LayerBytes bytes;
  for (const int times : {1, 2}) {
    const double sign = times == 1 ? -1 : 1;
    const StageMemory first = evaluate_case(wanted, times).stage_memory.front();
    bytes.states +=
        sign * static_cast<double>((first.weights + first.gradients + first.optimizer).count);
    bytes.activations += sign * static_cast<double>(first.activations.count);
  }
  return bytes;
}

constexpr double kGibibyte = 1024.0 * 1024 * 1024;

TEST(PublishedMemory, StatesAndActivationsOfKorthikantiFigureOne) {
  SKIP_WITHOUT_DATA();
  double states = 0;
  double activations = 0;
  int count = 0;
  for (const Case& wanted : cases_of("fig1")) {
    const LayerBytes layers = layer_bytes(wanted);
    const bool is_state = wanted.quantity == "parameter_and_optimizer_gib";
    const double bytes = is_state ? layers.states : layers.activations;
    const double error = bytes / kGibibyte / wanted.value - 1;
    fmt::print("  {} {} {}: {:.2f} GiB, published {:.2f}, {:+.1f} %\n",
               wanted.model,
               wanted.mode,
               wanted.quantity,
               bytes / kGibibyte,
               wanted.value,
               100 * error);
    (is_state ? states : activations) += std::abs(error);
    ++count;
  }
  ASSERT_EQ(count, 16);
  fmt::print("states {:.2f} %, activations {:.2f} %\n", 100 * states / 8, 100 * activations / 8);
  EXPECT_LE(states / 8, 0.03);
  // Micro-batches in flight are whole ones: 11 where the paper counts 31 thirds.
  EXPECT_LE(activations / 8, 0.02);
}

TEST(PublishedMemory, RelativeActivationsOfKorthikantiFigureSeven) {
  SKIP_WITHOUT_DATA();
  std::map<std::string, double> none;
  double sum = 0;
  int count = 0;
  for (const Case& wanted : cases_of("fig7")) {
    const double bytes = layer_bytes(wanted).activations;
    none.try_emplace(wanted.model, bytes);  // mode "none" comes first
    const double error = 100 * bytes / none.at(wanted.model) / wanted.value - 1;
    fmt::print("  {} {}: {:.2f} %, published {:.2f}, {:+.1f} %\n",
               wanted.model,
               wanted.mode,
               100 * bytes / none.at(wanted.model),
               wanted.value,
               100 * error);
    sum += std::abs(error);
    ++count;
  }
  ASSERT_EQ(count, 20);
  fmt::print("relative activations {:.2f} %\n", 100 * sum / count);
  EXPECT_LE(sum / count, 0.05);
}

}  // namespace
}  // namespace shardwise
