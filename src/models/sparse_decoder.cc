// A llama layer with experts instead of its MLP.
#include "models/family_llama.h"

namespace shardwise {

TensorIndex sparse_mlp(BlockBuilder& builder, TensorIndex x, const ModelConfig& config) {
  const double stddev = config.initializer_range;
  using Bias = BlockBuilder::RouterBias;
  const BlockBuilder::Routing routing =
      builder.router("router",
                     x,
                     config.num_experts,
                     config.experts_per_token,
                     config.normalize_topk,
                     stddev,
                     config.router_bias ? Bias::kPresent : Bias::kAbsent);
  const TensorIndex mixed = builder.experts("experts",
                                            x,
                                            routing,
                                            config.num_experts,
                                            config.expert_width,
                                            config.activation,
                                            stddev,
                                            stddev);
  if (config.shared_width == 0) {
    return mixed;
  }
  TensorIndex shared = gated_mlp(builder, "shared", x, config.shared_width, config);
  if (config.shared_gate) {
    const TensorIndex gate = builder.linear("shared.router",
                                            x,
                                            {{"h", config.hidden_size}},
                                            {{"g", 1, AxisSharding::kNever}},
                                            /*bias=*/false,
                                            stddev);
    shared = builder.row_gate("shared.scale", shared, gate, "sigmoid");
  }
  return builder.add("shared.add", mixed, shared);
}

Block sparse_decoder(const ModelConfig& config,
                     const BatchShape& shape,
                     const LayerTraits& traits) {
  BlockBuilder builder("decoder", shape.microbatch, shape.sequence);
  const TensorIndex y = llama_attention_half(builder, config, traits.sliding_window);
  const TensorIndex normed = builder.rms_norm("mlp.norm", y, config.norm_epsilon);
  const TensorIndex mixed = traits.is_sparse
                                ? sparse_mlp(builder, normed, config)
                                : gated_mlp(builder, "mlp", normed, config.ffn_width, config);
  builder.boundary_output(builder.add("mlp.add", y, mixed));
  return std::move(builder).build();
}

}  // namespace shardwise
