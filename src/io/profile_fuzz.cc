// Profile files: any text is refused with an InputError or reads back from what we write of it.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "core/errors.h"
#include "files/json_writer.h"
#include "io/cluster_file.h"
#include "io/table_json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const LoadedCluster profile = parse_profile(text, "profile.json");
    const std::string written = to_json_text(table_to_json(*profile.table));
    SHARDWISE_CHECK(table_from_json(parse_json(written, "table.json")) == *profile.table,
                    "a table that does not read back");
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
