// Matrices of nvidia-smi: any text is refused with an InputError or is a sound matrix.
#include "io/gpu_topology.h"

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const GpuTopology read = parse_gpu_topology(text, "topo.txt");
    const auto parts =
        static_cast<std::size_t>(read.devices) + static_cast<std::size_t>(read.cards);
    SHARDWISE_CHECK(read.devices > 0 && read.cells.size() == parts, "a matrix without its rows");
    const NetworkLevel level =
        node_level(read, BytesPerSecond(25e9), BytesPerSecond(12e9), "topo.txt");
    SHARDWISE_CHECK(level.size == read.devices && level.bandwidth.count > 0, "an unsound level");
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
