// Training checkpoints in Hugging Face's file format, written by all ranks together and resumable
// under another plan.
//
//   run/step-200/model.safetensors      weights in the compute type, under the names that
//                                       transformers gives them; several files with an index if
//                                       they are larger than a limit
//   run/step-200/config.json            the model
//   run/step-200/optimizer.safetensors  fp32: AdamW's moments, master weights of a bf16 run
//   run/step-200/training.json          step, tokens, seed, plan
//   run/latest                          "step-200"
//
// A folder called step-N is complete; what is under way or half removed is called step-N.tmp.
// docs/file_formats.md, "Checkpoint folder", describes the contents.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "files/file_slice.h"
#include "files/file_system.h"
#include "graph/op.h"
#include "runtime/communicator.h"
#include "runtime/training_state.h"

namespace shardwise {

// What a checkpoint must know of the model; models/checkpoint_map.h makes the maps.
struct CheckpointModel {
  const Graph* graph = nullptr;
  std::string config_json;  // text of config.json
  CheckpointMap written;    // where parameters go
  // Where they are in a checkpoint that holds tensors called `names`; throws InputError that begins
  // with `where` if it is of another model.
  std::function<CheckpointMap(std::span<const std::string> names, const std::string& where)> stored;
};

struct CheckpointOptions {
  int keep = 2;                         // this one and keep - 1 of earlier steps; at least 1
  Bytes max_shard_size{5'000'000'000};  // of one file of weights
  std::string plan;                     // in a few words, for people who read training.json
  FileSystem* files = nullptr;          // null: disk()
};

// Writes <folder>/step-N, N = state.progress().step, makes <folder>/latest name it, and then
// removes older ones; a folder of that name is replaced. Every element is written by exactly one
// rank (LocalParameter::counts_in_norm), in place.
//
// All ranks call it with the same arguments, and all return or all throw. If the disk of one fails
// it throws the error (InputError, RuntimeFailure: file_system.h) and the others RuntimeFailure
// naming it; the checkpoints of before are untouched then. If only the removal of older ones fails,
// the new one is there all the same. Returns the folder.
std::filesystem::path save_checkpoint(const std::filesystem::path& folder,
                                      TrainingState& state,
                                      const CheckpointModel& model,
                                      CommunicationGroup& everyone,
                                      const CheckpointOptions& options = {});

// The newest complete checkpoint in `folder`: the one that `latest` names; if that is missing or
// damaged the one of the highest step. Nothing if there is none.
std::optional<std::filesystem::path> find_latest(const std::filesystem::path& folder);

// Fills `state` from a checkpoint: `folder` is step-N itself or a folder with several, of which the
// latest is taken. Each rank reads its own part. Weights of the same precision, moments, masters
// and progress come back with the very bits that were saved, under any plan; the moments of a
// parameter and, from bf16, its masters do not depend on the precision of the run that saved them.
//
// All ranks call it, and all return or all throw: InputError naming file, tensor, expected and
// found if there is no checkpoint, a damaged one, or one of another model; RuntimeFailure as above.
// Returns the folder that was read.
std::filesystem::path load_checkpoint(const std::filesystem::path& folder,
                                      TrainingState& state,
                                      const CheckpointModel& model,
                                      CommunicationGroup& everyone);

// Fills only the weights (and masters, unrounded) from published weights: a folder with safetensors
// of any floating-point type, an index, or one file. Moments and progress stay as they are. Throws
// like load_checkpoint().
void load_weights(const std::filesystem::path& path,
                  TrainingState& state,
                  const CheckpointModel& model,
                  CommunicationGroup& everyone);

}  // namespace shardwise
