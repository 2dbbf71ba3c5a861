#include "profile/communication_timer.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <numeric>

#include "core/errors.h"
#include "profile/samples.h"

namespace shardwise {

namespace {

constexpr int kLadderSizes = 7;
constexpr int kFewestRepetitions = 5;
constexpr int kMostRepetitions = 41;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Runs `before` and `once` between barriers until the time is used up, the same number of times on
// every rank; the samples are of `once`. The first run is not counted.
std::vector<double> repeat(
    CommunicationGroup& everyone,
    Seconds budget,
    const std::function<void()>& once,
    const std::function<void()>& before = [] {}) {
  std::vector<double> samples;
  everyone.barrier();
  double begin = now();
  before();
  once();
  std::array<double, 1> warm_up{now() - begin};
  everyone.control_max(warm_up);
  const int repetitions = std::clamp(static_cast<int>(budget.count / std::max(warm_up[0], 1e-6)),
                                     kFewestRepetitions,
                                     kMostRepetitions);
  for (int i = 0; i < repetitions; ++i) {
    everyone.barrier();
    before();
    begin = now();
    once();
    samples.push_back(now() - begin);
  }
  return samples;
}

WireType wire_type(Precision precision) {
  return precision == Precision::kFloat32 ? WireType::kFloat32 : WireType::kBFloat16;
}

// Send and receive buffers of one payload, and the call that moves them.
class CollectiveRun {
 public:
  CollectiveRun(CollectiveKind kind, WireType type, Bytes payload, int ranks)
      : kind_(kind), type_(type) {
    const std::int64_t elements = payload.count / wire_bytes(type);
    const std::int64_t whole = kind == CollectiveKind::kAllReduce ? elements / 2 : elements;
    count_ = std::max<std::int64_t>(kind == CollectiveKind::kAllReduce ? whole : whole / ranks, 1);
    const auto bytes = static_cast<std::size_t>(std::max(whole, count_ * ranks) * wire_bytes(type));
    send_.resize(bytes);
    receive_.resize(bytes);
  }

  void run(CommunicationGroup& group) {
    switch (kind_) {
      case CollectiveKind::kAllGather:
        group.all_gather(send_.data(), receive_.data(), count_, type_);
        break;
      case CollectiveKind::kReduceScatter:
        group.reduce_scatter(send_.data(), receive_.data(), count_, type_);
        break;
      case CollectiveKind::kAllReduce:
        group.all_reduce(send_.data(), count_, type_);
        break;
      case CollectiveKind::kAllToAll:
        group.all_to_all(send_.data(), receive_.data(), count_, type_);
        break;
      case CollectiveKind::kSlice:
        break;
    }
  }

 private:
  CollectiveKind kind_;
  WireType type_;
  std::int64_t count_ = 0;
  std::vector<char> send_;
  std::vector<char> receive_;
};

// What a rank computes between two collectives of training: a matrix product of some thousand
// operations for each element that the collective moves (a transformer of width h sharded over n
// ranks does about 18 h / n), within a tenth of a millisecond and a few.
class Work {
 public:
  explicit Work(std::int64_t elements)
      : left_(at::ones({std::clamp<std::int64_t>(
                            kOperations * elements / (2 * kWidth * kWidth), kFewestRows, kMostRows),
                        kWidth})),
        right_(at::ones({kWidth, kWidth})) {}

  void run() { at::mm_out(result_, left_, right_); }

 private:
  static constexpr std::int64_t kOperations = 2000;
  static constexpr std::int64_t kWidth = 256;
  static constexpr std::int64_t kFewestRows = 64;
  static constexpr std::int64_t kMostRows = 4096;

  at::Tensor left_;
  at::Tensor right_;
  at::Tensor result_ = at::empty({0});
};

// This rank's group among `concurrent` groups of `ranks` consecutive ranks; nullptr if in none.
std::unique_ptr<CommunicationGroup> make_own_group(Communicator& communicator,
                                                   int ranks,
                                                   int concurrent) {
  std::unique_ptr<CommunicationGroup> own;
  for (int g = 0; g < concurrent; ++g) {
    std::vector<int> members(static_cast<std::size_t>(ranks));
    std::iota(members.begin(), members.end(), g * ranks);
    std::unique_ptr<CommunicationGroup> group = communicator.make_group(members);
    if (group != nullptr) {
      own = std::move(group);
    }
  }
  return own;
}

}  // namespace

JobSummary summarize_over_ranks(const std::vector<double>& samples, CommunicationGroup& everyone) {
  std::array<double, 3> sums{0, 0, 0};  // ranks with samples, times, spreads
  if (!samples.empty()) {
    const SampleSummary own = summarize(samples);
    sums = {1, own.time.count, own.spread};
  }
  everyone.control_sum(sums);
  SHARDWISE_CHECK(sums[0] > 0, "some rank measured");
  return {Seconds(sums[1] / sums[0]), sums[2] / sums[0]};
}

std::vector<MeasuredTable::CollectiveRow> measure_collective(const RequiredCollective& required,
                                                             Communicator& communicator,
                                                             CommunicationGroup& everyone,
                                                             Seconds budget) {
  const int ranks = required.placement.ranks;
  const int concurrent = std::min(required.placement.concurrent, communicator.size() / ranks);
  const std::unique_ptr<CommunicationGroup> group = make_own_group(communicator, ranks, concurrent);
  const WireType type = wire_type(required.precision);
  const std::vector<std::int64_t> payloads = size_ladder(
      required.smallest.count, required.largest.count, kLadderSizes, 2 * ranks * wire_bytes(type));
  std::vector<MeasuredTable::CollectiveRow> rows;
  for (const std::int64_t payload : payloads) {
    CollectiveRun run(required.kind, type, Bytes(payload), ranks);
    Work work(payload / wire_bytes(type));
    const auto once = [&] {
      if (group != nullptr) {
        run.run(*group);
      }
    };
    std::vector<double> samples =
        repeat(everyone, Seconds(budget.count / static_cast<double>(payloads.size())), once, [&] {
          work.run();
        });
    if (group == nullptr) {
      samples.clear();
    }
    const JobSummary summary = summarize_over_ranks(samples, everyone);
    rows.push_back({required.kind,
                    required.precision,
                    required.placement,
                    Bytes(payload),
                    summary.time,
                    summary.spread});
  }
  return rows;
}

std::vector<MeasuredTable::TransferRow> measure_transfer(const RequiredTransfer& required,
                                                         Communicator& communicator,
                                                         CommunicationGroup& everyone,
                                                         Seconds budget) {
  const int rank = communicator.rank();
  const bool takes_part = rank < 2 * required.concurrent && (rank | 1) < communicator.size();
  const std::vector<std::int64_t> sizes =
      size_ladder(required.smallest.count, required.largest.count, kLadderSizes, 1);
  std::vector<MeasuredTable::TransferRow> rows;
  for (const std::int64_t size : sizes) {
    std::vector<char> buffer(static_cast<std::size_t>(size));
    std::vector<double> samples =
        repeat(everyone, Seconds(budget.count / static_cast<double>(sizes.size())), [&] {
          if (!takes_part) {
            return;
          }
          const std::unique_ptr<Message> message =
              rank % 2 == 0 ? communicator.post_send(buffer.data(), size, rank + 1, 0)
                            : communicator.post_receive(buffer.data(), size, rank - 1, 0);
          communicator.wait(*message);
        });
    if (!takes_part || rank % 2 == 0) {
      samples.clear();  // a transfer takes until it has arrived
    }
    const JobSummary summary = summarize_over_ranks(samples, everyone);
    rows.push_back(
        {required.level, required.concurrent, Bytes(size), summary.time, summary.spread});
  }
  return rows;
}

}  // namespace shardwise
