// How the software that runs a plan runs it: what no layout says. The default is this project's own
// runtime; published runs state theirs (report/published_row.h).
#pragma once

#include <cstdint>

namespace shardwise {

// Format of linear layers' products. The head's and attention's stay in the compute type.
enum class MatrixFormat : std::uint8_t { kCompute, kFloat8, kFloat8Blocks, kFloat4Blocks };

// kFlash: scores never reach memory (Dao, FlashAttention-2, 2023). kTuned: the same, written for
// the device's own units (Shah et al., FlashAttention-3, 2024). kStored: scores are kept for
// backward. kRecomputed: they are made again there (Korthikanti et al., 2022, section 5).
enum class AttentionKernel : std::uint8_t { kFlash, kTuned, kStored, kRecomputed };

// kEager: every step of the framework is a kernel of its own.
enum class Elementwise : std::uint8_t { kEager, kFused };

// Behind what reductions of gradients and gathers of parameters run. kOwnOp: a reduction behind its
// op's own backward (CostTable::overlap_fraction), gathers behind nothing. kCompute: behind all
// kernels that run until it is needed. kNothing: they are waited for.
enum class StateOverlap : std::uint8_t { kOwnOp, kCompute, kNothing };

// Which collectives inside a layer run behind its kernels. kInputGradients: in backward, what is
// reduced for the gradients of inputs, behind the weight gradients, and what is gathered again,
// behind the gradients of inputs (Megatron-LM's linear layers from 2022 on). kAll: products are cut
// up and the others hide as well (Jiang et al., MegaScale, NSDI'24, section 3.2).
enum class LayerOverlap : std::uint8_t { kNothing, kInputGradients, kAll };

struct Execution {
  MatrixFormat format = MatrixFormat::kCompute;
  AttentionKernel attention = AttentionKernel::kFlash;
  Elementwise elementwise = Elementwise::kFused;
  bool dropout = false;  // after attention and MLP
  // Backward sends tokens to their experts and computes the experts' first products again; else
  // both are kept.
  bool repeats_expert_input = true;
  // Full recomputation runs the layer's forward again as it stands (torch.utils.checkpoint); else
  // only what backward needs, which spares the last product and its collective.
  bool repeats_whole_layers = false;
  // Experts' products in block formats are one kernel, which also activates and brings to the
  // format what it writes; loads stay on the device and the step is one captured graph, so no host
  // waits.
  bool fuses_experts = false;
  StateOverlap state = StateOverlap::kOwnOp;
  LayerOverlap layer = LayerOverlap::kNothing;
  bool overlaps_experts = false;   // exchange of tokens behind the layer's kernels
  bool overlaps_pipeline = false;  // messages between stages behind kernels
  // What a layer gathers from shards for its products is kept as shards and gathered again in
  // backward (Korthikanti et al., 2022, section 4.2.2).
  bool gathers_again = false;
  // Share of communication behind kernels that shows all the same: it takes units of the device.
  double exposed = 0;
  // k > 1: a token that goes to k experts travels once to a rank or node that holds several.
  int token_copies = 1;
  int gradient_bytes = 4;  // of a kept and reduced gradient element
  double year = 2025;      // of the software, with its fraction
};

}  // namespace shardwise
