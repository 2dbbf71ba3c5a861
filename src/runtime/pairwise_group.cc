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

std::int64_t total_count(std::span<const CollectivePart> parts) {
  std::int64_t count = 0;
  for (const CollectivePart& part : parts) {
    count += part.count;
  }
  return count;
}

class PairwiseGroup final : public CommunicationGroup {
 public:
  using CommunicationGroup::all_gather;
  using CommunicationGroup::reduce_scatter;

  PairwiseGroup(std::unique_ptr<Channel> channel, PayloadCounter& payload)
      : channel_(std::move(channel)),
        payload_(payload),
        index_(channel_->index()),
        size_(channel_->size()) {}

  int index() const override { return index_; }
  int size() const override { return size_; }

  void all_gather(std::span<const CollectivePart> parts, WireType type) override {
    if (size_ > 1) {
      payload_.all_gather += total_count(parts) * wire_bytes(type) * size_;
    }
    gather_blocks(parts, wire_bytes(type), Traffic::kAllGather, "all-gather");
  }

  void reduce_scatter(std::span<const CollectivePart> parts, WireType type) override {
    if (size_ > 1) {
      payload_.reduce_scatter += total_count(parts) * wire_bytes(type) * size_;
    }
    reduce_blocks(parts, type, Traffic::kReduceScatter, "reduce-scatter");
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
    const CollectivePart part{&mark, marks.data(), 1};
    gather_blocks({&part, 1}, 1, Traffic::kControl, "barrier");
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

  // `width`: bytes of an element.
  void gather_blocks(std::span<const CollectivePart> parts,
                     std::int64_t width,
                     Traffic tag,
                     const char* operation) {
    for (const CollectivePart& part : parts) {
      const std::int64_t bytes = part.count * width;
      if (bytes == 0) {
        continue;
      }
      Bytewise* own = at(part.receive, index_ * bytes);
      if (own != part.send) {
        std::memcpy(own, part.send, static_cast<std::size_t>(bytes));
      }
      for (int step = 1; step < size_; ++step) {
        const int from = (index_ + size_ - step) % size_;
        start_receive(0, at(part.receive, from * bytes), bytes, from, tag);
      }
      for (int step = 1; step < size_; ++step) {
        start_send(0, own, bytes, partner(step), tag);
      }
    }
    channel_->finish(0, operation);
  }

  // Elements [begin, begin + count) of every block of a part.
  struct Piece {
    const CollectivePart* part = nullptr;
    std::int64_t begin = 0;
    std::int64_t count = 0;
  };

  static std::vector<Piece> pieces_of(std::span<const CollectivePart> parts, std::int64_t longest) {
    std::vector<Piece> pieces;
    for (const CollectivePart& part : parts) {
      for (std::int64_t begin = 0; begin < part.count; begin += longest) {
        pieces.push_back({&part, begin, std::min(longest, part.count - begin)});
      }
    }
    return pieces;
  }

  // receive = sum over members of their block index_. `receive` may be block index_ of `send`.
  void reduce_blocks(std::span<const CollectivePart> parts,
                     WireType type,
                     Traffic tag,
                     const char* operation) {
    const std::int64_t width = wire_bytes(type);
    const std::vector<Piece> pieces = pieces_of(parts, kPieceBytes / width);
    std::int64_t longest = 0;
    for (const Piece& piece : pieces) {
      longest = std::max(longest, piece.count);
    }
    const auto slots = static_cast<std::size_t>(size_);
    staging_.resize(static_cast<std::size_t>(Channel::kBatches * longest * width) * (slots - 1));

    // Staging of batch k: one piece of every other member, in partner order.
    const auto staged = [&](int batch, int step) {
      return at(staging_.data(), ((batch * (size_ - 1)) + (step - 1)) * longest * width);
    };
    const auto block = [&](const Piece& piece, int member) {
      return at(piece.part->send, (member * piece.part->count + piece.begin) * width);
    };
    const auto start = [&](int batch, const Piece& piece) {
      for (int step = 1; step < size_; ++step) {
        channel_->receive(batch, staged(batch, step), piece.count * width, partner(step), tag);
      }
      for (int step = 1; step < size_; ++step) {
        const int to = partner(step);
        channel_->send(batch, block(piece, to), piece.count * width, to, tag);
      }
    };

    std::vector<const void*> blocks(slots);
    for (std::size_t p = 0; p < pieces.size(); ++p) {
      const int batch = static_cast<int>(p % Channel::kBatches);
      if (p == 0) {
        start(batch, pieces[p]);
      }
      if (p + 1 < pieces.size()) {
        start(1 - batch, pieces[p + 1]);
      }
      channel_->finish(batch, operation);
      const Piece& piece = pieces[p];
      blocks[static_cast<std::size_t>(index_)] = block(piece, index_);
      for (int step = 1; step < size_; ++step) {
        blocks[static_cast<std::size_t>(partner(step))] = staged(batch, step);
      }
      sum_blocks(blocks, at(piece.part->receive, piece.begin * width), piece.count, type);
    }
  }

  void all_reduce_blocks(void* data, std::int64_t block, WireType type) {
    void* own = at(data, index_ * block * wire_bytes(type));
    const CollectivePart reduced{data, own, block};
    reduce_blocks({&reduced, 1}, type, Traffic::kAllReduce, "all-reduce");
    const CollectivePart gathered{own, data, block};
    gather_blocks({&gathered, 1}, wire_bytes(type), Traffic::kAllReduce, "all-reduce");
  }

  std::vector<double> control_gather(std::span<const double> values, const char* operation) {
    std::vector<double> all(values.size() * static_cast<std::size_t>(size_));
    const CollectivePart part{values.data(), all.data(), static_cast<std::int64_t>(values.size())};
    gather_blocks({&part, 1}, sizeof(double), Traffic::kControl, operation);
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
