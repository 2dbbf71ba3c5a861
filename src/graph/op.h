// Tensors, ops with named loop axes, blocks, layers and the graph of one micro-batch. Plain data.
//
// Every op states its loop axes, einsum-like: `linear: b s i, o i -> b s o`. Shapes, work and all
// ways to shard the op follow from the axes (graph/layout.h derives them). One graph describes the
// forward computation of ONE micro-batch of `microbatch` sequences before any sharding.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace shardwise {

enum class OpKind {
  kEmbedding,          // b s, v h -> b s h
  kPositionEmbedding,  // b s h, p h -> b s h       adds row `position` of a learned table
  kLinear,             // b s i.., o.. i.. (+ o..) -> b s o..   i.. and o.. may be several axes
  kAttention,        // b s n r d, b t n d, b t n d -> b s n r d   n key/value heads, r queries each
  kLayerNorm,        // b s h, h, h -> b s h
  kRmsNorm,          // b s .. d, d -> b s .. d   normalises the last dimension
  kRotary,           // b s .. d -> b s .. d
  kActivation,       // b s f -> b s f
  kGatedActivation,  // b s f, b s f -> b s f     act(gate) * up
  kAdd,              // b s h, b s h -> b s h
  kCrossEntropy,     // b s v, b s -> (scalar sum over b and s, scaled to the mean of the batch)
  kRouter,           // b s h, e h -> b s k (weights), b s k (expert ids)
  kExperts,          // b s h, b s k, b s k, e f h, e f h, e h f -> b s h
  kRowGate,          // b s h, b s g -> b s h
  kRelativeAttention,  // b s n r d, b t n d, b t n d, k n -> b s n r d
  kLatentAttention,    // b s n d, b t n c, b t p, b t n w -> b s n w
  kWindowAttention,    // b s n d, b s n d, b s n d, k n -> b s n d
  kPatchEmbedding,     // b c yy xx, h c k l, h -> b s h
  kClassToken,         // b u h, h -> b s h
  kPatchMerge,         // b u h -> b s m
  kPool,               // b s h -> b o h
  kGlobalPool,         // b c y x -> b o c
  kConv2d,             // b c yy xx, o c k l -> b o y x
  kBatchNorm,          // b c y x, c, c -> b c y x
  kMaxPool,            // b c yy xx -> b c y x
  kStack,              // b s h, b s h -> b s p h
  kUnstack,            // b s p h -> b s h, b s h
};
inline constexpr int kNumOpKinds = 27;

// What may be done to a loop axis.
enum class AxisSharding {
  kNever,     // the op needs all of it on one device (the normalised axis of a norm)
  kEven,      // a mesh axis must divide it
  kPadded,    // padded to a multiple of the degree (vocabulary): shard = ceil(size / degree)
  kExchange,  // shards every axis it stands beside in a dimension: see op_experts.cc
};

struct LoopAxis {
  std::string
      name;  // "b", "s", "h", ...; "xb" / "xs": expert exchange, see kExperts in op_experts.cc
  std::int64_t size = 1;
  AxisSharding sharding = AxisSharding::kEven;
};

enum class TensorKind {
  kActivation,
  kParameter,
  kTokens,   // token ids of the micro-batch, int64 [b, s]; every stage can read its own from the
             // data
  kTargets,  // next tokens, int64 [b, s]; labels of images, [b, 1]
  kImages,   // pixels [b, c, y, x], read from the data like tokens
  kIds,      // integer results inside a block (expert ids)
  kLoss,     // scalar, fp32
};

enum class ElementType { kCompute, kFloat32, kInt64 };  // kCompute: the plan's precision

// How a parameter starts: values depend only on seed, parameter name and global index.
enum class Initializer { kZeros, kOnes, kNormal };

struct Tensor {
  std::string name;  // in a block; a parameter's full name is layer.prefix + name
  TensorKind kind = TensorKind::kActivation;
  ElementType type = ElementType::kCompute;
  std::vector<std::int64_t> shape;  // whole, unsharded
  // Parameters only.
  Initializer initializer = Initializer::kNormal;
  double stddev = 0.02;
  bool decays = true;  // false: norms and biases, no weight decay
};

// Whether every stage reads such tensors from the data itself.
constexpr bool is_loaded(TensorKind kind) {
  return kind == TensorKind::kTokens || kind == TensorKind::kTargets || kind == TensorKind::kImages;
}

// Kinds that compare queries along "s" with keys of the whole sequence.
constexpr bool is_sequence_attention(OpKind kind) {
  return kind == OpKind::kAttention || kind == OpKind::kRelativeAttention ||
         kind == OpKind::kLatentAttention;
}

using TensorIndex = int;  // index into Block::tensors

// One use or result of a tensor by an op: for every dimension the loop axes that shard it (mostly
// exactly one; two for the batch dimension of experts; none: the dimension is never sharded here).
struct Operand {
  TensorIndex tensor = 0;
  std::vector<std::vector<int>> dims;  // [dimension] -> indices into Op::axes
  // A bias added after the sum over reduced axes: with a reduced axis sharded, coordinate 0 adds it
  // and its gradient is already whole on that mesh axis (not partial).
  bool epilogue = false;
};

struct OpAttributes {
  std::string function;             // activations: "gelu" (erf), "gelu_tanh", "relu", "silu"
  double epsilon = 0;               // norms
  bool causal = true;               // attention
  double scale = 0;                 // attention: factor of q k^T
  std::int64_t sliding_window = 0;  // attention: 0 none; else keys with q - k < window
  double softcap = 0;         // attention: 0 none; else scores become softcap tanh(score / softcap)
  std::int64_t window = 0;    // window attention: patches of a window's side; max_pool: its kernel
  std::int64_t stride = 1;    // conv2d, max_pool
  double rope_theta = 10000;  // rotary
  std::int64_t rotary_dims = 0;  // rotary: leading dims of a head that turn
  std::string rope_type;         // "" or "default", "llama3", "linear", "dynamic", "yarn", ...
  std::vector<double>
      rope_parameters;  // llama3: factor, low, high, original positions; linear: factor
  std::int64_t experts_per_token = 0;  // router, experts
  bool normalize_topk = true;          // router: selected weights sum to one
};

struct Op {
  OpKind kind = OpKind::kLinear;
  std::string name;  // "attention.q", unique in the block
  std::vector<LoopAxis> axes;
  std::vector<Operand> inputs;
  std::vector<Operand> parameters;
  std::vector<Operand> outputs;
  OpAttributes attributes;
};

// Equal layers share one block. Ops are in topological order.
struct Block {
  std::string name;
  std::vector<Tensor> tensors;
  std::vector<Op> ops;
  // The boundary: the tensor that comes from the layer before and the one that goes to the layer
  // after; none before the first and after the last layer. Layers that hand on two hand on a stack
  // of them (kStack). Several inputs: a block of its own, for tests of kernels.
  std::vector<TensorIndex> inputs;
  std::vector<TensorIndex> outputs;
};

struct Layer {
  std::string name;    // "embedding", "layer.3", "head"
  std::string prefix;  // of parameter names: "layer.3."
  int block = 0;
};

// Two uses of one parameter: the alias (head weight) holds the values of the owner (embedding).
struct TiedParameter {
  int owner_layer = 0;
  TensorIndex owner_tensor = 0;
  int alias_layer = 0;
  TensorIndex alias_tensor = 0;
};

struct Graph {
  std::string model_type;
  std::int64_t microbatch = 1;  // sequences
  std::int64_t sequence = 1;    // tokens of a sequence
  std::vector<Block> blocks;
  std::vector<Layer> layers;  // first holds the embedding, last the loss
  std::vector<TiedParameter> tied;
  // Small parameters of which every layer that uses them holds a copy of its own, counted once.
  // Left out of plans and their prices: the sum of the copies' gradients, once a step.
  std::vector<TiedParameter> copied;

  const Block& block_of(int layer) const {
    return blocks[static_cast<std::size_t>(layers[static_cast<std::size_t>(layer)].block)];
  }
};

// Product of the dimensions.
std::int64_t element_count(const std::vector<std::int64_t>& shape);

// Whether this parameter holds the values of another one, tied or copied.
bool is_alias(const Graph& graph, int layer, TensorIndex tensor);
// Trainable parameters, aliases left out.
std::int64_t parameter_count(const Graph& graph);

// Ops of the block that read tensor `t`, as (op, input index), in op order.
std::vector<std::pair<int, int>> uses_of(const Block& block, TensorIndex tensor);
// Op that writes tensor `t` and which output, or {-1, -1} (block inputs, tokens, parameters).
std::pair<int, int> producer_of(const Block& block, TensorIndex tensor);

// Index of the loop axis called `name`, or -1.
int axis_index(const Op& op, const std::string& name);
// Whether the operand has a dimension that loop axis `axis` shards.
bool contains_axis(const Operand& operand, int axis);

std::string to_string(OpKind kind);

// Broken invariants (shapes against axis sizes, order of ops, unknown indices) end the process.
void check_graph(const Graph& graph);

}  // namespace shardwise
