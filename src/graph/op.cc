#include "graph/op.h"

#include <algorithm>
#include <set>

#include "core/errors.h"
#include "graph/op_definition.h"

namespace shardwise {

namespace {

void check_operand(const Block& block, const Op& op, const Operand& operand) {
  SHARDWISE_CHECK(operand.tensor >= 0 && operand.tensor < static_cast<int>(block.tensors.size()),
                  op.name);
  const Tensor& tensor = block.tensors[static_cast<std::size_t>(operand.tensor)];
  SHARDWISE_CHECK(tensor.shape.size() == operand.dims.size(), op.name + ": " + tensor.name);
  for (const std::vector<int>& axes : operand.dims) {
    for (const int axis : axes) {
      SHARDWISE_CHECK(axis >= 0 && axis < static_cast<int>(op.axes.size()), op.name);
    }
  }
}

void check_block(const Block& block) {
  std::set<TensorIndex> written(block.inputs.begin(), block.inputs.end());
  for (const Op& op : block.ops) {
    for (const Operand& input : op.inputs) {
      check_operand(block, op, input);
      const TensorKind kind = block.tensors[static_cast<std::size_t>(input.tensor)].kind;
      SHARDWISE_CHECK(is_loaded(kind) || written.contains(input.tensor), op.name + " reads ahead");
    }
    for (const Operand& parameter : op.parameters) {
      check_operand(block, op, parameter);
    }
    for (const Operand& output : op.outputs) {
      check_operand(block, op, output);
      SHARDWISE_CHECK(written.insert(output.tensor).second, op.name + " writes twice");
    }
  }
  for (const TensorIndex output : block.outputs) {
    SHARDWISE_CHECK(written.contains(output), block.name + ": output is never written");
  }
}

}  // namespace

std::int64_t element_count(const std::vector<std::int64_t>& shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    count *= size;
  }
  return count;
}

bool is_alias(const Graph& graph, int layer, TensorIndex tensor) {
  const auto is_this = [&](const TiedParameter& tied) {
    return tied.alias_layer == layer && tied.alias_tensor == tensor;
  };
  return std::any_of(graph.tied.begin(), graph.tied.end(), is_this) ||
         std::any_of(graph.copied.begin(), graph.copied.end(), is_this);
}

std::int64_t parameter_count(const Graph& graph) {
  std::int64_t count = 0;
  for (int layer = 0; layer < static_cast<int>(graph.layers.size()); ++layer) {
    const Block& block = graph.block_of(layer);
    for (TensorIndex t = 0; t < static_cast<int>(block.tensors.size()); ++t) {
      const Tensor& tensor = block.tensors[static_cast<std::size_t>(t)];
      if (tensor.kind == TensorKind::kParameter && !is_alias(graph, layer, t)) {
        count += element_count(tensor.shape);
      }
    }
  }
  return count;
}

std::vector<std::pair<int, int>> uses_of(const Block& block, TensorIndex tensor) {
  std::vector<std::pair<int, int>> uses;
  for (int o = 0; o < static_cast<int>(block.ops.size()); ++o) {
    const Op& op = block.ops[static_cast<std::size_t>(o)];
    for (int i = 0; i < static_cast<int>(op.inputs.size()); ++i) {
      if (op.inputs[static_cast<std::size_t>(i)].tensor == tensor) {
        uses.emplace_back(o, i);
      }
    }
  }
  return uses;
}

std::pair<int, int> producer_of(const Block& block, TensorIndex tensor) {
  for (int o = 0; o < static_cast<int>(block.ops.size()); ++o) {
    const Op& op = block.ops[static_cast<std::size_t>(o)];
    for (int i = 0; i < static_cast<int>(op.outputs.size()); ++i) {
      if (op.outputs[static_cast<std::size_t>(i)].tensor == tensor) {
        return {o, i};
      }
    }
  }
  return {-1, -1};
}

int axis_index(const Op& op, const std::string& name) {
  for (std::size_t a = 0; a < op.axes.size(); ++a) {
    if (op.axes[a].name == name) {
      return static_cast<int>(a);
    }
  }
  return -1;
}

bool contains_axis(const Operand& operand, int axis) {
  return std::any_of(operand.dims.begin(), operand.dims.end(), [axis](const std::vector<int>& d) {
    return std::find(d.begin(), d.end(), axis) != d.end();
  });
}

std::string to_string(OpKind kind) { return std::string(definition_of(kind).name); }

void check_graph(const Graph& graph) {
  for (const Block& block : graph.blocks) {
    check_block(block);
  }
  for (const Layer& layer : graph.layers) {
    SHARDWISE_CHECK(layer.block >= 0 && layer.block < static_cast<int>(graph.blocks.size()),
                    layer.name);
  }
  for (std::size_t k = 0; k + 1 < graph.layers.size(); ++k) {
    const Block& before = graph.block_of(static_cast<int>(k));
    const Block& after = graph.block_of(static_cast<int>(k + 1));
    SHARDWISE_CHECK(before.outputs.size() == 1 && after.inputs.size() == 1,
                    graph.layers[k].name + ": layers are a chain that hands on one tensor");
    SHARDWISE_CHECK(before.tensors[static_cast<std::size_t>(before.outputs[0])].shape ==
                        after.tensors[static_cast<std::size_t>(after.inputs[0])].shape,
                    graph.layers[k].name + ": boundary shapes differ");
  }
}

}  // namespace shardwise
