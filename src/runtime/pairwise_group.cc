#include "runtime/pairwise_group.h"

#include <algorithm>
#include <cstring>

#include "core/errors.h"
#include "runtime/reduction.h"

namespace shardwise {
namespace {

using Bytewise = unsigned char;

// Bytes of one piece of a block that is added on arrival: small enough to stay in the second-level
// cache beside its partners.
constexpr std::int64_t kPieceBytes = std::int64_t{256} * 1024;
// No message is longer: MPI counts in int.
constexpr std::int64_t kLongestMessage = std::int64_t{1} << 30;

const Bytewise* at(const void* data, std::int64_t offset) {
  return static_cast<const Bytewise*>(data) + offset;
}
Bytewise* at(void* data, std::int64_t offset) { return static_cast<Bytewise*>(data) + offset; }

class PairwiseGroup final : public CommunicationGroup {
 public:
  PairwiseGroup(std::unique_ptr<Channel> channel, PayloadCounter& payload)
      : channel_(std::move(channel)),
        payload_(payload),
        index_(channel_->index()),
        size_(channel_->size()) {}

  int index() const override { return index_; }
  int size() const override { return size_; }

  void all_gather(const void* send, void* receive, std::int64_t count, WireType type) override {
    const std::int64_t bytes = count * wire_bytes(type);
    if (size_ > 1) {
      payload_.all_gather += bytes * size_;
    }
    gather_blocks(send, receive, bytes, Traffic::kAllGather, "all-gather");
  }

  void reduce_scatter(const void* send, void* receive, std::int64_t count, WireType type) override {
    if (size_ > 1) {
      payload_.reduce_scatter += count * wire_bytes(type) * size_;
    }
    reduce_blocks(send, receive, count, type, Traffic::kReduceScatter, "reduce-scatter");
  }

  void all_reduce(void* data, std::int64_t count, WireType type) override {
    if (size_ == 1 || count == 0) {
      return;
    }
    const std::int64_t block = (count + size_ - 1) / size_;
    const std::int64_t bytes = block * wire_bytes(type);
    payload_.all_reduce += 2 * bytes * size_;
    if (block * size_ == count) {
      all_reduce_blocks(data, block, type);
      return;
    }
    padded_.assign(static_cast<std::size_t>(bytes * size_), 0);
    std::memcpy(padded_.data(), data, static_cast<std::size_t>(count * wire_bytes(type)));
    all_reduce_blocks(padded_.data(), block, type);
    std::memcpy(data, padded_.data(), static_cast<std::size_t>(count * wire_bytes(type)));
  }

  void all_to_all(const void* send, void* receive, std::int64_t count, WireType type) override {
    const std::vector<std::int64_t> counts(static_cast<std::size_t>(size_), count);
    exchange_blocks(send, counts, receive, counts, type, Traffic::kAllToAll);
  }

  void all_to_all_variable(const void* send,
                           std::span<const std::int64_t> send_counts,
                           void* receive,
                           std::span<const std::int64_t> receive_counts,
                           WireType type) override {
    exchange_blocks(send, send_counts, receive, receive_counts, type, Traffic::kVariableAllToAll);
    if (size_ > 1) {
      payload_.all_to_all_kept += send_counts[static_cast<std::size_t>(index_)] * wire_bytes(type);
    }
  }

  void control_sum(std::span<double> values) override {
    const std::vector<double> all = control_gather(values, "control sum");
    for (std::size_t v = 0; v < values.size(); ++v) {
      double sum = 0;
      for (std::size_t m = 0; m < static_cast<std::size_t>(size_); ++m) {
        sum += all[m * values.size() + v];
      }
      values[v] = sum;
    }
  }

  void control_max(std::span<double> values) override {
    const std::vector<double> all = control_gather(values, "control maximum");
    for (std::size_t i = 0; i < all.size(); ++i) {
      double& value = values[i % values.size()];
      value = std::max(value, all[i]);
    }
  }

  void control_exchange(std::span<const std::int64_t> send,
                        std::span<std::int64_t> receive) override {
    for (int j = 0; j < size_; ++j) {
      const auto slot = static_cast<std::size_t>(j);
      if (j == index_) {
        receive[slot] = send[slot];
        continue;
      }
      start_receive(0, &receive[slot], sizeof(std::int64_t), j, Traffic::kControl);
      start_send(0, &send[slot], sizeof(std::int64_t), j, Traffic::kControl);
    }
    channel_->finish(0, "exchange of counts");
  }

  void barrier() override {
    std::vector<Bytewise> marks(static_cast<std::size_t>(size_), 0);
    const Bytewise mark = 1;
    gather_blocks(&mark, marks.data(), 1, Traffic::kControl, "barrier");
  }

 private:
  void start_send(int batch, const void* data, std::int64_t bytes, int member, Traffic tag) {
    for (std::int64_t begin = 0; begin < bytes; begin += kLongestMessage) {
      channel_->send(batch, at(data, begin), std::min(kLongestMessage, bytes - begin), member, tag);
    }
  }

  void start_receive(int batch, void* data, std::int64_t bytes, int member, Traffic tag) {
    for (std::int64_t begin = 0; begin < bytes; begin += kLongestMessage) {
      channel_->receive(
          batch, at(data, begin), std::min(kLongestMessage, bytes - begin), member, tag);
    }
  }

  void exchange_blocks(const void* send,
                       std::span<const std::int64_t> send_counts,
                       void* receive,
                       std::span<const std::int64_t> receive_counts,
                       WireType type,
                       Traffic tag) {
    const std::int64_t width = wire_bytes(type);
    std::int64_t send_offset = 0;
    std::int64_t receive_offset = 0;
    const void* own_send = nullptr;
    void* own_receive = nullptr;
    for (int j = 0; j < size_; ++j) {
      const std::int64_t out = send_counts[static_cast<std::size_t>(j)] * width;
      const std::int64_t in = receive_counts[static_cast<std::size_t>(j)] * width;
      if (j == index_) {
        own_send = at(send, send_offset);
        own_receive = at(receive, receive_offset);
      } else {
        start_receive(0, at(receive, receive_offset), in, j, tag);
        start_send(0, at(send, send_offset), out, j, tag);
      }
      send_offset += out;
      receive_offset += in;
    }
    if (size_ > 1) {
      payload_.all_to_all += send_offset;
    }
    const std::int64_t own = send_counts[static_cast<std::size_t>(index_)] * width;
    SHARDWISE_CHECK(receive_counts[static_cast<std::size_t>(index_)] * width == own,
                    "a member's counts for itself differ");
    if (own > 0) {
      std::memcpy(own_receive, own_send, static_cast<std::size_t>(own));
    }
    channel_->finish(0, "all-to-all");
  }

  // The next partners in turn, so that members do not all write to the same one first.
  int partner(int step) const { return (index_ + step) % size_; }

  void gather_blocks(
      const void* send, void* receive, std::int64_t bytes, Traffic tag, const char* operation) {
    if (bytes == 0) {
      return;
    }
    Bytewise* own = at(receive, index_ * bytes);
    if (own != send) {
      std::memcpy(own, send, static_cast<std::size_t>(bytes));
    }
    for (int step = 1; step < size_; ++step) {
      const int from = (index_ + size_ - step) % size_;
      start_receive(0, at(receive, from * bytes), bytes, from, tag);
    }
    for (int step = 1; step < size_; ++step) {
      start_send(0, own, bytes, partner(step), tag);
    }
    channel_->finish(0, operation);
  }

  // receive = sum over members of their block index_. `receive` may be block index_ of `send`.
  void reduce_blocks(const void* send,
                     void* receive,
                     std::int64_t count,
                     WireType type,
                     Traffic tag,
                     const char* operation) {
    const std::int64_t width = wire_bytes(type);
    const std::int64_t piece = std::min(count, kPieceBytes / width);
    if (count == 0) {
      return;
    }
    const auto slots = static_cast<std::size_t>(size_);
    staging_.resize(static_cast<std::size_t>(Channel::kBatches * piece * width) * (slots - 1));

    // Staging of batch k: one piece of every other member, in partner order.
    const auto staged = [&](int batch, int step) {
      return at(staging_.data(), ((batch * (size_ - 1)) + (step - 1)) * piece * width);
    };
    const auto start = [&](int batch, std::int64_t begin) {
      const std::int64_t bytes = std::min(piece, count - begin) * width;
      for (int step = 1; step < size_; ++step) {
        channel_->receive(batch, staged(batch, step), bytes, partner(step), tag);
      }
      for (int step = 1; step < size_; ++step) {
        const int to = partner(step);
        channel_->send(batch, at(send, (to * count + begin) * width), bytes, to, tag);
      }
    };

    std::vector<const void*> blocks(slots);
    int batch = 0;
    start(batch, 0);
    for (std::int64_t begin = 0; begin < count; begin += piece) {
      if (begin + piece < count) {
        start(1 - batch, begin + piece);
      }
      channel_->finish(batch, operation);
      blocks[static_cast<std::size_t>(index_)] = at(send, (index_ * count + begin) * width);
      for (int step = 1; step < size_; ++step) {
        blocks[static_cast<std::size_t>(partner(step))] = staged(batch, step);
      }
      sum_blocks(blocks, at(receive, begin * width), std::min(piece, count - begin), type);
      batch = 1 - batch;
    }
  }

  void all_reduce_blocks(void* data, std::int64_t block, WireType type) {
    const std::int64_t bytes = block * wire_bytes(type);
    void* own = at(data, index_ * bytes);
    reduce_blocks(data, own, block, type, Traffic::kAllReduce, "all-reduce");
    gather_blocks(own, data, bytes, Traffic::kAllReduce, "all-reduce");
  }

  std::vector<double> control_gather(std::span<const double> values, const char* operation) {
    std::vector<double> all(values.size() * static_cast<std::size_t>(size_));
    gather_blocks(values.data(),
                  all.data(),
                  static_cast<std::int64_t>(values.size_bytes()),
                  Traffic::kControl,
                  operation);
    return all;
  }

  std::unique_ptr<Channel> channel_;
  PayloadCounter& payload_;
  int index_;
  int size_;
  std::vector<Bytewise> staging_;
  std::vector<Bytewise> padded_;
};

}  // namespace

std::unique_ptr<CommunicationGroup> make_pairwise_group(std::unique_ptr<Channel> channel,
                                                        PayloadCounter& payload) {
  return std::make_unique<PairwiseGroup>(std::move(channel), payload);
}

}  // namespace shardwise
