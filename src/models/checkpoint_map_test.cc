#include "models/checkpoint_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "models/model_family.h"
#include "models/model_testing.h"

namespace shardwise {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::testing::StartsWith;

struct Model {
  explicit Model(const std::string& type, const std::string& extra = "")
      : config(parse_tiny(type, extra)), graph(build_graph(config, 1, tiny_sequence(config))) {}
  ModelConfig config;
  Graph graph;

  const std::vector<FileSlice>& slices_of(const CheckpointMap& map,
                                          int layer,
                                          const std::string& name) const {
    for (const ParameterSlices& parameter : map) {
      const auto tensor = static_cast<std::size_t>(parameter.tensor);
      if (parameter.layer == layer && graph.block_of(layer).tensors[tensor].name == name) {
        return parameter.slices;
      }
    }
    ADD_FAILURE() << "no parameter " << name;
    return map.front().slices;
  }
};

std::vector<std::string> names_of(const CheckpointMap& map) {
  std::set<std::string> names;
  for (const ParameterSlices& parameter : map) {
    for (const FileSlice& slice : parameter.slices) {
      names.insert(slice.file_name);
    }
  }
  return {names.begin(), names.end()};
}

TEST(CheckpointMap, EveryElementOfTheFilesHasExactlyOneParameter) {
  for (const std::string& type : model_types()) {
    SCOPED_TRACE(type);
    const Model model(type);
    std::map<std::string, std::vector<int>> users;  // of each element
    for (const ParameterSlices& parameter : written_checkpoint(model.config, model.graph)) {
      const std::vector<Tensor>& tensors = model.graph.block_of(parameter.layer).tensors;
      const std::vector<std::int64_t>& shape =
          tensors[static_cast<std::size_t>(parameter.tensor)].shape;
      std::int64_t leading = 0;
      for (const FileSlice& slice : parameter.slices) {
        EXPECT_EQ(slice.leading_begin, leading);
        leading += slice.leading_size;
        std::vector<int>& count = users[slice.file_name];
        count.resize(static_cast<std::size_t>(element_count(slice.file_shape)), 0);
        const std::int64_t part = element_count(shape) / shape[0] * slice.leading_size;
        for (std::int64_t i = 0; i < part; ++i) {
          ++count.at(static_cast<std::size_t>(file_index(slice, i)));
        }
      }
      EXPECT_EQ(leading, shape[0]);
    }
    std::int64_t elements = 0;
    for (const auto& [name, count] : users) {
      elements += static_cast<std::int64_t>(count.size());
      EXPECT_EQ(std::set<int>(count.begin(), count.end()), std::set<int>{1}) << name;
    }
    EXPECT_EQ(elements, parameter_count(model.graph));
  }
}

TEST(CheckpointMap, Gpt2KeysLieInTheMiddleOfATransposedMatrix) {
  const Model model("gpt2");  // hidden 32
  const CheckpointMap map = written_checkpoint(model.config, model.graph);
  EXPECT_THAT(
      model.slices_of(map, 2, "attention.k.weight"),
      ElementsAre(FileSlice{"transformer.h.1.attn.c_attn.weight", {32, 96}, true, 0, 4, 32}));
  EXPECT_THAT(model.slices_of(map, 2, "attention.v.bias"),
              ElementsAre(FileSlice{"transformer.h.1.attn.c_attn.bias", {96}, false, 0, 4, 64}));
  EXPECT_THAT(
      model.slices_of(map, 1, "mlp.down.weight"),
      ElementsAre(FileSlice{"transformer.h.0.mlp.c_proj.weight", {128, 32}, true, 0, 32, 0}));
}

TEST(CheckpointMap, MixtralHasOneTensorAnExpert) {
  const Model model("mixtral");
  const CheckpointMap map = written_checkpoint(model.config, model.graph);
  const std::vector<FileSlice>& up = model.slices_of(map, 1, "experts.up");
  ASSERT_THAT(up, SizeIs(4));
  EXPECT_EQ(
      up[3],
      (FileSlice{"model.layers.0.block_sparse_moe.experts.3.w3.weight", {48, 32}, false, 3, 1, 0}));
}

TEST(CheckpointMap, HeadsOfGroupedQueriesAreRowsOfOneMatrix) {
  const Model model("qwen3");  // 4 heads of 16
  const CheckpointMap map = written_checkpoint(model.config, model.graph);
  EXPECT_THAT(
      model.slices_of(map, 1, "attention.q.weight"),
      ElementsAre(FileSlice{"model.layers.0.self_attn.q_proj.weight", {64, 32}, false, 0, 2, 0}));
  EXPECT_THAT(
      model.slices_of(map, 1, "attention.o.weight"),
      ElementsAre(FileSlice{"model.layers.0.self_attn.o_proj.weight", {32, 64}, false, 0, 32, 0}));
}

TEST(CheckpointMap, TiedHeadIsInNoFile) {
  const Model tied("llama", R"("tie_word_embeddings": true)");
  EXPECT_THAT(names_of(written_checkpoint(tied.config, tied.graph)),
              ::testing::Not(::testing::Contains("lm_head.weight")));
  const Model untied("llama");
  EXPECT_THAT(names_of(written_checkpoint(untied.config, untied.graph)),
              ::testing::Contains("lm_head.weight"));
}

TEST(StoredCheckpoint, PublishedNamesAreAsWritten) {
  for (const std::string& type : model_types()) {
    const Model model(type);
    const CheckpointMap map = written_checkpoint(model.config, model.graph);
    EXPECT_EQ(stored_checkpoint(model.config, model.graph, names_of(map), "folder"), map) << type;
  }
}

TEST(StoredCheckpoint, PrefixOfTheBareModelMayBeMissing) {
  const Model model("gpt2");
  std::vector<std::string> names;
  for (const std::string& name : names_of(written_checkpoint(model.config, model.graph))) {
    names.push_back(name.substr(std::string("transformer.").size()));
  }
  names.emplace_back("h.0.attn.bias");   // causal mask of old versions
  names.emplace_back("lm_head.weight");  // copy of the embedding
  const CheckpointMap map = stored_checkpoint(model.config, model.graph, names, "folder");
  EXPECT_EQ(model.slices_of(map, 0, "token.weight")[0].file_name, "wte.weight");
}

TEST(StoredCheckpoint, FusedExpertsAreRowsOfThreeDimensionalTensors) {
  const Model model("mixtral");  // 4 experts, 48 x 32
  std::vector<std::string> names;
  for (const std::string& name : names_of(written_checkpoint(model.config, model.graph))) {
    if (name.find("block_sparse_moe") == std::string::npos) {
      names.push_back(name);
    }
  }
  for (const std::string prefix : {"model.layers.0.mlp.", "model.layers.1.mlp."}) {
    for (const char* name : {"gate.weight", "experts.gate_up_proj", "experts.down_proj"}) {
      names.push_back(prefix + name);
    }
  }
  const CheckpointMap map = stored_checkpoint(model.config, model.graph, names, "folder");
  const FileSlice& up = model.slices_of(map, 2, "experts.up")[1];
  // Expert 1: gate in rows 96..143, up in rows 144..191 of 32 columns.
  EXPECT_EQ(up,
            (FileSlice{"model.layers.1.mlp.experts.gate_up_proj", {4, 96, 32}, false, 1, 1, 144}));
  EXPECT_EQ(file_index(up, 0), 144 * 32);
  EXPECT_THAT(
      model.slices_of(map, 2, "experts.down"),
      ElementsAre(FileSlice{"model.layers.1.mlp.experts.down_proj", {4, 32, 48}, false, 0, 4, 0}));
}

TEST(StoredCheckpoint, AnotherModelIsRefused) {
  const Model model("llama");
  std::vector<std::string> names = names_of(written_checkpoint(model.config, model.graph));
  const auto refusal = [&](const std::vector<std::string>& present) -> std::string {
    try {
      stored_checkpoint(model.config, model.graph, present, "folder");
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  names.emplace_back("model.layers.2.mlp.up_proj.weight");
  EXPECT_THAT(refusal(names), HasSubstr("found 'model.layers.2.mlp.up_proj.weight'"));
  names.pop_back();
  names.erase(names.begin());  // lm_head.weight
  EXPECT_THAT(refusal(names), StartsWith("folder: expected tensor 'lm_head.weight'"));
  EXPECT_THAT(refusal({}), HasSubstr("no tensor at all"));
}

}  // namespace
}  // namespace shardwise
