// DualPipeV: DualPipe (DeepSeek-V3 technical report, 2024, section 3.2.1) cut in half, so that one
// model in a V of two chunks takes the place of two in opposite directions. Stage i of P, in eight
// phases; "pair" is a forward followed by a whole backward of the other chunk, which a runtime may
// run at once (here they follow each other):
//
//   1  2 (P - 1 - i)      forwards of chunk 0
//   2  i + 1              forward of chunk 0, forward of chunk 1
//   3  P - 1 - i          input and weight part of chunk 1, forward of chunk 1
//   4  m - 2 P + i + 1    pair (forward 0, backward 1), pair (forward 1, backward 0)
//   5  P - 1 - i          backward of chunk 1, pair (forward 1, backward 0)
//   6  i + 1              backward of chunk 1, backward of chunk 0; from the middle on split, the
//                         weight parts kept
//   7  P - 1 - i          kept weight part, input part of chunk 0
//   8  i + 1              kept weight parts
#include <array>
#include <deque>

#include "core/errors.h"
#include "lower/schedule_functions.h"

namespace shardwise::internal {

namespace {

class DualPipeWriter {
 public:
  DualPipeWriter(const PipelineShape& shape, int stage) : shape_(shape), stage_(stage) {}

  StageOrder write() {
    const int after = shape_.num_stages - 1 - stage_;
    repeat(2 * after, [this] { forward(0); });
    repeat(stage_ + 1, [this] {
      forward(0);
      forward(1);
    });
    repeat(after, [this] {
      input(1);
      kept_weight();
      forward(1);
    });
    repeat(shape_.num_microbatches - 2 * shape_.num_stages + stage_ + 1, [this] {
      forward(0);
      backward(1);
      forward(1);
      backward(0);
    });
    repeat(after, [this] {
      backward(1);
      forward(1);
      backward(0);
    });
    write_turn();
    repeat(after, [this] {
      kept_weight();
      input(0);
    });
    repeat(stage_ + 1, [this] { kept_weight(); });
    return std::move(order_);
  }

 private:
  template <typename Phase>
  static void repeat(int count, Phase phase) {
    for (int i = 0; i < count; ++i) {
      phase();
    }
  }

  // Phase 6. The middle lies inside of a round in every other stage.
  void write_turn() {
    const int rounds = stage_ + 1;
    bool splits = false;
    for (int i = 0; i < rounds; ++i) {
      splits |= i == rounds / 2 && stage_ % 2 == 1;
      splits ? input(1) : backward(1);
      splits |= i == rounds / 2 && stage_ % 2 == 0;
      splits ? input(0) : backward(0);
    }
  }

  void forward(int chunk) {
    order_.push_back(forward_task(forwards_[static_cast<std::size_t>(chunk)]++, chunk));
  }
  void backward(int chunk) {
    order_.push_back(whole_task(backwards_[static_cast<std::size_t>(chunk)]++, chunk));
  }
  void input(int chunk) {
    const int microbatch = backwards_[static_cast<std::size_t>(chunk)]++;
    order_.push_back(input_task(microbatch, chunk));
    kept_.push_back(weight_task(microbatch, chunk));
  }
  void kept_weight() {
    SHARDWISE_CHECK(!kept_.empty(), "every kept weight part has its input part before it");
    order_.push_back(kept_.front());
    kept_.pop_front();
  }

  const PipelineShape& shape_;
  const int stage_;
  StageOrder order_;
  std::array<int, 2> forwards_{0, 0};
  std::array<int, 2> backwards_{0, 0};
  std::deque<StageTask> kept_;
};

}  // namespace

std::vector<StageOrder> dualpipe_v_orders(const PipelineShape& shape) {
  SHARDWISE_CHECK(shape.num_microbatches >= 2 * shape.num_stages && shape.num_chunks == 2,
                  "DualPipeV has two chunks and 2 P micro-batches or more");
  std::vector<StageOrder> orders;
  orders.reserve(static_cast<std::size_t>(shape.num_stages));
  for (int stage = 0; stage < shape.num_stages; ++stage) {
    orders.push_back(DualPipeWriter(shape, stage).write());
  }
  return orders;
}

}  // namespace shardwise::internal
