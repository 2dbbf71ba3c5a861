// Puts the layers of a model together: layers that are alike share a block.
#pragma once

#include <functional>
#include <map>
#include <string>

#include "graph/op.h"
#include "models/model_family.h"

namespace shardwise {

class GraphAssembler {
 public:
  GraphAssembler(std::string model_type, const BatchShape& shape);

  // Appends a layer. Its parameters are called `name` + "." + tensor. Layers with the same `kind`
  // share the block that `make` returns for the first of them.
  void add(const std::string& name, const std::string& kind, const std::function<Block()>& make);

  // The tensor of layer `alias` holds the values of that of layer `owner`. Requires both.
  void tie(const std::string& owner,
           const std::string& owner_tensor,
           const std::string& alias,
           const std::string& alias_tensor);
  // The same for a small parameter (graph/op.h: Graph::copied).
  void copy(const std::string& owner, const std::string& alias, const std::string& tensor);

  // Requires a valid graph (check_graph).
  Graph take() &&;

 private:
  int layer_called(const std::string& name) const;
  TensorIndex tensor_called(int layer, const std::string& name) const;
  TiedParameter pair_of(const std::string& owner,
                        const std::string& owner_tensor,
                        const std::string& alias,
                        const std::string& alias_tensor) const;

  Graph graph_;
  std::map<std::string, int> block_of_kind_;
};

// "embedding", "layer.0" ..., "head" of a decoder; embedding and head tied if the configuration
// says so. Layers differ by sliding window and by whether their MLP is one of experts.
struct LayerTraits {
  std::int64_t sliding_window = 0;
  bool is_sparse = false;

  auto operator<=>(const LayerTraits&) const = default;
};
struct DecoderBlocks {
  Block (*embedding)(const ModelConfig&, const BatchShape&);
  Block (*decoder)(const ModelConfig&, const BatchShape&, const LayerTraits&);
  Block (*head)(const ModelConfig&, const BatchShape&);
};
void build_decoder(const ModelConfig& config,
                   const BatchShape& shape,
                   const DecoderBlocks& blocks,
                   GraphAssembler& assembler);

}  // namespace shardwise
