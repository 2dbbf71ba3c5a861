#include "models/config_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "core/text.h"

namespace shardwise {

namespace {

// Written by transformers' PreTrainedConfig, by its generation settings of old, and by common
// tools. None changes the tensors or what forward computes from them.
constexpr std::array<std::string_view, 79> kMetadata = {
    // identity and loading
    "_name_or_path",
    "_commit_hash",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "attn_implementation",
    "architectures",
    "model_type",
    "transformers_version",
    "torch_dtype",
    "dtype",
    "transformers.js_config",
    "use_cache",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "torchscript",
    "use_bfloat16",
    "tf_legacy_loss",
    "chunk_size_feed_forward",
    "gradient_checkpointing",
    // tokens and tasks
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "sep_token_id",
    "decoder_start_token_id",
    "tokenizer_class",
    "prefix",
    "task_specific_params",
    "finetuning_task",
    "problem_type",
    "id2label",
    "label2id",
    "num_labels",
    "classifier_dropout",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "n_special",
    "predict_special_tokens",
    "is_decoder",
    "cross_attention_hidden_size",
    "tie_encoder_decoder",
    // generation
    "max_length",
    "min_length",
    "max_new_tokens",
    "do_sample",
    "early_stopping",
    "num_beams",
    "num_beam_groups",
    "diversity_penalty",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    "repetition_penalty",
    "length_penalty",
    "no_repeat_ngram_size",
    "encoder_no_repeat_ngram_size",
    "bad_words_ids",
    "num_return_sequences",
    "output_scores",
    "return_dict_in_generate",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "remove_invalid_values",
    "exponential_decay_length_penalty",
    "suppress_tokens",
    "begin_suppress_tokens",
    "generation_config",
    // numerical layout of somebody else's implementation
    "pretraining_tp",
    "is_llama_config",
    "_flash_attn_2_enabled",
    "unsloth_version",
    "unsloth_fixed",
    "unsloth_tie_weights",
    "unsloth_training",
    "_pre_quantization_dtype",
};

bool is_metadata(const std::string& key) {
  return std::find(kMetadata.begin(), kMetadata.end(), key) != kMetadata.end();
}

}  // namespace

std::optional<JsonValue> ConfigReader::find(const std::string& key) {
  known_.insert(key);
  std::optional<JsonValue> value = root_.find(key);
  return value && value->is_null() ? std::nullopt : value;
}

bool ConfigReader::contains(const std::string& key) {
  known_.insert(key);
  return root_.find(key).has_value();
}

std::int64_t ConfigReader::size(const std::string& key, std::int64_t largest) {
  known_.insert(key);
  return root_.at(key).as_int64(1, largest);
}

std::int64_t ConfigReader::size_or(const std::string& key, std::int64_t absent) {
  const std::optional<JsonValue> value = find(key);
  return value ? value->as_int64(1, kLargestSize) : absent;
}

double ConfigReader::number(const std::string& key, double absent, double min, double max) {
  const std::optional<JsonValue> value = find(key);
  return value ? value->as_double(min, max) : absent;
}

bool ConfigReader::flag(const std::string& key, bool absent) {
  const std::optional<JsonValue> value = find(key);
  return value ? value->as_bool() : absent;
}

std::string ConfigReader::text(const std::string& key, const std::string& absent) {
  const std::optional<JsonValue> value = find(key);
  return value ? value->as_string() : absent;
}

void ConfigReader::require_flag(const std::string& key, bool value, const std::string& why) {
  const std::optional<JsonValue> found = find(key);
  if (found && accepted_.count(key) == 0 && found->as_bool() != value) {
    throw found->unexpected(value ? "true" : "false", why);
  }
}

void ConfigReader::require_absent(const std::string& key, const std::string& why) {
  const std::optional<JsonValue> found = find(key);
  const bool is_empty = found && (found->is_object() || found->is_array()) && found->size() == 0;
  if (found && !is_empty && accepted_.count(key) == 0) {
    throw found->unexpected("null or no such key", why);
  }
}

void ConfigReader::accept(const std::string& key) {
  known_.insert(key);
  accepted_.insert(key);
}

void ConfigReader::dropout(const std::string& key, double absent) {
  const double probability = number(key, absent, 0, 1);
  if (probability > 0) {
    warnings.push_back(fmt::format(
        "{} {} counts as 0: dropout is not supported in this version", key, probability));
  }
}

void ConfigReader::ignore(std::initializer_list<std::string_view> keys) {
  known_.insert(keys.begin(), keys.end());
}

void ConfigReader::finish(const std::string& model_type) const {
  for (const JsonMember& member : root_.members()) {
    if (known_.count(member.key) > 0 || is_metadata(member.key)) {
      continue;
    }
    const std::vector<std::string> names(known_.begin(), known_.end());
    const std::optional<std::string> match = closest_match(member.key, names);
    throw member.value.error(fmt::format(
        "expected a key that {} models have, found {}, which may change the model; {}",
        model_type,
        member.value.describe(),
        match ? fmt::format("did you mean '{}'?", *match) : "remove it if it changes nothing"));
  }
}

}  // namespace shardwise
