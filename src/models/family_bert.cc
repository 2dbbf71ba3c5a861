// BERT (Devlin et al., NAACL 2019): an encoder with norms after attention and MLP. What is trained
// follows from `architectures`, as the classes of transformers have it:
//   BertForPreTraining, or none named   masked tokens and next sentence
//   BertForMaskedLM                     masked tokens, no pooler
//   BertModel                           the pooled first token, with a loss over its features in
//                                       place of the task that the file does not tell
// Every token counts as masked: the loss is as large as it can be.
#include <fmt/format.h>

#include <cmath>

#include "core/errors.h"
#include "models/graph_assembler.h"
#include "models/transformer_parts.h"

namespace shardwise {

namespace {

std::string read_objective(ConfigReader& reader) {
  const std::optional<JsonValue> names = reader.find("architectures");
  if (!names || names->size() == 0) {
    return "pretraining";
  }
  const JsonValue name = names->items().front();
  const std::string& architecture = name.as_string();
  if (architecture == "BertForPreTraining") {
    return "pretraining";
  }
  if (architecture == "BertForMaskedLM") {
    return "masked";
  }
  if (architecture == "BertModel") {
    return "pooled";
  }
  throw name.unexpected("\"BertForPreTraining\", \"BertForMaskedLM\" or \"BertModel\"");
}

void read(ConfigReader& reader, ModelConfig& config) {
  config.hidden_size = reader.size("hidden_size");
  config.num_layers = reader.size("num_hidden_layers", kMostLayers);
  config.ffn_width = reader.size_or("intermediate_size", 4 * config.hidden_size);
  config.vocabulary = reader.size("vocab_size", kLargestTable);
  config.positions = reader.size("max_position_embeddings", kLargestTable);
  config.token_types = reader.size_or("type_vocab_size", 2);
  config.num_heads = config.num_kv_heads = reader.size("num_attention_heads");
  if (config.hidden_size % config.num_heads != 0) {
    throw reader.root()
        .at("num_attention_heads")
        .unexpected(fmt::format("a divisor of hidden_size {}", config.hidden_size));
  }
  config.head_dim = config.hidden_size / config.num_heads;
  config.attention_scale = 1 / std::sqrt(static_cast<double>(config.head_dim));
  config.causal = false;
  config.objective = read_objective(reader);
  const bool ties = reader.flag("tie_word_embeddings", true);
  config.tied_embeddings = ties && config.objective != "pooled";
  config.norm_epsilon = reader.number("layer_norm_eps", 1e-12, 0, 1);
  config.initializer_range = reader.number("initializer_range", 0.02, 0, 100);
  config.activation = read_activation(reader, "hidden_act", "gelu");
  config.query_bias = config.output_bias = config.mlp_bias = true;
  if (reader.text("position_embedding_type", "absolute") != "absolute") {
    throw reader.root().at("position_embedding_type").unexpected("\"absolute\"");
  }
  reader.dropout("attention_probs_dropout_prob", 0.1);
  reader.dropout("hidden_dropout_prob", 0.1);
  read_sliding_windows(reader, config, 0, 0, LayerTypes::kMustAgree);
  reader.refusals.emplace_back("bert's objectives (masked tokens, next sentence)");
}

Block embedding(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("embedding", shape.microbatch, shape.sequence);
  const double stddev = config.initializer_range;
  const TensorIndex word =
      builder.embedding("token", builder.tokens(), config.vocabulary, config.hidden_size, stddev);
  const TensorIndex type = builder.embedding(
      "type", builder.tokens("token_types"), config.token_types, config.hidden_size, stddev);
  const TensorIndex sum = builder.add("type.add", word, type);
  const TensorIndex x = builder.position_embedding("position", sum, config.positions, stddev);
  builder.boundary_output(builder.layer_norm("norm", x, config.norm_epsilon));
  return std::move(builder).build();
}

Block encoder(const ModelConfig& config, const BatchShape& shape, const LayerTraits&) {
  BlockBuilder builder("encoder", shape.microbatch, shape.sequence);
  const LoopAxis h{"h", config.hidden_size};
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  const TensorIndex attended = self_attention(builder, x, config, 0, config.initializer_range);
  const TensorIndex y = builder.layer_norm(
      "attention.norm", builder.add("attention.add", x, attended), config.norm_epsilon);
  const TensorIndex down = plain_mlp(builder, "mlp", y, h, config.ffn_width, config);
  builder.boundary_output(
      builder.layer_norm("mlp.norm", builder.add("mlp.add", y, down), config.norm_epsilon));
  return std::move(builder).build();
}

void masked_tokens(BlockBuilder& builder, TensorIndex x, const ModelConfig& config) {
  const LoopAxis h{"h", config.hidden_size};
  const double stddev = config.initializer_range;
  const TensorIndex dense = builder.linear("transform", x, {h}, {h}, true, stddev);
  const TensorIndex active = builder.activation("transform.activation", dense, config.activation);
  const TensorIndex normed = builder.layer_norm("transform.norm", active, config.norm_epsilon);
  const TensorIndex logits = builder.linear("linear",
                                            normed,
                                            {h},
                                            {{"v", config.vocabulary, AxisSharding::kPadded}},
                                            /*bias=*/true,
                                            stddev);
  builder.cross_entropy("loss", logits, builder.targets());
}

TensorIndex pooler(BlockBuilder& builder, TensorIndex x, const ModelConfig& config) {
  const LoopAxis h{"h", config.hidden_size};
  const TensorIndex dense = builder.linear(
      "pooler", builder.pool("pooler.first", x, "first"), {h}, {h}, true, config.initializer_range);
  return builder.activation("pooler.activation", dense, "tanh");
}

Block head(const ModelConfig& config, const BatchShape& shape) {
  BlockBuilder builder("head", shape.microbatch, shape.sequence);
  const TensorIndex x = builder.boundary_input(config.hidden_size);
  if (config.objective == "pooled") {
    builder.cross_entropy("loss", pooler(builder, x, config), builder.labels());
    return std::move(builder).build();
  }
  masked_tokens(builder, x, config);
  if (config.objective == "pretraining") {
    const TensorIndex sentences = builder.linear("sentence",
                                                 pooler(builder, x, config),
                                                 {{"h", config.hidden_size}},
                                                 {{"v", 2, AxisSharding::kPadded}},
                                                 /*bias=*/true,
                                                 config.initializer_range);
    builder.cross_entropy("sentence.loss", sentences, builder.labels());
  }
  return std::move(builder).build();
}

void build(const ModelConfig& config, const BatchShape& shape, GraphAssembler& assembler) {
  build_decoder(config, shape, {embedding, encoder, head}, assembler);
}

std::vector<FileSlice> file_slices(const NamedParameter& parameter, CheckpointForm) {
  constexpr FileName kLayer[] = {
      {"attention.q", "attention.self.query", 3},
      {"attention.k", "attention.self.key", 2},
      {"attention.v", "attention.self.value", 2},
      {"attention.o", "attention.output.dense", 1},
      {"attention.norm", "attention.output.LayerNorm", 0},
      {"mlp.up", "intermediate.dense", 1},
      {"mlp.down", "output.dense", 1},
      {"mlp.norm", "output.LayerNorm", 0},
  };
  constexpr FileName kEmbedding[] = {
      {"token", "bert.embeddings.word_embeddings", 1},
      {"position", "bert.embeddings.position_embeddings", 1},
      {"type", "bert.embeddings.token_type_embeddings", 1},
      {"norm", "bert.embeddings.LayerNorm", 0},
  };
  constexpr FileName kHead[] = {
      {"transform", "cls.predictions.transform.dense", 1},
      {"transform.norm", "cls.predictions.transform.LayerNorm", 0},
      {"linear", "cls.predictions.decoder", 1},
      {"pooler", "bert.pooler.dense", 1},
      {"sentence", "cls.seq_relationship", 1},
  };
  using Part = NamedParameter::Part;
  std::optional<FileSlice> slice;
  if (parameter.part == Part::kDecoder) {
    slice = find_file_slice(
        kLayer, parameter.tensor, fmt::format("bert.encoder.layer.{}.", parameter.decoder));
  } else {
    slice = parameter.part == Part::kHead ? find_file_slice(kHead, parameter.tensor, "")
                                          : find_file_slice(kEmbedding, parameter.tensor, "");
  }
  SHARDWISE_CHECK(slice.has_value(), "no name in files for " + parameter.tensor.name);
  return {*slice};
}

}  // namespace

ModelFamily bert_family() {
  return {"bert", "bert.", /*has_fused_form=*/false, read, build, file_slices};
}

}  // namespace shardwise
