#include "runtime/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/errors.h"
#include "core/text.h"
#include "files/atomic_file.h"
#include "files/json_writer.h"
#include "lower/lower.h"
#include "runtime/checkpoint.h"
#include "runtime/checkpoint_files.h"
#include "runtime/executor.h"
#include "runtime/executor_state.h"
#include "runtime/memory_counter.h"
#include "runtime/step_log.h"
#include "runtime/token_batches.h"

namespace shardwise {
namespace {

using Clock = std::chrono::steady_clock;

Seconds since(Clock::time_point start) {
  return Seconds(std::chrono::duration<double>(Clock::now() - start).count());
}

// Tokens below this have a row in the embedding.
std::int64_t vocabulary_of(const Graph& graph) {
  const Block& first = graph.block_of(0);
  for (const Op& op : first.ops) {
    if (op.kind == OpKind::kEmbedding) {
      return first.tensors[static_cast<std::size_t>(op.parameters[0].tensor)].shape[0];
    }
  }
  SHARDWISE_CHECK(false, "a graph begins with an embedding");
}

// Training and evaluation data of a run.
struct TrainingData {
  TrainingData(const TrainingModel& model, const TrainingOptions& options)
      : source(open_token_source(options.data, vocabulary_of(model.graph))),
        split(split_off_evaluation(
            source->size(), options.evaluation_data.empty() ? options.evaluation_fraction : 0)),
        order(split.train,
              model.plan.sequence,
              model.plan.batch,
              options.seed,
              options.data.string()),
        batches(*source, order, model.plan) {
    if (options.evaluate_every <= 0) {
      return;
    }
    const TokenSource* evaluated = source.get();
    TokenRange range = split.evaluation;
    if (!options.evaluation_data.empty()) {
      evaluation_source = open_token_source(options.evaluation_data, vocabulary_of(model.graph));
      evaluated = evaluation_source.get();
      range = {0, evaluated->size()};
    }
    if (num_windows(range, model.plan.sequence) == 0) {
      throw InputError(evaluated->description(),
                       fmt::format("expected at least {} tokens to evaluate on, found {}; raise "
                                   "--evaluation-fraction or give --evaluation-data",
                                   model.plan.sequence + 1,
                                   range.size()));
    }
    evaluation = std::make_unique<EvaluationBatches>(*evaluated, range, model.plan);
  }

  std::unique_ptr<TokenSource> source;
  DataSplit split;
  SampleOrder order;
  TrainingBatches batches;
  std::unique_ptr<TokenSource> evaluation_source;
  std::unique_ptr<EvaluationBatches> evaluation;  // null: never
};

class Trainer {
 public:
  Trainer(const TrainingModel& model,
          const TrainingOptions& options,
          Communicator& communicator,
          Activity& activity)
      : model_(model),
        options_(options),
        communicator_(communicator),
        activity_(activity),
        data_(model, options),
        resident_before_(begin_resident_account()),
        program_(lower(model.plan, model.graph, communicator.rank())),
        executor_(program_,
                  model.graph,
                  model.plan,
                  communicator,
                  {options.seed, options.optimizer, &activity}),
        state_(program_, executor_.parameters()),
        checkpoint_{&model.graph, model.config_json, model.written_places, model.stored_places} {
    state_.set_progress({0, 0, options.seed});
  }

  void run() {
    restore();
    const std::int64_t first = state_.progress().step + 1;
    std::unique_ptr<StepLog> log;
    internal::agree(everyone(), "open the outputs", [&] {
      if (communicator_.rank() == 0) {
        log = std::make_unique<StepLog>(options_.log, first, options_.steps);
        if (!options_.summary.empty()) {
          expect_writable(options_.summary);
        }
      }
    });
    if (log != nullptr && first > options_.steps) {
      fmt::print("nothing to do: the checkpoint is of step {}, --steps is {}\n",
                 first - 1,
                 options_.steps);
    }
    for (std::int64_t step = first; step <= options_.steps; ++step) {
      const StepRecord record = run_step(step);
      if (log != nullptr) {
        log->add(record);
      }
      if (!options_.checkpoints.empty() && is_due(step, options_.checkpoint_every)) {
        activity_.begin("checkpoint");
        save_checkpoint(
            options_.checkpoints, state_, checkpoint_, everyone(), {.plan = in_words()});
      }
    }
    write_summary();
  }

 private:
  // Resident memory counts from here on; code that is loaded later is no memory of the training.
  static Bytes begin_resident_account() {
    install_memory_counter();
    reset_resident_peak();
    return resident_bytes() - resident_file_bytes();
  }
  Bytes resident_since_begin() const {
    return peak_resident_bytes() - resident_file_bytes() - resident_before_;
  }

  bool is_due(std::int64_t step, std::int64_t every) const {
    return (every > 0 && step % every == 0) || step == options_.steps;
  }

  StepRecord run_step(std::int64_t step) {
    StepRecord record;
    record.step = step;
    record.learning_rate = learning_rate_at(options_.learning_rate, step);
    data_.batches.set_step(step);
    const Clock::time_point start = Clock::now();
    const StepResult result = executor_.run_step(step, record.learning_rate, data_.batches);
    record.step_time = since(start);
    record.loss = result.loss;
    record.gradient_norm = result.gradient_norm;
    const std::int64_t tokens = model_.plan.batch * model_.plan.sequence;
    record.tokens_per_second = static_cast<double>(tokens) / record.step_time.count;
    state_.set_progress({step, state_.progress().tokens + tokens, options_.seed});
    if (data_.evaluation != nullptr && is_due(step, options_.evaluate_every)) {
      record.evaluation_loss = evaluate();
    }
    return record;
  }

  double evaluate() {
    const std::int64_t batches =
        std::min(options_.evaluation_batches, data_.evaluation->num_batches());
    double sum = 0;
    for (std::int64_t batch = 0; batch < batches; ++batch) {
      data_.evaluation->set_batch(batch);
      sum += executor_.evaluate(*data_.evaluation);
    }
    return sum / static_cast<double>(batches);
  }

  void restore() {
    activity_.begin("start");
    if (options_.resume && find_latest(options_.checkpoints)) {
      const std::filesystem::path from =
          load_checkpoint(options_.checkpoints, state_, checkpoint_, everyone());
      if (state_.progress().seed != options_.seed) {
        throw InputError(
            from.string(),
            fmt::format("expected a checkpoint of a run with --seed {}, found one with "
                        "{}, which orders the data; give --seed {}",
                        options_.seed,
                        state_.progress().seed,
                        state_.progress().seed));
      }
      return;
    }
    expect_no_other_run();
    if (!options_.init.empty()) {
      load_weights(options_.init, state_, checkpoint_, everyone());
    }
  }

  // A new run would soon remove the checkpoints of the one whose folder it shares.
  void expect_no_other_run() const {
    if (options_.checkpoints.empty()) {
      return;
    }
    if (const auto latest = find_latest(options_.checkpoints)) {
      throw InputError(
          options_.checkpoints.string(),
          fmt::format("expected no checkpoints of another run, found {}; give --resume "
                      "to go on with that run, or another folder",
                      latest->filename().string()));
    }
  }

  CommunicationGroup& everyone() { return executor_.groups().world(); }

  // The plan, for people who read a checkpoint.
  std::string in_words() const {
    const Plan& plan = model_.plan;
    std::vector<std::string> meshes;
    for (const StagePlan& stage : plan.stages) {
      meshes.push_back(to_string(stage.mesh));
    }
    return fmt::format("{} stages ({}), {} micro-batches, {}, {}",
                       plan.num_stages(),
                       join(meshes, "; "),
                       plan.num_microbatches,
                       to_string(plan.schedule),
                       to_string(plan.precision));
  }

  // One value of every rank, on all ranks.
  std::vector<double> from_all_ranks(double value) {
    std::vector<double> values(static_cast<std::size_t>(communicator_.size()), 0);
    values[static_cast<std::size_t>(communicator_.rank())] = value;
    everyone().control_sum(values);
    return values;
  }

  void write_summary() {
    if (options_.summary.empty()) {
      return;
    }
    const auto whole = [](const std::vector<double>& values) {
      return std::vector<std::int64_t>(values.begin(), values.end());
    };
    const auto collect = [&](std::int64_t value) {
      return whole(from_all_ranks(static_cast<double>(value)));
    };
    const PayloadCounts payload = communicator_.payload();
    nlohmann::ordered_json document;
    document["steps"] = options_.steps;
    document["peak_tensor_bytes"] = collect(peak_tensor_bytes().count);
    document["resident_bytes"] = collect(resident_since_begin().count);
    const std::vector<std::pair<const char*, std::vector<std::int64_t>>> kinds = {
        {"all_gather", collect(payload.all_gather)},
        {"reduce_scatter", collect(payload.reduce_scatter)},
        {"all_reduce", collect(payload.all_reduce)},
        {"all_to_all", collect(payload.all_to_all)},
        {"all_to_all_kept", collect(payload.all_to_all_kept)},
        {"sends", collect(payload.sends)}};
    for (std::size_t rank = 0; rank < static_cast<std::size_t>(communicator_.size()); ++rank) {
      nlohmann::ordered_json of_rank;
      for (const auto& [kind, values] : kinds) {
        of_rank[kind] = values[rank];
      }
      document["payload"].push_back(std::move(of_rank));
    }
    internal::agree(everyone(), "write the summary", [&] {
      if (communicator_.rank() == 0) {
        write_file_atomically(options_.summary, to_json_text(document));
      }
    });
  }

  const TrainingModel& model_;
  const TrainingOptions& options_;
  Communicator& communicator_;
  Activity& activity_;
  TrainingData data_;
  Bytes resident_before_;
  Program program_;
  Executor executor_;
  ExecutorState state_;
  CheckpointModel checkpoint_;
};

}  // namespace

void train(const TrainingModel& model,
           const TrainingOptions& options,
           Communicator& communicator,
           Activity& activity) {
  Trainer(model, options, communicator, activity).run();
}

}  // namespace shardwise
