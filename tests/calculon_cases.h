// Configurations and figures of Korthikanti et al., "Reducing Activation Recomputation", 2022, as
// Calculon's validation holds them.
#pragma once

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "core/text.h"
#include "files/json.h"
#include "files/read_file.h"
#include "report/published_run.h"

namespace shardwise::calculon {

inline std::string folder() {
  const char* data = std::getenv("SHARDWISE_DATA");
  return std::string(data != nullptr ? data : "../shared/data") + "/calculon/";
}

#define SKIP_WITHOUT_CALCULON()                                                       \
  if (!std::filesystem::exists(shardwise::calculon::folder())) {                      \
    GTEST_SKIP() << "no " << shardwise::calculon::folder() << "; set SHARDWISE_DATA"; \
  }

// Mode "seq" shards the sequence, "sel" computes attention again.
struct Case {
  std::string table, model, mode, quantity;
  double value = 0;
};

inline std::vector<Case> cases_of(const std::string& table) {
  std::vector<Case> cases;
  for (const std::string& line : split(read_file(folder() + "validation/published.csv"), '\n')) {
    const std::vector<std::string> fields = split(line, ',');
    if (fields.size() == 5 && fields[0] == table) {
      cases.push_back({fields[0], fields[1], fields[2], fields[3], std::stod(fields[4])});
    }
  }
  return cases;
}

struct Run {
  DecoderShape shape;
  RunLayout layout;
  Execution execution;
};

inline Run run_of(const Case& wanted) {
  const JsonValue model = read_json_file(folder() + "models/" + wanted.model + ".json");
  const JsonValue file = read_json_file(fmt::format(
      "{}validation/seqsel/{}/{}_{}.json", folder(), wanted.table, wanted.model, wanted.mode));
  Run run;
  run.shape.layers = model.at("num_blocks").as_int64();
  run.shape.hidden = model.at("hidden").as_int64();
  run.shape.heads = model.at("attn_heads").as_int64();
  run.shape.key_value_heads = run.shape.heads;
  run.shape.head_width = model.at("attn_size").as_int64();
  run.shape.feed_forward = model.at("feedforward").as_int64();
  run.shape.vocabulary = 51200;
  UniformLayout& grid = run.layout.grid;
  grid.tensor = file.at("tensor_par").as_int();
  grid.pipeline = file.at("pipeline_par").as_int();
  grid.data = file.at("data_par").as_int();
  grid.micro = file.at("microbatch_size").as_int64();
  grid.chunks = file.at("pipeline_interleaving").as_int();
  grid.schedule = grid.chunks > 1 ? Schedule::kInterleaved : Schedule::k1F1B;
  grid.sequence_parallel = wanted.mode.starts_with("seq");
  grid.recompute = wanted.mode == "full" ? Recompute::kFull : Recompute::kNone;
  run.layout.batch = file.at("batch_size").as_int64();
  run.layout.sequence = model.at("seq_size").as_int64();
  run.execution.dropout = true;
  run.execution.attention =
      wanted.mode.ends_with("sel") ? AttentionKernel::kRecomputed : AttentionKernel::kStored;
  run.execution.gathers_again = file.at("seq_par_ag_redo").as_bool();
  run.execution.repeats_whole_layers = true;
  // Their section 6.2: backward reduces behind the weight gradients, and gathers again behind those
  // of inputs.
  run.execution.layer = LayerOverlap::kInputGradients;
  run.execution.state =
      file.at("data_par_overlap").as_bool() ? StateOverlap::kCompute : StateOverlap::kNothing;
  return run;
}

}  // namespace shardwise::calculon
