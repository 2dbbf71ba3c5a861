// Files of a checkpoint folder, besides the numbers. Internal to checkpoint.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "files/safetensors_layout.h"
#include "graph/plan.h"
#include "runtime/checkpoint.h"

namespace shardwise::internal {

inline constexpr std::string_view kConfigName = "config.json";
inline constexpr std::string_view kOptimizerName = "optimizer.safetensors";
inline constexpr std::string_view kTrainingName = "training.json";
inline constexpr std::string_view kLatestName = "latest";

// Folder name of a step.
std::string step_name(std::int64_t step);
// Step of a folder called step-N; nothing for other names.
std::optional<std::int64_t> step_of(const std::filesystem::path& folder);

// config.json as it is written: the model's, with the type of the weights in this checkpoint.
std::string config_text(const CheckpointModel& model, Precision precision);
// Throws InputError unless the config.json at `path` describes the model: every key that can change
// what is computed is compared.
void check_same_model(const std::filesystem::path& path, const CheckpointModel& model);
// The same for published weights, which may have been written by any version: the type only, and
// nothing if there is no such file.
void check_same_model_type(const std::filesystem::path& path, const CheckpointModel& model);

std::string training_text(const TrainingProgress& progress, const std::string& plan);
TrainingProgress read_training(const std::filesystem::path& path);

// Removes a flat folder and its files, as far as possible; the error that led here is the one to
// report.
void try_to_remove_folder(const std::filesystem::path& folder, FileSystem& files);
// Removes the checkpoints of steps before `newest` but the last keep - 1, and unfinished folders.
void retire_older(const std::filesystem::path& folder,
                  std::int64_t newest,
                  int keep,
                  FileSystem& files);

// Runs `work` on this rank; returns on all ranks or throws on all: a rank that failed throws its
// own error, the others name the first rank that failed and `operation`, in an InputError if any
// rank had one, else in a RuntimeFailure: all ranks then end with one exit code.
void agree(CommunicationGroup& everyone,
           const std::string& operation,
           const std::function<void()>& work);

// The graph's index of the parameter's tensor, and the layer whose tensor is in files: the owner's
// for an alias.
const ParameterSlices& slices_of(const CheckpointMap& map,
                                 const Graph& graph,
                                 const LocalParameter& parameter);

// Names in optimizer.safetensors.
std::string optimizer_name(const std::string& parameter, StateValues which);

}  // namespace shardwise::internal
