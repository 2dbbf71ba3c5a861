#include "profile/communication_timer.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <array>
#include <memory>
#include <numeric>

#include "core/errors.h"
#include "core/stopwatch.h"
#include "profile/samples.h"

namespace shardwise {

namespace {

constexpr int kLadderSizes = 7;
constexpr int kFewestRepetitions = 5;
constexpr int kMostRepetitions = 41;

// Runs `before` and `once` between barriers until the time is used up, the same number of times on
// every rank; the samples are of `once`. The first run is not counted.
std::vector<double> repeat(
    CommunicationGroup& everyone,
    Seconds budget,
    const std::function<void()>& once,
    const std::function<void()>& before = [] {}) {
  std::vector<double> samples;
  everyone.barrier();
  std::array<double, 1> warm_up{time_of([&] {
                                  before();
                                  once();
                                }).count};
  everyone.control_max(warm_up);
  const int repetitions = static_cast<int>(std::clamp<double>(
      budget.count / std::max(warm_up[0], 1e-6), kFewestRepetitions, kMostRepetitions));
  for (int i = 0; i < repetitions; ++i) {
    everyone.barrier();
    before();
    samples.push_back(time_of(once).count);
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

// What a rank computes between two collectives of training: the two products of a feed-forward
// layer and the activation between them, bound in turn by arithmetic and by memory. A transformer
// of width h sharded over n ranks does some thousand operations for each element that a collective
// moves (about 9 h / n); ranks drift apart while they do, and the collective waits for the last.
class Work {
 public:
  explicit Work(std::int64_t elements)
      : input_(
            at::ones({std::clamp<std::int64_t>(
                          kOperations * elements / (4 * kWidth * kInner), kFewestRows, kMostRows),
                      kWidth})),
        up_(at::ones({kInner, kWidth})),
        down_(at::ones({kWidth, kInner})) {}

  void run() { result_ = at::linear(at::gelu(at::linear(input_, up_)), down_); }

 private:
  static constexpr std::int64_t kOperations = 1000;
  static constexpr std::int64_t kWidth = 256;
  static constexpr std::int64_t kInner = 1024;
  static constexpr std::int64_t kFewestRows = 8;
  static constexpr std::int64_t kMostRows = 4096;  // some 50 ms

  at::Tensor input_;
  at::Tensor up_;
  at::Tensor down_;
  at::Tensor result_;
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

JobSummary summarize_over_ranks(const std::vector<double>& samples,
                                double counted,
                                CommunicationGroup& everyone) {
  std::array<double, 3> sums{0, 0, 0};  // ranks with samples, times, spreads
  if (!samples.empty()) {
    const SampleSummary own = summarize(samples, counted);
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
  const std::vector<std::int64_t> payloads =
      size_ladder(required.smallest.count,
                  required.largest.count,
                  kLadderSizes,
                  std::int64_t{2} * ranks * wire_bytes(type));
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
    const JobSummary summary = summarize_over_ranks(samples, kCountedOfWaiting, everyone);
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
    const JobSummary summary = summarize_over_ranks(samples, kCountedOfWaiting, everyone);
    rows.push_back(
        {required.level, required.concurrent, Bytes(size), summary.time, summary.spread});
  }
  return rows;
}

}  // namespace shardwise
