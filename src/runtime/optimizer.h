// AdamW with decoupled weight decay on flat fp32 tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace shardwise {

struct AdamW {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;  // of parameters that decay
  double clip_norm = 1.0;     // largest global gradient norm; 0: no clipping
};

// One flat piece of a parameter and its state, all fp32, of one size.
struct AdamWPiece {
  at::Tensor values;
  at::Tensor gradient;  // may be overwritten
  at::Tensor first_moment;
  at::Tensor second_moment;
  bool decays = true;
};

// Step t (from 1) with rate a on every piece, g = gradient * gradient_factor:
//
//   x <- x - a w x                       w = weight_decay, 0 for pieces that do not decay
//   m <- m + (1 - b1) (g - m),   v <- b2 v + (1 - b2) g g
//   x <- x - a / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + epsilon)
//
// Source: Loshchilov and Hutter, ICLR'19, algorithm 2, in the form and order of PyTorch's fused
// AdamW (aten::_fused_adamw_), which does the work.
void adamw_step(const AdamW& options,
                std::int64_t step,
                double learning_rate,
                double gradient_factor,
                const std::vector<AdamWPiece>& pieces);

// Factor that brings a global norm down to the largest allowed: min(1, clip / (norm + 1e-6)), as
// torch.nn.utils.clip_grad_norm_ does it.
double clipping_factor(const AdamW& options, double norm);

// Sum of squares of a contiguous fp32 tensor, in double, in a fixed order.
double sum_of_squares(const at::Tensor& tensor);

}  // namespace shardwise
