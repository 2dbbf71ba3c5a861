// Parameter counts of published configurations against the table of ../shared/data/hf_configs.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include "core/text.h"
#include "files/read_file.h"
#include "models/model.h"
#include "models/model_family.h"

namespace shardwise {
namespace {

std::filesystem::path data_folder() {
  const char* folder = std::getenv("SHARDWISE_DATA");
  return std::filesystem::path(folder == nullptr ? "../shared/data" : folder) / "hf_configs";
}

std::int64_t digits_of(std::string_view cell) {
  std::string digits;
  for (const char letter : cell) {
    if (letter == ',') {
      continue;
    }
    if (letter < '0' || letter > '9') {
      break;
    }
    digits += letter;
  }
  return digits.empty() ? 0 : std::stoll(digits);
}

struct Row {
  std::string model_type;
  std::int64_t total = 0;
  bool is_bare_bert = false;  // `total` counts BertModel
  std::int64_t masked = 0;    // "MLM, no pooler: ..."
};

// Rows "| file[, file] | model_type[ (remark)] | exact total | ...".
std::map<std::string, Row> table() {
  std::map<std::string, Row> rows;
  for (const std::string& line : split(read_file(data_folder() / "README.md"), '\n')) {
    const std::vector<std::string> cells = split(line, '|');
    if (cells.size() < 4) {
      continue;
    }
    const std::string cell(trim(cells[2]));
    const std::string model_type = cell.substr(0, cell.find(' '));
    if (find_family(model_type) == nullptr) {
      continue;
    }
    for (const std::string& file : split(cells[1], ',')) {
      const std::string& more = cells.size() > 5 ? cells[5] : cells[3];
      const std::size_t masked = more.find("no pooler: ");
      rows[std::string(trim(file))] = {
          model_type,
          digits_of(trim(cells[3])),
          cells[3].find("(BertModel") != std::string::npos,
          masked == std::string::npos ? 0 : digits_of(more.substr(masked + 11))};
    }
  }
  return rows;
}

std::int64_t count_parameters(const ModelConfig& config) {
  return parameter_count(
      build_graph(config, 1, config.fixed_sequence > 0 ? config.fixed_sequence : 8));
}

ModelConfig as_bare_bert(const ModelConfig& config) {
  std::string json = config.json;
  const std::string theirs = "BertForMaskedLM";
  json.replace(json.find(theirs), theirs.size(), "BertModel");
  return parse_model_config(parse_json(json, "bare.json"));
}

TEST(ParameterCount, EqualsThePublishedTable) {
  if (!std::filesystem::exists(data_folder() / "README.md")) {
    GTEST_SKIP() << "no published configurations in " << data_folder();
  }
  std::map<std::string, Row> rows = table();
  EXPECT_EQ(rows.size(), 38U);
  // Two keys are called otherwise there.
  EXPECT_EQ(rows.erase("deepseek-v3.simai-renamed-fields"), 1U);
  for (const auto& [file, row] : rows) {
    SCOPED_TRACE(file);
    const ModelConfig config = read_model_config(data_folder() / (file + ".json"), row.model_type);
    if (row.is_bare_bert && config.objective == "masked") {
      // The table counts BertModel, the file is of BertForMaskedLM: the count beside it.
      EXPECT_EQ(count_parameters(config), row.masked);
      EXPECT_EQ(count_parameters(as_bare_bert(config)), row.total);
    } else {
      EXPECT_EQ(count_parameters(config), row.total);
    }
    EXPECT_EQ(parse_model_config(parse_json(config.json, "copy.json")).json, config.json);
  }
}

TEST(ParameterCount, EveryPublishedFileIsInTheTable) {
  if (!std::filesystem::exists(data_folder() / "README.md")) {
    GTEST_SKIP() << "no published configurations in " << data_folder();
  }
  const std::map<std::string, Row> rows = table();
  for (const auto& entry : std::filesystem::directory_iterator(data_folder())) {
    if (entry.path().extension() == ".json") {
      EXPECT_TRUE(rows.contains(entry.path().stem().string())) << entry.path();
    }
  }
}

TEST(ParameterCount, RenamedKeysAreReported) {
  const std::filesystem::path file = data_folder() / "deepseek-v3.simai-renamed-fields.json";
  if (!std::filesystem::exists(file)) {
    GTEST_SKIP() << "no published configurations in " << data_folder();
  }
  try {
    read_model_config(file);
    FAIL();
  } catch (const InputError& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("expected key 'n_routed_experts'"), std::string::npos) << message;
    EXPECT_NE(message.find("did you mean 'num_routed_experts'"), std::string::npos) << message;
  }
}

TEST(ParameterCount, HeadsOfBertFollowItsArchitecture) {
  // 12 layers of hidden 768 as by the formulas of the table: masked tokens without pooler.
  const std::string sizes =
      R"({"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12, "vocab_size": 30522,
          "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 512,
          "architectures": ["BertForMaskedLM"]})";
  EXPECT_EQ(count_parameters(parse_model_config(parse_json(sizes, "config.json"))), 109514298);
}

TEST(ParameterCount, WideResnetsAreTorchvisions) {
  // torchvision's documentation: wide_resnet50_2 has 68,883,240 parameters, wide_resnet101_2
  // 126,886,696.
  const auto count = [](const std::string& depths) {
    const std::string text = R"({"model_type": "wide_resnet", "image_size": 224, "num_channels": 3,
      "num_labels": 1000, "base_width": 64, "width_factor": 2, "depths": )" +
                             depths + "}";
    return count_parameters(parse_model_config(parse_json(text, "config.json")));
  };
  EXPECT_EQ(count("[3, 4, 6, 3]"), 68883240);
  EXPECT_EQ(count("[3, 4, 23, 3]"), 126886696);
}

}  // namespace
}  // namespace shardwise
