#include "report/published_graph.h"

#include <string>
#include <utility>

#include "graph/block_builder.h"

namespace shardwise {

namespace {

constexpr double kStddev = 0.02;  // no value is ever computed
constexpr double kEpsilon = 1e-5;

class DecoderBuilder {
 public:
  DecoderBuilder(const DecoderShape& shape, std::int64_t microbatch, std::int64_t sequence)
      : shape_(shape), microbatch_(microbatch), sequence_(sequence), hidden_{"h", shape.hidden} {}

  Block embedding() const {
    BlockBuilder builder("embedding", microbatch_, sequence_);
    builder.boundary_output(
        builder.embedding("token", builder.tokens(), shape_.vocabulary, shape_.hidden, kStddev));
    return std::move(builder).build();
  }

  Block decoder(bool is_sparse) const {
    BlockBuilder builder(is_sparse ? "sparse" : "decoder", microbatch_, sequence_);
    const TensorIndex x = builder.boundary_input(shape_.hidden);
    const TensorIndex normed = builder.rms_norm("attention.norm", x, kEpsilon);
    const TensorIndex mixed =
        shape_.latent.exists() ? latent_attention(builder, normed) : attention(builder, normed);
    if (shape_.parallel && !is_sparse) {
      const TensorIndex both =
          builder.add("sum", mixed, mlp(builder, "mlp", normed, shape_.feed_forward));
      builder.boundary_output(builder.add("add", x, both));
      return std::move(builder).build();
    }
    const TensorIndex y = builder.add("attention.add", x, mixed);
    const TensorIndex z = builder.rms_norm("mlp.norm", y, kEpsilon);
    builder.boundary_output(
        builder.add("mlp.add",
                    y,
                    is_sparse ? experts(builder, z) : mlp(builder, "mlp", z, shape_.feed_forward)));
    return std::move(builder).build();
  }

  Block head() const {
    BlockBuilder builder("head", microbatch_, sequence_);
    const TensorIndex x = builder.rms_norm("norm", builder.boundary_input(shape_.hidden), kEpsilon);
    const TensorIndex logits = builder.linear("linear",
                                              x,
                                              {hidden_},
                                              {{"v", shape_.vocabulary, AxisSharding::kPadded}},
                                              /*bias=*/false,
                                              kStddev);
    builder.cross_entropy("loss", logits, builder.targets());
    return std::move(builder).build();
  }

 private:
  TensorIndex linear(BlockBuilder& builder,
                     const std::string& name,
                     TensorIndex x,
                     const BlockBuilder::Axes& in,
                     const BlockBuilder::Axes& out) const {
    return builder.linear(name, x, in, out, /*bias=*/false, kStddev);
  }

  TensorIndex turned(BlockBuilder& builder,
                     const std::string& name,
                     TensorIndex x,
                     std::int64_t width) const {
    OpAttributes attributes;
    attributes.rotary_dims = width;
    return builder.rotary(name, x, attributes);
  }

  TensorIndex attention(BlockBuilder& builder, TensorIndex x) const {
    const LoopAxis n{"n", shape_.key_value_heads};
    const LoopAxis r{"r", shape_.heads / shape_.key_value_heads};
    const LoopAxis d{"d", shape_.head_width, AxisSharding::kNever};
    TensorIndex q = linear(builder, "attention.q", x, {hidden_}, {n, r, d});
    TensorIndex k = linear(builder, "attention.k", x, {hidden_}, {n, d});
    const TensorIndex v = linear(builder, "attention.v", x, {hidden_}, {n, d});
    q = turned(builder, "attention.q_rotary", q, shape_.head_width);
    k = turned(builder, "attention.k_rotary", k, shape_.head_width);
    const TensorIndex mixed = builder.attention("attention.core", q, k, v, {});
    return linear(builder, "attention.o", mixed, {n, r, d}, {hidden_});
  }

  TensorIndex latent_attention(BlockBuilder& builder, TensorIndex x) const {
    const LatentProjections& latent = shape_.latent;
    const LoopAxis n{"n", shape_.heads};
    const LoopAxis d{"d", shape_.head_width + latent.rotary_width, AxisSharding::kNever};
    const LoopAxis plain{"d", shape_.head_width, AxisSharding::kNever};
    const LoopAxis u{"u", latent.query_rank};
    const LoopAxis c{"c", latent.key_value_rank};
    const LoopAxis p{"p", latent.rotary_width, AxisSharding::kNever};
    const LoopAxis w{"w", latent.value_width, AxisSharding::kNever};
    TensorIndex q = linear(builder, "attention.q_down", x, {hidden_}, {u});
    q = linear(
        builder, "attention.q", builder.rms_norm("attention.q_norm", q, kEpsilon), {u}, {n, d});
    q = turned(builder, "attention.q_rotary", q, latent.rotary_width);
    TensorIndex narrow = linear(builder, "attention.kv_down", x, {hidden_}, {c});
    narrow = builder.rms_norm("attention.kv_norm", narrow, kEpsilon);
    TensorIndex position = linear(builder, "attention.k_position", x, {hidden_}, {p});
    position = turned(builder, "attention.k_rotary", position, latent.rotary_width);
    const TensorIndex k = linear(builder, "attention.k", narrow, {c}, {n, plain});
    const TensorIndex v = linear(builder, "attention.v", narrow, {c}, {n, w});
    const TensorIndex mixed = builder.latent_attention("attention.core", q, k, position, v, {});
    return linear(builder, "attention.o", mixed, {n, w}, {hidden_});
  }

  TensorIndex mlp(BlockBuilder& builder,
                  const std::string& name,
                  TensorIndex x,
                  std::int64_t width) const {
    const LoopAxis f{"f", width};
    TensorIndex active = linear(builder, name + ".up", x, {hidden_}, {f});
    if (shape_.gated) {
      const TensorIndex gate = linear(builder, name + ".gate", x, {hidden_}, {f});
      active = builder.gated_activation(name + ".activation", gate, active, "silu");
    } else {
      active = builder.activation(name + ".activation", active, "gelu");
    }
    return linear(builder, name + ".down", active, {f}, {hidden_});
  }

  TensorIndex experts(BlockBuilder& builder, TensorIndex x) const {
    const BlockBuilder::Routing routing = builder.router(
        "router", x, shape_.experts, shape_.experts_per_token, /*normalize_topk=*/true, kStddev);
    const TensorIndex mixed = builder.experts(
        "experts", x, routing, shape_.experts, shape_.expert_width, "silu", kStddev, kStddev);
    return shape_.shared_width == 0
               ? mixed
               : builder.add("shared.add", mixed, mlp(builder, "shared", x, shape_.shared_width));
  }

  const DecoderShape& shape_;
  const std::int64_t microbatch_;
  const std::int64_t sequence_;
  const LoopAxis hidden_;
};

TensorIndex tensor_called(const Block& block, const std::string& name) {
  TensorIndex index = 0;
  while (block.tensors[static_cast<std::size_t>(index)].name != name) {
    ++index;
  }
  return index;
}

}  // namespace

Graph published_graph(const DecoderShape& shape, std::int64_t microbatch, std::int64_t sequence) {
  const DecoderBuilder builder(shape, microbatch, sequence);
  const bool has_dense = shape.experts == 0 || shape.dense_layers > 0;
  Graph graph;
  graph.model_type = "published decoder";
  graph.microbatch = microbatch;
  graph.sequence = sequence;
  graph.blocks = {builder.embedding(), builder.head()};
  const int dense = has_dense ? static_cast<int>(graph.blocks.size()) : 0;
  if (has_dense) {
    graph.blocks.push_back(builder.decoder(/*is_sparse=*/false));
  }
  const int sparse = shape.experts > 0 ? static_cast<int>(graph.blocks.size()) : 0;
  if (shape.experts > 0) {
    graph.blocks.push_back(builder.decoder(/*is_sparse=*/true));
  }
  graph.layers.push_back({"embedding", "embedding.", 0});
  for (std::int64_t layer = 0; layer < shape.layers + shape.prediction_layers; ++layer) {
    const std::string name = "layer." + std::to_string(layer);
    const bool is_dense = shape.experts == 0 || layer < shape.dense_layers;
    graph.layers.push_back({name, name + ".", is_dense ? dense : sparse});
  }
  graph.layers.push_back({"head", "head.", 1});
  if (shape.tied) {
    graph.tied.push_back({0,
                          tensor_called(graph.blocks[0], "token.weight"),
                          static_cast<int>(graph.layers.size()) - 1,
                          tensor_called(graph.blocks[1], "linear.weight")});
  }
  check_graph(graph);
  return graph;
}

}  // namespace shardwise
