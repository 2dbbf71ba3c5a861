// Builds the ops of a block one after the other: the only place where named axes are written down.
// Model families (src/models) say which ops; this says what their axes are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/op.h"

namespace shardwise {

class BlockBuilder {
 public:
  BlockBuilder(std::string block_name, std::int64_t microbatch, std::int64_t sequence);

  // Boundary input [b, s, width], tokens and targets [b, s].
  TensorIndex boundary_input(std::int64_t width);
  TensorIndex tokens();
  TensorIndex targets();
  void boundary_output(TensorIndex tensor);

  // Axes of one side of a linear besides b and s, e.g. {{"n", 8}, {"r", 4}, {"d", 64, kNever}}.
  using Axes = std::vector<LoopAxis>;

  // Parameter tensors are called op_name + ".weight" / ".bias". `stddev` is the start of weights.
  // Table [v, h]; v is kPadded. The table may be shared with a head through Graph::tied.
  TensorIndex embedding(const std::string& op_name,
                        TensorIndex tokens,
                        std::int64_t vocabulary,
                        std::int64_t width,
                        double stddev);
  TensorIndex position_embedding(const std::string& op_name,
                                 TensorIndex x,
                                 std::int64_t positions,
                                 double stddev);
  // x [b, s, in...] -> [b, s, out...]; weight [out..., in...], bias [out...] (epilogue operand).
  TensorIndex linear(const std::string& op_name,
                     TensorIndex x,
                     const Axes& in,
                     const Axes& out,
                     bool bias,
                     double stddev);
  // q [b, s, n, r, d], k and v [b, s, n, d] -> [b, s, n, r, d]
  TensorIndex attention(const std::string& op_name,
                        TensorIndex q,
                        TensorIndex k,
                        TensorIndex v,
                        bool causal,
                        double scale,
                        std::int64_t sliding_window);
  TensorIndex layer_norm(const std::string& op_name, TensorIndex x, double epsilon);
  TensorIndex rms_norm(const std::string& op_name,
                       TensorIndex x,
                       double epsilon);  // last dimension
  // `attributes`: rope_theta, rotary_dims, rope_type, rope_parameters.
  TensorIndex rotary(const std::string& op_name, TensorIndex x, const OpAttributes& attributes);
  TensorIndex activation(const std::string& op_name, TensorIndex x, const std::string& function);
  TensorIndex gated_activation(const std::string& op_name,
                               TensorIndex gate,
                               TensorIndex up,
                               const std::string& function);
  TensorIndex add(const std::string& op_name, TensorIndex x, TensorIndex y);
  // logits [b, s, v] -> scalar loss
  TensorIndex cross_entropy(const std::string& op_name, TensorIndex logits, TensorIndex targets);

  struct Routing {
    TensorIndex weights;  // [b, s, k]
    TensorIndex experts;  // [b, s, k], ids
  };
  Routing router(const std::string& op_name,
                 TensorIndex x,
                 std::int64_t experts,
                 std::int64_t experts_per_token,
                 bool normalize_topk,
                 double stddev);
  // Gated experts: parameters op_name + ".gate" [e, f, h], ".up" [e, f, h], ".down" [e, h, f].
  TensorIndex experts(const std::string& op_name,
                      TensorIndex x,
                      const Routing& routing,
                      std::int64_t num_experts,
                      std::int64_t ffn_width,
                      const std::string& function,
                      double stddev,
                      double down_stddev);

  Block build() &&;

 private:
  TensorIndex add_tensor(Tensor tensor);
  TensorIndex add_activation(const std::string& name, std::vector<LoopAxis> axes);
  TensorIndex add_integers(const std::string& name, TensorKind kind, std::vector<LoopAxis> axes);
  TensorIndex add_parameter(const std::string& name,
                            std::vector<std::int64_t> shape,
                            Initializer initializer,
                            double stddev,
                            bool decays);
  TensorIndex norm(OpKind kind, const std::string& op_name, TensorIndex x, double epsilon);
  TensorIndex elementwise(OpKind kind,
                          const std::string& op_name,
                          const std::vector<TensorIndex>& inputs,
                          std::vector<LoopAxis> loop_axes,
                          const OpAttributes& attributes);
  LoopAxis batch_axis() const;
  LoopAxis sequence_axis() const;

  Block block_;
  std::int64_t microbatch_;
  std::int64_t sequence_;
  // Loop axes of every activation's dimensions, so that later ops agree with earlier ones.
  std::vector<std::vector<LoopAxis>> dims_;
};

}  // namespace shardwise
