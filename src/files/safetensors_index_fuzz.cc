// The index of a checkpoint in several files: refused with an InputError, or its tensors are read
// from the files beside it, never from elsewhere.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/errors.h"
#include "files/safetensors_reader.h"
#include "files/temporary_folder.h"

namespace {

using namespace shardwise;

// A folder with one file of two small tensors; the index is written anew for each input.
class Checkpoint {
 public:
  Checkpoint() {
    const SafetensorsLayout layout = SafetensorsLayout::make(
        {{"a", TensorType::kFloat32, {2}}, {"b", TensorType::kFloat32, {1}}}, {});
    folder_.write(
        "part.safetensors",
        layout.preamble() + std::string(static_cast<std::size_t>(layout.data_size()), 'x'));
  }
  const std::filesystem::path& folder() const { return folder_.path(); }
  void write_index(const std::uint8_t* data, std::size_t size) const {
    folder_.write(kSafetensorsIndexName, {reinterpret_cast<const char*>(data), size});
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Checkpoint checkpoint;
  checkpoint.write_index(data, size);
  try {
    const SafetensorsReader reader = SafetensorsReader::open(checkpoint.folder());
    for (const std::string& name : reader.names()) {
      std::vector<std::byte> bytes(static_cast<std::size_t>(reader.at(name).size().count));
      reader.read(name, 0, bytes);
    }
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
