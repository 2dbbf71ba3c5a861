#include "cost/op_key.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "core/errors.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Sizes of the loop axes, multiplied where the kernel sees one dimension.
class LocalSizes {
 public:
  LocalSizes(const Op& op, std::span<const std::int64_t> sizes) : op_(op), sizes_(sizes) {
    SHARDWISE_CHECK(sizes.size() == op.axes.size(), op.name + ": one size for each loop axis");
  }

  // 1 if the op has no such axis.
  std::int64_t of(const std::string& axis) const {
    const int index = axis_index(op_, axis);
    return index < 0 ? 1 : sizes_[at(index)];
  }

  // Product over the operand's dimensions from `begin` up to `end`.
  std::int64_t product(const Operand& operand, std::size_t begin, std::size_t end) const {
    std::int64_t count = 1;
    for (std::size_t d = begin; d < end; ++d) {
      for (const int axis : operand.dims[d]) {
        count *= sizes_[at(axis)];
      }
    }
    return count;
  }
  std::int64_t all(const Operand& operand) const {
    return product(operand, 0, operand.dims.size());
  }
  std::int64_t last(const Operand& operand) const {
    return product(operand, operand.dims.size() - 1, operand.dims.size());
  }

  // (token, expert) pairs under an even routing: own tokens times k; without an exchange only the
  // share that goes to the experts of this rank.
  std::int64_t routed_pairs() const {
    const std::int64_t pairs = of("b") * of("s") * of("k");
    const std::int64_t exchanged = (whole("xb") / of("xb")) * (whole("xs") / of("xs"));
    return pairs * of("e") * exchanged / whole("e");
  }

 private:
  std::int64_t whole(const std::string& axis) const {
    const int index = axis_index(op_, axis);
    return index < 0 ? 1 : op_.axes[at(index)].size;
  }

  const Op& op_;
  std::span<const std::int64_t> sizes_;
};

}  // namespace

OpKey op_key(const Op& op, std::span<const std::int64_t> local_sizes, Precision precision) {
  const LocalSizes sizes(op, local_sizes);
  const OpAttributes& attributes = op.attributes;
  OpKey key;
  key.kind = op.kind;
  key.precision = precision;
  switch (op.kind) {
    case OpKind::kEmbedding:
      key.sizes = {sizes.all(op.inputs[0]), sizes.of("v"), sizes.of("h")};
      break;
    case OpKind::kPositionEmbedding:
      key.sizes = {sizes.of("b") * sizes.of("s"), sizes.of("h")};
      break;
    case OpKind::kLinear: {
      const Operand& input = op.inputs[0];
      const Operand& output = op.outputs[0];
      key.variant = op.parameters.size() > 1 ? "bias" : "";
      key.sizes = {sizes.product(input, 0, 2),
                   sizes.product(input, 2, input.dims.size()),
                   sizes.product(output, 2, output.dims.size())};
      break;
    }
    case OpKind::kAttention:
    case OpKind::kRelativeAttention:
      key.variant = attributes.causal ? "causal" : "";
      if (attributes.sliding_window > 0) {
        key.variant +=
            fmt::format("{}window {}", attributes.causal ? " " : "", attributes.sliding_window);
      }
      if (attributes.softcap > 0) {
        key.variant += key.variant.empty() ? "softcap" : " softcap";
      }
      key.sizes = {sizes.of("b") * sizes.of("n"),
                   sizes.of("r"),
                   sizes.of("s"),
                   sizes.of("t"),
                   sizes.of("d")};
      break;
    case OpKind::kRotary:
      key.variant = fmt::format("rotary {}", attributes.rotary_dims);
      [[fallthrough]];
    case OpKind::kLayerNorm:
    case OpKind::kRmsNorm: {
      const Operand& input = op.inputs[0];
      key.sizes = {sizes.product(input, 0, input.dims.size() - 1), sizes.last(input)};
      break;
    }
    case OpKind::kActivation:
    case OpKind::kGatedActivation:
      key.variant = attributes.function;
      [[fallthrough]];
    case OpKind::kAdd:
    case OpKind::kStack:
    case OpKind::kUnstack:
      key.sizes = {sizes.all(op.outputs[0])};
      break;
    case OpKind::kCrossEntropy:
      key.sizes = {sizes.of("b") * sizes.of("s"), sizes.of("v")};
      break;
    case OpKind::kRouter:
      key.sizes = {sizes.of("b") * sizes.of("s"), sizes.of("h"), sizes.of("e"), sizes.of("k")};
      break;
    case OpKind::kExperts:
      key.variant = attributes.function;
      key.sizes = {sizes.routed_pairs(), sizes.of("e"), sizes.of("f"), sizes.of("h")};
      break;
    case OpKind::kRowGate:
      key.variant = attributes.function;
      key.sizes = {sizes.of("b") * sizes.of("s"), sizes.of("h")};
      break;
    case OpKind::kLatentAttention:
      key.variant = attributes.causal ? "causal" : "";
      key.sizes = {sizes.of("b") * sizes.of("n"),
                   sizes.of("s"),
                   sizes.of("t"),
                   sizes.of("d"),
                   sizes.of("w")};
      break;
    case OpKind::kWindowAttention:
      key.variant = fmt::format("window {}", attributes.window);
      key.sizes = {sizes.of("b") * sizes.of("n") * sizes.of("s"), sizes.of("d")};
      break;
    case OpKind::kPatchEmbedding:
      key.sizes = {sizes.of("b") * sizes.of("s"),
                   sizes.of("c") * sizes.of("k") * sizes.of("l"),
                   sizes.of("h")};
      break;
    case OpKind::kClassToken:
    case OpKind::kPatchMerge:
      key.sizes = {sizes.of("b") * sizes.of("s"), sizes.last(op.outputs[0])};
      break;
    case OpKind::kPool:
      key.variant = attributes.function;
      key.sizes = {sizes.of("b"), sizes.of("s"), sizes.of("h")};
      break;
    case OpKind::kGlobalPool:
      key.sizes = {sizes.of("b"), sizes.of("c"), sizes.of("y") * sizes.of("x")};
      break;
    case OpKind::kConv2d:
      key.variant = fmt::format("stride {}", attributes.stride);
      key.sizes = {sizes.of("b") * sizes.of("y") * sizes.of("x"),
                   sizes.of("c"),
                   sizes.of("o"),
                   sizes.of("k") * sizes.of("l")};
      break;
    case OpKind::kBatchNorm:
      key.sizes = {sizes.of("b") * sizes.of("y") * sizes.of("x"), sizes.of("c")};
      break;
    case OpKind::kMaxPool:
      key.variant = fmt::format("window {} stride {}", attributes.window, attributes.stride);
      key.sizes = {sizes.of("b") * sizes.of("c"), sizes.of("y") * sizes.of("x")};
      break;
  }
  return key;
}

std::string to_string(const OpKey& key) {
  return fmt::format("{}{}{} [{}] {}",
                     to_string(key.kind),
                     key.variant.empty() ? "" : " ",
                     key.variant,
                     fmt::join(key.sizes, ", "),
                     to_string(key.precision));
}

}  // namespace shardwise
