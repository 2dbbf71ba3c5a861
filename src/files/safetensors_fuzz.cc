// Any bytes are an InputError or tensors that can be read; their layout can be written again.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/errors.h"
#include "files/safetensors_reader.h"

namespace {

// A file in memory with a path, refilled for each input.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("fuzz", 0)) {
    SHARDWISE_CHECK(descriptor_ >= 0, "no file in memory");
  }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }
  void fill(const std::uint8_t* data, std::size_t size) const {
    SHARDWISE_CHECK(::ftruncate(descriptor_, 0) == 0, "truncate");
    SHARDWISE_CHECK(::pwrite(descriptor_, data, size, 0) == static_cast<ssize_t>(size), "write");
  }

 private:
  int descriptor_;
};

void read_all(const shardwise::SafetensorsReader& reader) {
  std::vector<shardwise::TensorSpec> tensors;
  for (const std::string& name : reader.names()) {
    const shardwise::TensorEntry& entry = reader.at(name);
    std::vector<std::byte> bytes(static_cast<std::size_t>(entry.size().count));
    reader.read(name, 0, bytes);
    tensors.push_back(entry.tensor);
  }
  const auto written = shardwise::SafetensorsLayout::make(tensors, reader.metadata());
  const auto again = shardwise::SafetensorsLayout::parse(
      written.preamble().substr(sizeof(std::uint64_t)), written.data_size(), "again");
  SHARDWISE_CHECK(again.tensors().size() == tensors.size(), "tensors lost");
  SHARDWISE_CHECK(again.preamble() == written.preamble(), "equal tensors, other header");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const MemoryFile file;
  file.fill(data, size);
  try {
    read_all(shardwise::SafetensorsReader::open(file.path()));
  } catch (const shardwise::InputError&) {
  }
  return 0;
}
