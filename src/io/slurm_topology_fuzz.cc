// Slurm's topology.conf: any text is refused with an InputError or is a uniform tree.
#include "io/slurm_topology.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const SwitchTree tree = parse_slurm_topology(text, "topology.conf");
    std::size_t places = 1;
    for (const int parts : tree.fan_out) {
      places *= static_cast<std::size_t>(parts);
    }
    SHARDWISE_CHECK(places == tree.nodes.size(), "levels that do not multiply to the nodes");
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
