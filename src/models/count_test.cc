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
};

// Rows "| file[, file] | model_type | exact total | ..." of the families that we read.
std::map<std::string, Row> table() {
  std::map<std::string, Row> rows;
  for (const std::string& line : split(read_file(data_folder() / "README.md"), '\n')) {
    const std::vector<std::string> cells = split(line, '|');
    if (cells.size() < 4) {
      continue;
    }
    const std::string model_type(trim(cells[2]));
    if (find_family(model_type) == nullptr) {
      continue;
    }
    for (const std::string& file : split(cells[1], ',')) {
      rows[std::string(trim(file))] = {model_type, digits_of(trim(cells[3]))};
    }
  }
  return rows;
}

TEST(ParameterCount, EqualsThePublishedTable) {
  if (!std::filesystem::exists(data_folder() / "README.md")) {
    GTEST_SKIP() << "no published configurations in " << data_folder();
  }
  const std::map<std::string, Row> rows = table();
  std::map<std::string, int> files_of_family;
  for (const auto& [file, row] : rows) {
    SCOPED_TRACE(file);
    const ModelConfig config = read_model_config(data_folder() / (file + ".json"), row.model_type);
    EXPECT_EQ(parameter_count(build_graph(config, 1, 8)), row.total);
    EXPECT_EQ(parse_model_config(parse_json(config.json, "copy.json")).json, config.json);
    ++files_of_family[row.model_type];
  }
}

TEST(ParameterCount, OtherFamiliesAreRefusedByName) {
  if (!std::filesystem::exists(data_folder() / "README.md")) {
    GTEST_SKIP() << "no published configurations in " << data_folder();
  }
  int refused = 0;
  for (const auto& entry : std::filesystem::directory_iterator(data_folder())) {
    if (entry.path().extension() != ".json") {
      continue;
    }
    try {
      read_model_config(entry.path());
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find("model_type"), std::string::npos) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace shardwise
