// Cluster files: any text is refused with an InputError or is a sound cluster that reads back.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "core/errors.h"
#include "files/json_writer.h"
#include "io/cluster_file.h"
#include "io/cluster_json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const Cluster cluster = parse_cluster_yaml(text, "cluster.yaml");
    SHARDWISE_CHECK(cluster_violation(cluster).empty(), "an unsound cluster was read");
    const std::string written = to_json_text(cluster_to_json(cluster));
    const Cluster again = cluster_from_json(parse_json(written, "cluster.json"));
    SHARDWISE_CHECK(again.num_devices() == cluster.num_devices(),
                    "a cluster that does not read back");
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
