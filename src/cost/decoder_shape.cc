#include "cost/decoder_shape.h"

namespace shardwise {

namespace {

double product(std::int64_t a, std::int64_t b) {
  return static_cast<double>(a) * static_cast<double>(b);
}

}  // namespace

double DecoderShape::attention_parameters() const {
  if (latent.exists()) {
    return product(hidden, latent.query_rank) +
           product(latent.query_rank, heads * (head_width + latent.rotary_width)) +
           product(hidden, latent.key_value_rank + latent.rotary_width) +
           product(latent.key_value_rank, heads * (head_width + latent.value_width)) +
           product(heads * latent.value_width, hidden);
  }
  return product(hidden, (2 * heads + 2 * key_value_heads) * head_width);
}

double DecoderShape::dense_parameters() const {
  return product(hidden, feed_forward) * (gated ? 3 : 2);
}

double DecoderShape::expert_parameters() const {
  return product(hidden, expert_width) * (gated ? 3 : 2);
}

double DecoderShape::vocabulary_parameters() const { return product(hidden, vocabulary); }

double DecoderShape::parameters() const {
  const auto all = static_cast<double>(layers);
  const double sparse = experts > 0 ? static_cast<double>(layers - dense_layers) : 0;
  return all * attention_parameters() + (all - sparse) * dense_parameters() +
         sparse * (static_cast<double>(experts) * expert_parameters() +
                   product(hidden, shared_width) * (gated ? 3 : 2) + product(hidden, experts)) +
         (tied ? 1 : 2) * vocabulary_parameters();
}

}  // namespace shardwise
