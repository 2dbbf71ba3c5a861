// Builds the ops of a block one after the other: the only place where named axes are written down.
// Model families (src/models) say which ops; this says what their axes are.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "graph/op.h"

namespace shardwise {

class BlockBuilder {
 public:
  BlockBuilder(std::string block_name, std::int64_t microbatch, std::int64_t sequence);

  // Axes of a tensor or of one side of a linear, e.g. {{"n", 8}, {"r", 4}, {"d", 64, kNever}}.
  using Axes = std::vector<LoopAxis>;

  // Boundary input [b, s, width] or [b, axes...], tokens and targets [b, s], labels [b, 1].
  TensorIndex boundary_input(std::int64_t width);
  TensorIndex boundary_input(const std::string& name, const Axes& axes);
  TensorIndex tokens(const std::string& name = "tokens");
  TensorIndex token_pairs();  // [b, s, 2]: of encoder and decoder
  TensorIndex targets();
  TensorIndex labels();
  // Pixels [b, channels, size, size] of the data.
  TensorIndex images(std::int64_t channels, std::int64_t size);
  void boundary_output(TensorIndex tensor);

  // Parameter tensors are called op_name + ".weight" / ".bias". `stddev` is the start of weights.
  // One row of the table [v, h] for each token; v is kPadded. The table may be shared with a head
  // through Graph::tied.
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
  struct AttentionSettings {
    bool causal = true;
    double scale = 1;
    std::int64_t sliding_window = 0;
    double softcap = 0;  // 0: none; else scores become softcap tanh(score / softcap)
  };
  // q [b, s, n, r, d], k and v [b, t, n, d] -> [b, s, n, r, d]
  TensorIndex attention(const std::string& op_name,
                        TensorIndex q,
                        TensorIndex k,
                        TensorIndex v,
                        const AttentionSettings& settings);
  // The same with a learned bias for each head and bucket of key - query: table [buckets, n],
  // parameter op_name + ".bias". r = 1.
  TensorIndex relative_attention(const std::string& op_name,
                                 TensorIndex q,
                                 TensorIndex k,
                                 TensorIndex v,
                                 std::int64_t buckets,
                                 const AttentionSettings& settings,
                                 double stddev);
  // q [b, s, n, d], keys without position [b, t, n, c], rotary keys [b, t, p] that all heads share
  // (d = c + p), v [b, t, n, w] -> [b, s, n, w]
  TensorIndex latent_attention(const std::string& op_name,
                               TensorIndex q,
                               TensorIndex k,
                               TensorIndex k_rotary,
                               TensorIndex v,
                               const AttentionSettings& settings);
  // Attention inside windows of `window` x `window` patches, with a bias for each head and offset:
  // q, k, v [b, s, n, d], parameter op_name + ".bias" [(2 window - 1)^2, n] -> [b, s, n, d].
  TensorIndex window_attention(const std::string& op_name,
                               TensorIndex q,
                               TensorIndex k,
                               TensorIndex v,
                               std::int64_t window,
                               double stddev);
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
  // x and y [b, s, h] <-> [b, s, 2, h]
  TensorIndex stack(const std::string& op_name, TensorIndex x, TensorIndex y);
  std::pair<TensorIndex, TensorIndex> unstack(const std::string& op_name, TensorIndex pair);
  // y [b, s, h] times function(g) of g [b, s, 1]
  TensorIndex row_gate(const std::string& op_name,
                       TensorIndex y,
                       TensorIndex gate,
                       const std::string& function);

  // Images (block_builder_vision.cc).
  // Squares of `patch` x `patch` pixels -> [b, s, width]; weight [width, channels, patch, patch].
  TensorIndex patch_embedding(const std::string& op_name,
                              TensorIndex images,
                              std::int64_t patch,
                              std::int64_t width,
                              double stddev);
  // Puts a learned token, parameter op_name + ".weight" [h], before the others: s + 1 tokens.
  TensorIndex class_token(const std::string& op_name, TensorIndex x, double stddev);
  // Squares of 2 x 2 neighbours side by side: [b, s, h] -> [b, s / 4, 4 h].
  TensorIndex patch_merge(const std::string& op_name, TensorIndex x);
  // [b, s, h] -> [b, 1, h]; function "first" (token) or "mean".
  TensorIndex pool(const std::string& op_name, TensorIndex x, const std::string& function);
  // [b, c, y, x] -> [b, 1, c], mean over the map.
  TensorIndex global_pool(const std::string& op_name, TensorIndex x);
  // [b, c, y, x] -> [b, o, y / stride, x / stride], rounded up; weight [o, c, kernel, kernel].
  TensorIndex conv2d(const std::string& op_name,
                     TensorIndex x,
                     std::int64_t channels,
                     std::int64_t kernel,
                     std::int64_t stride,
                     double stddev);
  // Statistics over b, y and x of the whole micro-batch; parameters ".weight" and ".bias" [c].
  TensorIndex batch_norm(const std::string& op_name, TensorIndex x, double epsilon);
  // Largest of kernel x kernel neighbours, every `stride` pixels.
  TensorIndex max_pool(const std::string& op_name,
                       TensorIndex x,
                       std::int64_t kernel,
                       std::int64_t stride);

  // logits [b, s, v] -> scalar loss
  TensorIndex cross_entropy(const std::string& op_name, TensorIndex logits, TensorIndex targets);

  enum class RouterBias { kAbsent, kPresent };  // parameter op_name + ".bias" [e]
  struct Routing {
    TensorIndex weights;  // [b, s, k]
    TensorIndex experts;  // [b, s, k], ids
  };
  Routing router(const std::string& op_name,
                 TensorIndex x,
                 std::int64_t experts,
                 std::int64_t experts_per_token,
                 bool normalize_topk,
                 double stddev,
                 RouterBias bias = RouterBias::kAbsent);
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
                          const std::vector<LoopAxis>& loop_axes_or_dims,
                          const OpAttributes& attributes);
  LoopAxis batch_axis() const;
  LoopAxis sequence_axis() const;
  // The dimension of two tensors in one.
  static LoopAxis pair_axis() { return {"p", 2, AxisSharding::kNever}; }

  Block block_;
  std::int64_t microbatch_;
  std::int64_t sequence_;
  // Loop axes of every activation's dimensions, so that later ops agree with earlier ones.
  std::vector<std::vector<LoopAxis>> dims_;
};

}  // namespace shardwise
