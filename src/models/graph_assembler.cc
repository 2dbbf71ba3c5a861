#include "models/graph_assembler.h"

#include <fmt/format.h>

#include <utility>

#include "core/errors.h"

namespace shardwise {

GraphAssembler::GraphAssembler(std::string model_type, const BatchShape& shape) {
  graph_.model_type = std::move(model_type);
  graph_.microbatch = shape.microbatch;
  graph_.sequence = shape.sequence;
}

void GraphAssembler::add(const std::string& name,
                         const std::string& kind,
                         const std::function<Block()>& make) {
  const auto [known, is_new] = block_of_kind_.emplace(kind, static_cast<int>(graph_.blocks.size()));
  if (is_new) {
    graph_.blocks.push_back(make());
  }
  graph_.layers.push_back({name, name + ".", known->second});
}

int GraphAssembler::layer_called(const std::string& name) const {
  for (std::size_t layer = 0; layer < graph_.layers.size(); ++layer) {
    if (graph_.layers[layer].name == name) {
      return static_cast<int>(layer);
    }
  }
  SHARDWISE_CHECK(false, "no layer " + name);
}

TensorIndex GraphAssembler::tensor_called(int layer, const std::string& name) const {
  const Block& block = graph_.block_of(layer);
  for (std::size_t t = 0; t < block.tensors.size(); ++t) {
    if (block.tensors[t].name == name) {
      return static_cast<TensorIndex>(t);
    }
  }
  SHARDWISE_CHECK(false, "no tensor " + name + " in block " + block.name);
}

TiedParameter GraphAssembler::pair_of(const std::string& owner,
                                      const std::string& owner_tensor,
                                      const std::string& alias,
                                      const std::string& alias_tensor) const {
  TiedParameter pair;
  pair.owner_layer = layer_called(owner);
  pair.owner_tensor = tensor_called(pair.owner_layer, owner_tensor);
  pair.alias_layer = layer_called(alias);
  pair.alias_tensor = tensor_called(pair.alias_layer, alias_tensor);
  return pair;
}

void GraphAssembler::tie(const std::string& owner,
                         const std::string& owner_tensor,
                         const std::string& alias,
                         const std::string& alias_tensor) {
  graph_.tied.push_back(pair_of(owner, owner_tensor, alias, alias_tensor));
}

void GraphAssembler::copy(const std::string& owner,
                          const std::string& alias,
                          const std::string& tensor) {
  graph_.copied.push_back(pair_of(owner, tensor, alias, tensor));
}

Graph GraphAssembler::take() && {
  check_graph(graph_);
  return std::move(graph_);
}

void build_decoder(const ModelConfig& config,
                   const BatchShape& shape,
                   const DecoderBlocks& blocks,
                   GraphAssembler& assembler) {
  assembler.add("embedding", "embedding", [&] { return blocks.embedding(config, shape); });
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const auto index = static_cast<std::size_t>(layer);
    LayerTraits traits;
    traits.sliding_window = config.sliding_windows[index];
    if (traits.sliding_window >= shape.sequence) {
      traits.sliding_window = 0;  // the largest q - k is sequence - 1
    }
    traits.is_sparse = index < config.sparse_layers.size() && config.sparse_layers[index] != 0;
    const std::string window =
        traits.sliding_window > 0 ? fmt::format(".window{}", traits.sliding_window) : "";
    const std::string kind = "decoder" + window + (traits.is_sparse ? ".experts" : "");
    assembler.add(fmt::format("layer.{}", layer), kind, [&] {
      Block block = blocks.decoder(config, shape, traits);
      block.name += window;
      return block;
    });
  }
  assembler.add("head", "head", [&] { return blocks.head(config, shape); });
  if (config.tied_embeddings) {
    assembler.tie("embedding", "token.weight", "head", "linear.weight");
  }
}

}  // namespace shardwise
