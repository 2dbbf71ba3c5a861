#include "profile/profiler.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/headeronly/version.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <fstream>
#include <memory>
#include <numeric>
#include <utility>

#include "core/errors.h"
#include "core/stopwatch.h"
#include "core/version.h"
#include "graph/layer_body.h"
#include "profile/communication_timer.h"
#include "profile/op_timer.h"
#include "profile/samples.h"
#include "runtime/communication_thread.h"
#include "runtime/kernel.h"
#include "runtime/memory_counter.h"
#include "runtime/optimizer.h"

namespace shardwise {

namespace {

// Shares of the time budget.
constexpr double kOpShare = 0.6;
constexpr double kCollectiveShare = 0.25;
constexpr double kTransferShare = 0.05;

constexpr int kFewestRounds = 3;
constexpr int kMostRounds = 25;
constexpr Bytes kBatchMemory{std::int64_t{1} << 30};  // tensors of the ops that are timed in turn
constexpr int kRepetitions = 9;
constexpr int kLadderSizes = 6;

// Seconds of repeated runs; the first is not counted.
template <typename Run>
std::vector<double> samples_of(const Run& run) {
  run();
  std::vector<double> samples;
  samples.reserve(kRepetitions);
  for (int i = 0; i < kRepetitions; ++i) {
    samples.push_back(time_of(run).count);
  }
  return samples;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(':');
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown processor";
}

std::string torch_version() {
  return fmt::format("{}.{}.{}", TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR, TORCH_VERSION_PATCH);
}

std::string today() {
  const std::time_t time = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&time, &utc);
  return fmt::format("{:04}-{:02}-{:02}", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday);
}

class Profiler {
 public:
  Profiler(const ProfileRequest& request, Communicator& communicator)
      : request_(request), communicator_(communicator) {
    std::vector<int> all(static_cast<std::size_t>(communicator.size()));
    std::iota(all.begin(), all.end(), 0);
    everyone_ = communicator.make_group(all);
    total_ = static_cast<int>(request.required.ops.size() + request.required.collectives.size() +
                              request.required.transfers.size()) +
             1;
  }

  MeasuredTable run() {
    MeasuredTable table;
    table.process_memory = mean_over_ranks(resident_bytes());
    measure_ops(table);
    measure_collectives(table);
    measure_transfers(table);
    measure_updates(table);
    measure_accumulation(table);
    measure_overlap(table);
    measure_step_overhead(table);
    table.machine = fmt::format("{}, {} ranks", processor_name(), communicator_.size());
    table.date = today();
    table.versions = {{"shardwise", std::string(version())}, {"torch", torch_version()}};
    return table;
  }

 private:
  void progress(int more, const std::string& what) {
    done_ += more;
    if (request_.progress && communicator_.rank() == 0) {
      request_.progress(done_, total_, what);
    }
  }

  Bytes mean_over_ranks(Bytes own) {
    std::array<double, 1> sum{static_cast<double>(own.count)};
    everyone_->control_sum(sum);
    return Bytes(static_cast<std::int64_t>(sum[0] / communicator_.size()));
  }

  // The same decision on every rank: the slowest rank's time counts.
  int rounds_for(double seconds_per_round, double budget) {
    std::array<double, 1> slowest{std::max(seconds_per_round, 1e-6)};
    everyone_->control_max(slowest);
    return static_cast<int>(std::clamp<double>(budget / slowest[0], kFewestRounds, kMostRounds));
  }

  void measure_ops(MeasuredTable& table) {
    const std::vector<RequiredOp>& ops = request_.required.ops;
    std::size_t begin = 0;
    while (begin < ops.size()) {
      std::vector<TimedOp> batch;
      Bytes memory{0};
      while (begin + batch.size() < ops.size() && (batch.empty() || memory < kBatchMemory)) {
        batch.emplace_back(ops[begin + batch.size()], request_.precision);
        memory += batch.back().memory();
      }
      const double share = static_cast<double>(batch.size()) / static_cast<double>(ops.size());
      measure_batch(batch, kOpShare * request_.budget.count * share, table);
      begin += batch.size();
      progress(static_cast<int>(batch.size()), to_string(ops[begin - 1].key));
    }
  }

  // One round runs all forward kernels in turn, then all backward kernels in reverse, as a step
  // does.
  static void run_round(std::vector<TimedOp>& batch,
                        std::vector<std::vector<std::vector<double>>>* samples) {
    const auto note = [&](std::size_t op, std::size_t direction, Seconds time) {
      if (samples != nullptr) {
        (*samples)[op][direction].push_back(time.count);
      }
    };
    for (std::size_t op = 0; op < batch.size(); ++op) {
      const std::vector<Direction>& directions = batch[op].required().directions;
      const Seconds time = batch[op].measure_forward();
      for (std::size_t d = 0; d < directions.size(); ++d) {
        if (directions[d] == Direction::kForward) {
          note(op, d, time);
        }
      }
    }
    for (std::size_t op = batch.size(); op-- > 0;) {
      const std::vector<Direction>& directions = batch[op].required().directions;
      for (std::size_t d = 0; d < directions.size(); ++d) {
        if (directions[d] != Direction::kForward) {
          note(op, d, batch[op].measure(directions[d]));
        }
      }
      batch[op].forget();
    }
  }

  void measure_batch(std::vector<TimedOp>& batch, double budget, MeasuredTable& table) {
    std::vector<std::vector<std::vector<double>>> samples;
    samples.reserve(batch.size());
    for (const TimedOp& op : batch) {
      samples.emplace_back(op.required().directions.size());
    }
    everyone_->barrier();
    run_round(batch, nullptr);
    const double warm = time_of([&] { run_round(batch, &samples); }).count;
    const int rounds = rounds_for(warm, budget);
    for (int i = 1; i < rounds; ++i) {
      everyone_->barrier();
      run_round(batch, &samples);
    }
    for (std::size_t op = 0; op < batch.size(); ++op) {
      const RequiredOp& required = batch[op].required();
      for (std::size_t d = 0; d < required.directions.size(); ++d) {
        const JobSummary summary = summarize_over_ranks(samples[op][d], kCountedOfWork, *everyone_);
        table.ops.push_back(
            {required.key, required.directions[d], 0, summary.time, summary.spread});
      }
    }
  }

  void measure_collectives(MeasuredTable& table) {
    const std::vector<RequiredCollective>& all = request_.required.collectives;
    for (const RequiredCollective& required : all) {
      const double budget =
          kCollectiveShare * request_.budget.count / static_cast<double>(all.size());
      const std::vector<MeasuredTable::CollectiveRow> rows =
          measure_collective(required, communicator_, *everyone_, Seconds(budget));
      table.collectives.insert(table.collectives.end(), rows.begin(), rows.end());
      progress(1,
               fmt::format("{} over {} ranks", to_string(required.kind), required.placement.ranks));
    }
  }

  void measure_transfers(MeasuredTable& table) {
    const std::vector<RequiredTransfer>& all = request_.required.transfers;
    for (const RequiredTransfer& required : all) {
      const double budget =
          kTransferShare * request_.budget.count / static_cast<double>(all.size());
      const std::vector<MeasuredTable::TransferRow> rows =
          measure_transfer(required, communicator_, *everyone_, Seconds(budget));
      table.transfers.insert(table.transfers.end(), rows.begin(), rows.end());
      progress(1, "messages");
    }
  }

  void measure_updates(MeasuredTable& table) {
    const AdamW options;
    for (const std::int64_t elements :
         size_ladder(std::max<std::int64_t>(request_.required.smallest_update, 1),
                     std::max<std::int64_t>(request_.required.largest_update, 1),
                     kLadderSizes,
                     1)) {
      const auto fresh = [&] { return at::full({elements}, 1e-3, at::TensorOptions(at::kFloat)); };
      const AdamWPiece piece{fresh(), fresh(), fresh(), fresh(), true};
      const at::Tensor weights = at::zeros({elements}, at::TensorOptions(at::kBFloat16));
      std::int64_t step = 0;
      double norm = 0;
      const std::vector<double> samples = samples_of([&] {
        norm += sum_of_squares(piece.gradient);
        adamw_step(options, ++step, 1e-4, 1, {piece});
        if (request_.precision == Precision::kBFloat16) {
          weights.copy_(piece.values);
        }
        piece.gradient.zero_();
      });
      const JobSummary summary = summarize_over_ranks(samples, kCountedOfWork, *everyone_);
      table.optimizer.push_back({elements, request_.precision, 0, summary.time, summary.spread});
    }
  }

  void measure_accumulation(MeasuredTable& table) {
    const std::int64_t element = element_bytes(ElementType::kCompute, request_.precision);
    for (const std::int64_t size :
         size_ladder(std::max<std::int64_t>(request_.required.smallest_accumulation.count, element),
                     std::max<std::int64_t>(request_.required.largest_accumulation.count, element),
                     kLadderSizes,
                     element)) {
      const at::TensorOptions type(request_.precision == Precision::kFloat32 ? at::kFloat
                                                                             : at::kBFloat16);
      const at::Tensor sum = at::zeros({size / element}, type);
      const at::Tensor more = at::ones({size / element}, type);
      const JobSummary summary =
          summarize_over_ranks(samples_of([&] { sum.add_(more); }), kCountedOfWork, *everyone_);
      table.accumulate.push_back({Bytes(size), 0, summary.time, summary.spread});
    }
  }

  // phi of docs/cost_model.md: with compute C, reduction R and both at once B, C + max(0, R - phi
  // C) = B.
  void measure_overlap(MeasuredTable& table) {
    table.overlap_fraction = {0};
    if (communicator_.size() == 1) {
      return;
    }
    constexpr std::int64_t kWidth = 512;
    constexpr std::int64_t kElements = std::int64_t{1} << 21;
    const at::Tensor a = at::ones({kWidth, kWidth}, at::TensorOptions(at::kFloat));
    const auto compute = [&] {
      for (int i = 0; i < 40; ++i) {
        at::mm(a, a);
      }
    };
    std::vector<int> all(static_cast<std::size_t>(communicator_.size()));
    std::iota(all.begin(), all.end(), 0);
    const std::unique_ptr<CommunicationGroup> group = communicator_.make_group(all);
    std::vector<float> data(kElements, 0);
    const auto reduce = [&] { group->all_reduce(data.data(), kElements, WireType::kFloat32); };
    CommunicationThread thread;
    std::array<std::vector<double>, 3> samples;
    for (int i = 0; i < kRepetitions; ++i) {
      everyone_->barrier();
      samples[0].push_back(time_of(compute).count);
      everyone_->barrier();
      samples[1].push_back(time_of(reduce).count);
      everyone_->barrier();
      const Seconds together = time_of([&] {
        thread.start(reduce);
        compute();
        thread.wait_all();
      });
      samples[2].push_back(together.count);
    }
    const double c = summarize_over_ranks(samples[0], kCountedOfWork, *everyone_).time.count;
    const double r = summarize_over_ranks(samples[1], kCountedOfWork, *everyone_).time.count;
    const double both = summarize_over_ranks(samples[2], kCountedOfWork, *everyone_).time.count;
    table.overlap_fraction = {std::clamp((c + r - both) / c, 0.0, 1.0)};
  }

  void measure_step_overhead(MeasuredTable& table) {
    for (const int ranks : request_.required.rank_counts) {
      std::array<double, 2> values{0, 0};
      const std::vector<double> samples = samples_of([&] {
        if (ranks > 1) {
          everyone_->control_sum(values);
          everyone_->control_sum(values);
        }
      });
      const JobSummary summary = summarize_over_ranks(samples, kCountedOfWork, *everyone_);
      table.step_overhead.push_back({ranks, Seconds(std::max(summary.time.count, 1e-7))});
    }
    progress(1, "step overhead");
  }

  const ProfileRequest& request_;
  Communicator& communicator_;
  std::unique_ptr<CommunicationGroup> everyone_;
  int done_ = 0;
  int total_ = 0;
};

}  // namespace

const Op* find_unmeasurable(const Graph& graph) {
  for (const Block& block : graph.blocks) {
    for (const Op& op : block.ops) {
      if (find_kernel(op.kind) == nullptr) {
        return &op;
      }
    }
  }
  return nullptr;
}

MeasuredTable measure_table(const ProfileRequest& request, Communicator& communicator) {
  return Profiler(request, communicator).run();
}

}  // namespace shardwise
