// Shape of a decoder-only transformer as published tables print it. Plain data.
#pragma once

#include <cstdint>

namespace shardwise {

// Latent attention (DeepSeek-AI, DeepSeek-V2, 2024, section 2.1): queries and keys/values pass
// through narrow projections. All zero: ordinary attention.
struct LatentProjections {
  std::int64_t query_rank = 0;
  std::int64_t key_value_rank = 0;
  std::int64_t rotary_width = 0;  // of a head, beside head_width
  std::int64_t value_width = 0;   // of a head

  bool exists() const { return key_value_rank > 0; }
};

struct DecoderShape {
  std::int64_t layers = 0;
  std::int64_t hidden = 0;
  std::int64_t heads = 0;
  std::int64_t key_value_heads = 0;
  std::int64_t head_width = 0;
  std::int64_t feed_forward = 0;
  bool gated = false;  // the MLP has a gate beside its first matrix
  std::int64_t vocabulary = 0;
  bool tied = true;  // head and embedding share their matrix
  // Attention and MLP read one norm side by side (Wang and Komatsuzaki, GPT-J, 2021).
  bool parallel = false;
  // Mixture of experts; experts 0: every layer is dense.
  std::int64_t experts = 0;
  std::int64_t experts_per_token = 0;
  std::int64_t expert_width = 0;
  std::int64_t shared_width = 0;       // MLP of every token beside its experts
  std::int64_t dense_layers = 0;       // first layers without experts
  std::int64_t prediction_layers = 0;  // extra layers, each with a head, that predict later tokens
  LatentProjections latent;

  // Parameters of attention, of a dense MLP, of one expert, of one table of the vocabulary.
  double attention_parameters() const;
  double dense_parameters() const;
  double expert_parameters() const;
  double vocabulary_parameters() const;
  // Of the whole model.
  double parameters() const;
};

}  // namespace shardwise
