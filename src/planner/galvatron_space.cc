// Galvatron's outer enumeration.
#include <algorithm>

#include "planner/galvatron_search.h"

namespace shardwise {

namespace {

using Strategy = GalvatronStrategy;

// Which of the two ways to split a sample a task allows.
enum class Splits { kTensor, kUlysses, kBoth };

class TaskBuilder {
 public:
  TaskBuilder(const GalvatronJob& job, int chunks, int pipeline)
      : job_(job), chunks_(chunks), devices_(job.devices / pipeline) {
    const int stage_layers = job.num_layers() / pipeline;
    split_.assign(static_cast<std::size_t>(pipeline), stage_layers);
    split_.back() += job.num_layers() - stage_layers * pipeline;
  }

  GalvatronTask task(Splits splits, int cap) const {
    GalvatronTask task;
    task.chunks = chunks_;
    task.stage_layers = split_;
    task.buffer_degree = splits == Splits::kUlysses ? 0 : cap;
    const bool is_v21 = job_.version == GalvatronVersion::kV21;
    for (int degree = 1; degree <= cap; degree *= 2) {
      if (devices_ % degree != 0) {
        continue;
      }
      if (degree == 1 || splits != Splits::kUlysses) {
        add({.tensor = degree, .data = devices_ / degree}, task);
      }
      if (degree > 1 && splits != Splits::kTensor && !is_v21) {
        add({.sequence = degree, .data = devices_ / degree}, task);
      }
    }
    if (is_v21) {
      task.ends = {{.data = devices_}};
    }
    return task;
  }

 private:
  // All variants of a split of the devices, if the profile knows them and the batch can be cut.
  void add(Strategy strategy, GalvatronTask& task) const {
    if (job_.batch % chunks_ != 0 || job_.batch / chunks_ % strategy.data != 0 ||
        !is_profiled(strategy)) {
      return;
    }
    const bool is_v21 = job_.version == GalvatronVersion::kV21;
    const bool can_shard = strategy.data * strategy.sequence > 1;
    const bool has_two_orders = is_v21 && strategy.tensor > 1 && strategy.data > 1;
    for (const auto states : {Strategy::States::kZero2, Strategy::States::kZero3}) {
      if (states == Strategy::States::kZero3 && !can_shard) {
        continue;
      }
      strategy.states = states;
      strategy.activations = Strategy::Activations::kKept;
      strategy.tensor_ranks = Strategy::TensorRanks::kConsecutive;
      if (!is_v21) {
        task.ends.push_back(strategy);
      }
      for (const auto activations :
           {Strategy::Activations::kKept, Strategy::Activations::kRecomputed}) {
        strategy.activations = activations;
        strategy.tensor_ranks = Strategy::TensorRanks::kConsecutive;
        task.layers.push_back(strategy);
        if (has_two_orders) {
          strategy.tensor_ranks = Strategy::TensorRanks::kStrided;
          task.layers.push_back(strategy);
        }
      }
    }
  }

  bool is_profiled(const Strategy& strategy) const {
    const GalvatronHardware& hardware = job_.hardware;
    const GalvatronModelProfile& model = job_.model;
    const bool is_v21 = job_.version == GalvatronVersion::kV21;
    const auto knows = [](const auto& map, int key) { return map.find(key) != map.end(); };
    for (const GalvatronLayerProfile& layer : model.layer_types) {
      if (!knows(layer.activation_mb, strategy.degree())) {
        return false;
      }
    }
    const int sharers = strategy.data * strategy.sequence;
    const auto reduces = [&](int group) {
      return group == 1 || knows(hardware.allreduce_consecutive_gb_s, group);
    };
    if (!reduces(sharers)) {
      return false;
    }
    if (is_v21) {
      return reduces(strategy.tensor);
    }
    for (const GalvatronEndsProfile* ends : {&model.ends, &model.first_end, &model.last_end}) {
      const bool is_one = ends->states_mb.size() == 1;
      if (!is_one && (!knows(ends->states_mb, strategy.tensor) ||
                      !knows(ends->activation_mb, strategy.degree()))) {
        return false;
      }
    }
    return (strategy.tensor == 1 || knows(hardware.allreduce, strategy.tensor)) &&
           (strategy.sequence == 1 || knows(hardware.all_to_all, strategy.sequence));
  }

  const GalvatronJob& job_;
  int chunks_;
  int devices_;
  std::vector<int> split_;
};

}  // namespace

std::vector<GalvatronTask> galvatron_tasks(const GalvatronJob& job) {
  std::vector<GalvatronTask> tasks;
  const auto keep = [&](GalvatronTask task) {
    if (!task.layers.empty() && !task.ends.empty()) {
      tasks.push_back(std::move(task));
    }
  };
  for (int chunks = 1; chunks <= job.batch; ++chunks) {
    if (job.batch % chunks != 0) {
      continue;
    }
    const int deepest = std::min({chunks, job.num_layers(), job.devices});
    for (int pipeline = 1; pipeline <= deepest; pipeline *= 2) {
      const auto& links = job.hardware.point_to_point_gb_s;
      if (job.devices % pipeline != 0 || (pipeline > 1 && links.find(pipeline) == links.end())) {
        continue;
      }
      const TaskBuilder builder(job, chunks, pipeline);
      const int devices = job.devices / pipeline;
      if (job.version == GalvatronVersion::kV21) {
        // Its micro-batch is cut among all devices of a stage at once.
        if (job.batch / chunks % devices == 0) {
          keep(builder.task(Splits::kTensor, devices));
        }
        continue;
      }
      keep(builder.task(Splits::kUlysses, devices));
      for (int cap = 1; cap <= devices; cap *= 2) {
        keep(builder.task(Splits::kTensor, cap));
        if (cap > 1) {
          keep(builder.task(Splits::kBoth, cap));
        }
      }
    }
  }
  return tasks;
}

}  // namespace shardwise
