#include <fmt/format.h>

#include <array>
#include <set>

#include "core/errors.h"
#include "files/atomic_file.h"
#include "runtime/checkpoint_files.h"
#include "runtime/checkpoint_values.h"

namespace shardwise {

namespace {

namespace fs = std::filesystem;
using internal::agree;

// All tensors that a checkpoint will have, the same on every rank.
struct Contents {
  ShardedTensors weights;
  ShardedTensors optimizer;
};

TensorType weight_type(Precision precision) {
  return precision == Precision::kFloat32 ? TensorType::kFloat32 : TensorType::kBFloat16;
}

// Values in the optimizer's file.
std::vector<StateValues> optimizer_values(Precision precision) {
  std::vector<StateValues> values = {StateValues::kFirstMoment, StateValues::kSecondMoment};
  if (precision != Precision::kFloat32) {
    values.push_back(StateValues::kMaster);
  }
  return values;
}

Contents plan_contents(const CheckpointModel& model,
                       Precision precision,
                       const CheckpointOptions& options) {
  std::vector<TensorSpec> weights;
  std::vector<TensorSpec> optimizer;
  std::set<std::string> seen;  // fused tensors hold several parameters
  for (const ParameterSlices& parameter : model.written) {
    for (const FileSlice& slice : parameter.slices) {
      if (seen.insert(slice.file_name).second) {
        weights.push_back({slice.file_name, weight_type(precision), slice.file_shape});
      }
    }
    const Tensor& tensor =
        model.graph->block_of(parameter.layer).tensors[static_cast<std::size_t>(parameter.tensor)];
    const std::string name =
        model.graph->layers[static_cast<std::size_t>(parameter.layer)].prefix + tensor.name;
    for (const StateValues which : optimizer_values(precision)) {
      optimizer.push_back(
          {internal::optimizer_name(name, which), TensorType::kFloat32, tensor.shape});
    }
  }
  Contents contents;
  contents.weights = split_tensors(weights, options.max_shard_size);
  contents.optimizer.shards.push_back(
      {std::string(internal::kOptimizerName), SafetensorsLayout::make(std::move(optimizer))});
  return contents;
}

void write_text(const fs::path& path, const std::string& text, FileSystem& files) {
  const std::unique_ptr<OutputFile> file = files.open_output(path, OpenMode::kTruncate);
  file->write_at(0, bytes_of(text));
  file->sync();
}

// Local elements of which this rank writes the values: its share with sharded state, else all.
LocalElements elements_to_write(const LocalParameter& parameter) {
  LocalElements elements{parameter.global_shape, parameter.shape, parameter.box, 0, 0};
  elements.end = parameter.elements;
  if (parameter.state_sharding != StateSharding::kNone) {
    elements.begin = parameter.index_in_group * parameter.chunk;
    elements.end = std::min(elements.begin + parameter.chunk, parameter.elements);
  }
  return elements;
}

// Writes what this rank answers for. Counts bytes.
class RankWriter {
 public:
  RankWriter(const fs::path& staging, const Contents& contents, FileSystem& files)
      : weights_(staging, contents.weights, files),
        optimizer_(staging, contents.optimizer, files) {}

  void write(TrainingState& state, const CheckpointModel& model) {
    const Precision precision = state.precision();
    const int count = static_cast<int>(state.parameters().size());
    for (int p = 0; p < count; ++p) {
      const LocalParameter& parameter = state.parameters()[static_cast<std::size_t>(p)];
      if (!parameter.counts_in_norm) {
        continue;
      }
      const HeldValues weight = state.held(p, StateValues::kWeight);
      for (const FileSlice& slice :
           internal::slices_of(model.written, *model.graph, parameter).slices) {
        write_values(weights_, slice, weight_type(precision), parameter, weight);
      }
      for (const StateValues which : optimizer_values(precision)) {
        FileSlice slice = whole_parameter(parameter.global_shape);
        slice.file_name = internal::optimizer_name(parameter.name, which);
        write_values(optimizer_, slice, TensorType::kFloat32, parameter, state.held(p, which));
      }
    }
    weights_.sync();
    optimizer_.sync();
  }

  std::int64_t bytes() const { return bytes_; }

 private:
  void write_values(SafetensorsWriter& writer,
                    const FileSlice& slice,
                    TensorType type,
                    const LocalParameter& parameter,
                    const HeldValues& held) {
    const LocalElements elements = elements_to_write(parameter);
    if (elements.begin >= elements.end) {
      return;
    }
    SHARDWISE_CHECK(held.values.defined() && held.begin <= elements.begin &&
                        elements.end <= held.begin + held.values.numel(),
                    fmt::format("rank lacks values of '{}' that it has to write", parameter.name));
    SHARDWISE_CHECK(held.values.element_size() == element_size(type).count,
                    fmt::format("values of '{}' have another type", parameter.name));
    const at::Tensor values = held.values.cpu().contiguous();
    bytes_ += write_blocks(writer,
                           slice,
                           blocks_in_slice(elements, slice),
                           type,
                           static_cast<const std::byte*>(values.const_data_ptr()),
                           held.begin);
  }

  SafetensorsWriter weights_;
  SafetensorsWriter optimizer_;
  std::int64_t bytes_ = 0;
};

void create_files(const fs::path& target,
                  const Contents& contents,
                  TrainingState& state,
                  const CheckpointModel& model,
                  const CheckpointOptions& options,
                  FileSystem& files) {
  const fs::path staging = begin_folder(target, files);
  create_safetensors(staging, contents.weights, files);
  create_safetensors(staging, contents.optimizer, files);
  write_text(
      staging / internal::kConfigName, internal::config_text(model, state.precision()), files);
  write_text(staging / internal::kTrainingName,
             internal::training_text(state.progress(), options.plan),
             files);
}

}  // namespace

std::filesystem::path save_checkpoint(const std::filesystem::path& folder,
                                      TrainingState& state,
                                      const CheckpointModel& model,
                                      CommunicationGroup& everyone,
                                      const CheckpointOptions& options) {
  SHARDWISE_CHECK(options.keep >= 1, "a checkpoint that is written is kept");
  FileSystem& files = options.files != nullptr ? *options.files : disk();
  const bool leads = everyone.index() == 0;
  const std::string name = internal::step_name(state.progress().step);
  fs::path target = folder / name;
  const fs::path staging = staging_path(target);
  const std::string operation = fmt::format("write the checkpoint {}", target.string());
  const Contents contents = plan_contents(model, state.precision(), options);
  try {
    agree(everyone, operation, [&] {
      if (leads) {
        create_files(target, contents, state, model, options, files);
      }
    });
    double written = 0;
    agree(everyone, operation, [&] {
      RankWriter writer(staging, contents, files);
      writer.write(state, model);
      written = static_cast<double>(writer.bytes());
    });
    everyone.control_sum({&written, 1});
    const double expected = static_cast<double>(contents.weights.total_size().count +
                                                contents.optimizer.total_size().count);
    SHARDWISE_CHECK(
        written == expected,
        fmt::format("all ranks wrote {} of {} bytes of {}", written, expected, target.string()));
    agree(everyone, operation, [&] {
      if (leads) {
        publish_folder(target, files);
      }
    });
  } catch (const std::exception&) {
    if (leads) {
      internal::try_to_remove_folder(staging, files);
    }
    throw;
  }
  agree(everyone, operation, [&] {
    if (leads) {
      write_file_atomically(folder / internal::kLatestName, name + "\n", files);
      internal::retire_older(folder, state.progress().step, options.keep, files);
    }
  });
  return target;
}

}  // namespace shardwise
