#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"
#include "runtime/checkpoint_files.h"
#include "runtime/checkpoint_values.h"

namespace shardwise {

namespace {

namespace fs = std::filesystem;
using internal::agree;

// Tensors of a checkpoint, and what messages call it.
struct Source {
  SafetensorsReader reader;
  std::string where;
};

Source open_source(const fs::path& path) { return {SafetensorsReader::open(path), path.string()}; }

// Fills what this rank holds from the tensors of `slices`.
void fill(const HeldValues& held,
          const LocalParameter& parameter,
          const std::vector<FileSlice>& slices,
          const Source& source) {
  if (!held.values.defined() || held.values.numel() == 0) {
    return;
  }
  SHARDWISE_CHECK(held.values.is_contiguous(), "state is contiguous");
  const TensorType type =
      held.values.scalar_type() == at::kFloat ? TensorType::kFloat32 : TensorType::kBFloat16;
  SHARDWISE_CHECK(held.values.element_size() == element_size(type).count, "state is fp32 or bf16");
  LocalElements elements{parameter.global_shape, parameter.shape, parameter.box, held.begin, 0};
  elements.end = std::min(held.begin + held.values.numel(), parameter.elements);
  const at::Tensor values = held.values.cpu();  // itself where it is on the CPU
  for (const FileSlice& slice : slices) {
    read_blocks(source.reader,
                slice,
                blocks_in_slice(elements, slice),
                type,
                static_cast<std::byte*>(values.mutable_data_ptr()),
                held.begin,
                source.where);
  }
  if (!held.values.is_cpu()) {
    held.values.copy_(values);
  }
}

// Places of all parameters; every tensor looked at, so that all ranks find the same fault.
CheckpointMap checked_places(const CheckpointModel& model, const Source& weights) {
  CheckpointMap map = model.stored(weights.reader.names(), weights.where);
  for (const ParameterSlices& parameter : map) {
    for (const FileSlice& slice : parameter.slices) {
      check_tensor(weights.reader, slice, weights.where);
    }
  }
  return map;
}

// The full name in optimizer.safetensors is the owner's, also for a tied alias.
std::string name_in_optimizer(const ParameterSlices& slices, const Graph& graph) {
  return graph.layers[static_cast<std::size_t>(slices.layer)].prefix +
         graph.block_of(slices.layer).tensors[static_cast<std::size_t>(slices.tensor)].name;
}

class StateLoader {
 public:
  StateLoader(const fs::path& step, const CheckpointModel& model)
      : graph_(*model.graph),
        weights_(open_source(step)),
        optimizer_(open_source(step / internal::kOptimizerName)),
        places_(checked_places(model, weights_)) {
    for (const ParameterSlices& parameter : places_) {
      for (const StateValues which : {StateValues::kFirstMoment, StateValues::kSecondMoment}) {
        check_tensor(optimizer_.reader, optimizer_slice(parameter, which), optimizer_.where);
      }
    }
  }

  void load(TrainingState& state) const {
    const int count = static_cast<int>(state.parameters().size());
    for (int p = 0; p < count; ++p) {
      const LocalParameter& parameter = state.parameters()[static_cast<std::size_t>(p)];
      const ParameterSlices& slices = internal::slices_of(places_, graph_, parameter);
      const bool keeps_fp32 = state.precision() == Precision::kFloat32;
      load_weight(state.held(p, StateValues::kWeight), parameter, slices, keeps_fp32);
      load_weight(state.held(p, StateValues::kMaster), parameter, slices, true);
      for (const StateValues which : {StateValues::kFirstMoment, StateValues::kSecondMoment}) {
        fill(state.held(p, which), parameter, {optimizer_slice(slices, which)}, optimizer_);
      }
    }
  }

 private:
  // fp32 values come from the masters if the run that saved them had some.
  void load_weight(const HeldValues& held,
                   const LocalParameter& parameter,
                   const ParameterSlices& slices,
                   bool prefers_master) const {
    const FileSlice master = optimizer_slice(slices, StateValues::kMaster);
    if (prefers_master && optimizer_.reader.contains(master.file_name)) {
      fill(held, parameter, {master}, optimizer_);
    } else {
      fill(held, parameter, slices.slices, weights_);
    }
  }

  FileSlice optimizer_slice(const ParameterSlices& slices, StateValues which) const {
    FileSlice slice = whole_parameter(
        graph_.block_of(slices.layer).tensors[static_cast<std::size_t>(slices.tensor)].shape);
    slice.file_name = internal::optimizer_name(name_in_optimizer(slices, graph_), which);
    return slice;
  }

  const Graph& graph_;
  Source weights_;
  Source optimizer_;
  CheckpointMap places_;
};

// `folder` itself if it is a checkpoint, else the latest in it.
fs::path find_step(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / internal::kTrainingName, error)) {
    return folder;
  }
  if (const auto latest = find_latest(folder)) {
    return *latest;
  }
  throw InputError(folder.string(),
                   "expected a checkpoint (a folder step-N, or one with training.json), found "
                   "none; give the folder that training wrote to");
}

}  // namespace

std::filesystem::path load_checkpoint(const std::filesystem::path& folder,
                                      TrainingState& state,
                                      const CheckpointModel& model,
                                      CommunicationGroup& everyone) {
  fs::path step;
  agree(everyone, fmt::format("read the checkpoint in {}", folder.string()), [&] {
    step = find_step(folder);
    internal::check_same_model(step / internal::kConfigName, model);
    const TrainingProgress progress = internal::read_training(step / internal::kTrainingName);
    StateLoader(step, model).load(state);
    state.set_progress(progress);
  });
  return step;
}

void load_weights(const std::filesystem::path& path,
                  TrainingState& state,
                  const CheckpointModel& model,
                  CommunicationGroup& everyone) {
  agree(everyone, fmt::format("read the weights in {}", path.string()), [&] {
    std::error_code error;
    if (fs::is_directory(path, error)) {
      internal::check_same_model_type(path / internal::kConfigName, model);
    }
    const Source weights = open_source(path);
    const CheckpointMap places = checked_places(model, weights);
    const int count = static_cast<int>(state.parameters().size());
    for (int p = 0; p < count; ++p) {
      const LocalParameter& parameter = state.parameters()[static_cast<std::size_t>(p)];
      const std::vector<FileSlice>& slices =
          internal::slices_of(places, *model.graph, parameter).slices;
      for (const StateValues which : {StateValues::kWeight, StateValues::kMaster}) {
        fill(state.held(p, which), parameter, slices, weights);
      }
    }
  });
}

}  // namespace shardwise
