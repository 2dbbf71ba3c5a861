// A model small enough to write plans for by hand; `io` knows no model family.
#pragma once

#include <utility>
#include <vector>

#include "graph/block_builder.h"
#include "graph/plan.h"
#include "io/plan_file.h"

namespace shardwise {

// Embedding, two equal layers of one linear, head. The configuration is {"width": h}.
inline Graph tiny_model_graph(const JsonValue& model, const std::string&, const PlanShape& shape) {
  const std::int64_t width = model.at("width").as_int64(1, 4096);
  const std::int64_t sequence = shape.sequence;
  const std::int64_t microbatch = shape.microbatch;
  if (sequence > 4096 || microbatch > 4096) {
    throw model.error("expected at most 4096 sequences of 4096 tokens");
  }
  const LoopAxis h{"h", width};
  BlockBuilder embedding("embedding", microbatch, sequence);
  embedding.boundary_output(embedding.embedding("token", embedding.tokens(), 10, width, 0.02));
  BlockBuilder layer("decoder", microbatch, sequence);
  const TensorIndex x = layer.boundary_input(width);
  const TensorIndex y = layer.linear("up", x, {h}, {{"f", 2 * width}}, true, 0.02);
  layer.boundary_output(layer.linear("down", y, {{"f", 2 * width}}, {h}, true, 0.02));
  BlockBuilder head("head", microbatch, sequence);
  const TensorIndex logits = head.linear(
      "linear", head.boundary_input(width), {h}, {{"v", 10, AxisSharding::kPadded}}, false, 0.02);
  head.cross_entropy("loss", logits, head.targets());
  Graph graph;
  graph.model_type = "tiny";
  graph.microbatch = microbatch;
  graph.sequence = sequence;
  graph.blocks.push_back(std::move(embedding).build());
  graph.blocks.push_back(std::move(layer).build());
  graph.blocks.push_back(std::move(head).build());
  graph.layers = {{"embedding", "embedding.", 0},
                  {"layer.0", "layer.0.", 1},
                  {"layer.1", "layer.1.", 1},
                  {"head", "head.", 2}};
  return graph;
}

}  // namespace shardwise
