// What each overlap of communication is worth, against an ablation of others.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cost/device_preset.h"
#include "report/published_run.h"

namespace shardwise {
namespace {

// Jiang et al., MegaScale, NSDI'24, table 3: GPT-3 175B on 256 A100, batch 256, attention and MLP
// side by side; tensor, pipeline and data overlaps switched on one after the other in Megatron-LM,
// which overlaps in backward already. Their section 6: tp 8, pp 8, six chunks.
class Ablation {
 public:
  Ablation() {
    shape_.layers = 96;
    shape_.hidden = 12288;
    shape_.heads = 128;
    shape_.key_value_heads = 128;
    shape_.head_width = 96;
    shape_.feed_forward = 49152;
    shape_.vocabulary = 64000;
    shape_.parallel = true;
    layout_.grid.tensor = 8;
    layout_.grid.pipeline = 8;
    layout_.grid.data = 4;
    layout_.grid.chunks = 6;
    layout_.grid.schedule = Schedule::kInterleaved;
    layout_.grid.sequence_parallel = true;
    layout_.grid.zero = 1;
    layout_.batch = 256;
    layout_.sequence = 2048;
    execution_.state = StateOverlap::kNothing;
    execution_.layer = LayerOverlap::kInputGradients;
    execution_.gathers_again = true;
  }

  Execution& execution() { return execution_; }

  // Model FLOPs a second over the peak, in points of a hundred.
  double utilisation() const {
    RunModel model(shape_, layout_, execution_, cluster_of(*find_node("dgx-a100"), 32, "a100"));
    const double seconds = to_seconds(model.evaluate().step_time).count;
    const double tokens = 256.0 * 2048;
    const double attention = 12.0 * 96 * 12288 * 2048;  // a token's scores, forward and backward
    return 100 * tokens * (6 * shape_.parameters() + attention) / seconds / (256 * 312e12);
  }

 private:
  DecoderShape shape_;
  RunLayout layout_;
  Execution execution_;
};

TEST(Overlap, EachIsWorthWhatMegaScaleMeasured) {
  Ablation run;
  const double none = run.utilisation();
  run.execution().layer = LayerOverlap::kAll;
  const double tensor = run.utilisation();
  run.execution().overlaps_pipeline = true;
  const double pipeline = run.utilisation();
  run.execution().state = StateOverlap::kCompute;
  const double data = run.utilisation();
  fmt::print("MFU {:.2f}: tensor {:+.2f}, pipeline {:+.2f}, data {:+.2f} points\n",
             none,
             tensor - none,
             pipeline - tensor,
             data - pipeline);
  EXPECT_NEAR(tensor - none, 2.2, 1.5);
  EXPECT_NEAR(pipeline - tensor, 2.5, 1.5);
  EXPECT_NEAR(data - pipeline, 1.5, 1.5);
}

}  // namespace
}  // namespace shardwise
