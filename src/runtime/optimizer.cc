#include "runtime/optimizer.h"

#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/full.h>

#include <algorithm>
#include <array>

#include "core/errors.h"

namespace shardwise {

void adamw_step(const AdamW& options,
                std::int64_t step,
                double learning_rate,
                double gradient_factor,
                const std::vector<AdamWPiece>& pieces) {
  std::optional<at::Tensor> divisor;  // the kernel divides the gradient by it
  if (gradient_factor != 1.0) {
    divisor = at::full({}, 1.0 / gradient_factor, at::kFloat);
  }
  for (const bool decays : {true, false}) {
    std::vector<at::Tensor> values;
    std::vector<at::Tensor> gradients;
    std::vector<at::Tensor> first_moments;
    std::vector<at::Tensor> second_moments;
    std::vector<at::Tensor> steps;
    for (const AdamWPiece& piece : pieces) {
      if (piece.decays == decays && piece.values.numel() > 0) {
        values.push_back(piece.values);
        gradients.push_back(piece.gradient);
        first_moments.push_back(piece.first_moment);
        second_moments.push_back(piece.second_moment);
        steps.push_back(at::full({}, static_cast<double>(step), at::kFloat));
      }
    }
    if (values.empty()) {
      continue;
    }
    at::_fused_adamw_(values,
                      gradients,
                      first_moments,
                      second_moments,
                      {},
                      steps,
                      learning_rate,
                      options.beta1,
                      options.beta2,
                      decays ? options.weight_decay : 0.0,
                      options.epsilon,
                      /*amsgrad=*/false,
                      /*maximize=*/false,
                      divisor);
  }
}

double clipping_factor(const AdamW& options, double norm) {
  return options.clip_norm > 0 ? std::min(1.0, options.clip_norm / (norm + 1e-6)) : 1.0;
}

double sum_of_squares(const at::Tensor& tensor) {
  SHARDWISE_CHECK(tensor.is_contiguous() && tensor.scalar_type() == at::kFloat,
                  "expected a contiguous fp32 tensor");
  // Independent running sums, so that the processor need not wait for each addition.
  constexpr std::size_t kLanes = 16;
  std::array<double, kLanes> sums{};
  const float* data = tensor.const_data_ptr<float>();
  const auto count = static_cast<std::size_t>(tensor.numel());
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const double value = data[i + lane];
      sums[lane] += value * value;
    }
  }
  double total = 0;
  for (const double sum : sums) {
    total += sum;
  }
  for (; i < count; ++i) {
    total += static_cast<double>(data[i]) * data[i];
  }
  return total;
}

}  // namespace shardwise
