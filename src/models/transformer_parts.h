// What the families' configurations and layers have in common.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "graph/block_builder.h"
#include "models/config_reader.h"
#include "models/model.h"
#include "models/model_family.h"

namespace shardwise {

// Name of the activation in OpAttributes::function. Functions of transformers that the runtime
// lacks keep their name and are refused for training; anything else throws InputError.
std::string read_activation(ConfigReader& reader,
                            const std::string& key,
                            const std::string& absent);

// Sets per-layer windows from `layer_types` if the key is there, else `window` in layers from
// `first` on (0: none). Families whose layers are all alike demand that layer_types agrees.
enum class LayerTypes { kMustAgree, kDecide };
void read_sliding_windows(ConfigReader& reader,
                          ModelConfig& config,
                          std::int64_t window,
                          std::int64_t first,
                          LayerTypes layer_types);

// Keys that any configuration may have and that must not say anything unusual.
void check_common_keys(ConfigReader& reader);

// x [b, s, h] -> projections, attention and output projection [b, s, h]. Ops are called
// "attention.q", ".k", ".v", (".q_norm", ".k_norm",) (".q_rotary", ".k_rotary",) ".core" and ".o".
TensorIndex self_attention(BlockBuilder& builder,
                           TensorIndex x,
                           const ModelConfig& config,
                           std::int64_t sliding_window,
                           double output_stddev);

// up, activation, down without a gate: ops `name`.up, .activation, .down.
TensorIndex plain_mlp(BlockBuilder& builder,
                      const std::string& name,
                      TensorIndex x,
                      const LoopAxis& hidden,
                      std::int64_t width,
                      const ModelConfig& config);

// Labels of an image classifier from num_labels or the entries of id2label.
std::int64_t read_labels(ConfigReader& reader);

// Op "classifier" (biased) on [b, 1, width] and "loss".
void classifier_head(BlockBuilder& builder,
                     TensorIndex pooled,
                     std::int64_t width,
                     const ModelConfig& config);

// Ops "linear" (vocabulary padded, no bias), "softcap" if there is one, and "loss"; x is the normed
// hidden state.
void language_model_head(BlockBuilder& builder, TensorIndex x, const ModelConfig& config);

// A parameter's name here and in files: `ours` + ".weight" is `theirs` + ".weight", and so for
// biases. `rows`: leading dimensions of a weight that are rows of the file's matrix; 0: a vector.
struct FileName {
  std::string_view ours, theirs;
  int rows = 0;
};
// The place of the parameter, file names beginning with `prefix`; nothing if no name fits.
std::optional<FileSlice> find_file_slice(std::span<const FileName> names,
                                         const Tensor& tensor,
                                         const std::string& prefix);

// The whole parameter as the whole tensor of the file: `matrix_rows` leading dimensions are the
// rows of the file's matrix, 0: one dimension in the file.
FileSlice whole_tensor(const std::string& file_name, const Tensor& tensor, int matrix_rows);

}  // namespace shardwise
