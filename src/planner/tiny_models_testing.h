// Small graphs with the structure of the real families, for tests: every size can be counted by
// hand.
#pragma once

#include <string>
#include <utility>

#include "graph/block_builder.h"

namespace shardwise::testing {

struct TinyModel {
  std::int64_t microbatch = 4;
  std::int64_t sequence = 16;
  int decoder_layers = 4;
  std::int64_t vocabulary = 50;
  std::int64_t width = 32;
  std::int64_t kv_heads = 4;
  std::int64_t queries = 1;  // for each key/value head
  std::int64_t head_size = 8;
  std::int64_t ffn = 64;
  std::int64_t experts = 0;  // 0: dense
  bool gated = false;        // RMS norms, rotary and gated MLP instead of GPT-2's
  bool biases = true;
  bool tied = false;
};

inline TinyModel tiny_gpt2() {
  TinyModel model;
  model.tied = true;
  return model;
}
inline TinyModel tiny_llama() {
  TinyModel model;
  model.kv_heads = 2;
  model.queries = 2;
  model.gated = true;
  model.biases = false;
  return model;
}
inline TinyModel tiny_mixtral() {
  TinyModel model = tiny_llama();
  model.experts = 4;
  return model;
}

inline Block tiny_decoder(const TinyModel& m) {
  using Axes = BlockBuilder::Axes;
  const Axes h{{"h", m.width, AxisSharding::kEven}};
  const Axes f{{"f", m.ffn, AxisSharding::kEven}};
  const LoopAxis n{"n", m.kv_heads, AxisSharding::kEven};
  const LoopAxis r{"r", m.queries, AxisSharding::kEven};
  const LoopAxis d{"d", m.head_size, AxisSharding::kNever};
  BlockBuilder build("decoder", m.microbatch, m.sequence);
  const auto norm = [&](const std::string& name, TensorIndex x) {
    return m.gated ? build.rms_norm(name, x, 1e-5) : build.layer_norm(name, x, 1e-5);
  };
  const TensorIndex x = build.boundary_input(m.width);
  const TensorIndex y = norm("attention_norm", x);
  TensorIndex q = build.linear("attention.q", y, h, {n, r, d}, m.biases, 0.02);
  TensorIndex k = build.linear("attention.k", y, h, {n, d}, m.biases, 0.02);
  const TensorIndex v = build.linear("attention.v", y, h, {n, d}, m.biases, 0.02);
  if (m.gated) {
    OpAttributes rotary;
    rotary.rotary_dims = m.head_size;
    q = build.rotary("attention.q_rotary", q, rotary);
    k = build.rotary("attention.k_rotary", k, rotary);
  }
  TensorIndex a = build.attention("attention", q, k, v, {.scale = 0.35});
  a = build.linear("attention.o", a, {n, r, d}, h, m.biases, 0.02);
  const TensorIndex middle = build.add("attention_residual", x, a);
  TensorIndex z = norm("mlp_norm", middle);
  if (m.experts > 0) {
    const BlockBuilder::Routing routing = build.router("router", z, m.experts, 2, true, 0.02);
    z = build.experts("experts", z, routing, m.experts, m.ffn, "silu", 0.02, 0.02);
  } else if (m.gated) {
    const TensorIndex gate = build.linear("mlp.gate", z, h, f, m.biases, 0.02);
    const TensorIndex up = build.linear("mlp.up", z, h, f, m.biases, 0.02);
    z = build.gated_activation("mlp.activation", gate, up, "silu");
    z = build.linear("mlp.down", z, f, h, m.biases, 0.02);
  } else {
    z = build.linear("mlp.fc1", z, h, f, m.biases, 0.02);
    z = build.activation("mlp.activation", z, "gelu");
    z = build.linear("mlp.fc2", z, f, h, m.biases, 0.02);
  }
  build.boundary_output(build.add("mlp_residual", middle, z));
  return std::move(build).build();
}

inline Graph tiny_graph(const TinyModel& m) {
  Graph graph;
  graph.model_type = "tiny";
  graph.microbatch = m.microbatch;
  graph.sequence = m.sequence;
  BlockBuilder first("embedding", m.microbatch, m.sequence);
  TensorIndex x = first.embedding("embedding", first.tokens(), m.vocabulary, m.width, 0.02);
  if (!m.gated) {
    x = first.position_embedding("positions", x, m.sequence, 0.02);
  }
  first.boundary_output(x);
  BlockBuilder last("head", m.microbatch, m.sequence);
  TensorIndex y = last.boundary_input(m.width);
  y = m.gated ? last.rms_norm("norm", y, 1e-5) : last.layer_norm("norm", y, 1e-5);
  y = last.linear("head",
                  y,
                  {{"h", m.width, AxisSharding::kEven}},
                  {{"v", m.vocabulary, AxisSharding::kPadded}},
                  false,
                  0.02);
  last.cross_entropy("loss", y, last.targets());
  graph.blocks = {std::move(first).build(), tiny_decoder(m), std::move(last).build()};
  graph.layers.push_back({"embedding", "", 0});
  for (int i = 0; i < m.decoder_layers; ++i) {
    graph.layers.push_back({"layer." + std::to_string(i), "layer." + std::to_string(i) + ".", 1});
  }
  graph.layers.push_back({"head", "", 2});
  if (m.tied) {
    const int head = m.decoder_layers + 1;
    const auto parameter = [&](int layer, int op) {
      const Block& block = graph.block_of(layer);
      return block.ops[static_cast<std::size_t>(op)].parameters[0].tensor;
    };
    graph.tied = {{0, parameter(0, 0), head, parameter(head, 1)}};
  }
  check_graph(graph);
  return graph;
}

}  // namespace shardwise::testing
