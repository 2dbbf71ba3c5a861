// Trains a plan on data: the loop over steps with its log, evaluation and checkpoints.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>

#include "core/units.h"
#include "files/file_slice.h"
#include "graph/plan.h"
#include "runtime/activity.h"
#include "runtime/communicator.h"
#include "runtime/learning_rate.h"
#include "runtime/optimizer.h"

namespace shardwise {

// What is trained.
struct TrainingModel {
  const Plan& plan;
  const Graph& graph;       // for plan.microbatch() and plan.sequence
  std::string config_json;  // the model's config.json, goes into checkpoints
  // Places of its parameters in the files that are written, and in files that hold tensors of these
  // names; `where` labels errors (models/checkpoint_map.h).
  CheckpointMap written_places;
  std::function<CheckpointMap(std::span<const std::string> names, const std::string& where)>
      stored_places;
};

struct TrainingOptions {
  std::int64_t steps = 1;  // of the whole run: a resumed one does the rest
  std::uint64_t seed = 0;  // of starting values and data order
  AdamW optimizer;
  LearningRateSchedule learning_rate;

  std::filesystem::path data;             // files/token_source.h: open_token_source
  std::filesystem::path evaluation_data;  // empty: the last `evaluation_fraction` of `data`
  double evaluation_fraction = 0;
  std::int64_t evaluate_every = 0;      // steps; 0: never
  std::int64_t evaluation_batches = 8;  // at most

  std::filesystem::path checkpoints;  // folder of step-N/; empty: none are written
  std::int64_t checkpoint_every = 0;  // steps; 0: only after the last
  bool resume = false;                // from the latest of `checkpoints`, if there is one
  std::filesystem::path init;         // folder with weights to start from; empty: random

  std::filesystem::path log;      // one JSON object a step; empty: none
  std::filesystem::path summary;  // one JSON document at the end; empty: none
};

// Called by all ranks of the job (idle ones included), whose number is that of the plan's devices.
// Rank 0 prints a line per step to stdout and writes log and summary:
//
//   log      {"step", "loss", "gradient_norm", "step_time_s", "tokens_per_s", "learning_rate"} and,
//            where evaluated, "evaluation_loss"; steps count from 1. A resumed run replaces the
//            lines of steps that it runs again and appends
//   summary  {"steps", "peak_tensor_bytes": [by rank], "resident_bytes": [by rank: peak beyond what
//            was resident before the executor was built, code apart], "payload": [by rank:
//            {"all_gather",
//            ...}]}
//
// A new run refuses a folder that holds the checkpoints of another one.
// Throws InputError for data that does not fit model or batch, RuntimeFailure for lost ranks, a
// loss that is not finite, a full disk.
void train(const TrainingModel& model,
           const TrainingOptions& options,
           Communicator& communicator,
           Activity& activity);

}  // namespace shardwise
