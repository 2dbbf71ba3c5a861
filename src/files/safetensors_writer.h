// Writes .safetensors files of which several processes may each write a part:
//
//   const ShardedTensors shards = split_tensors(specs, parse_bytes("5 GB", "--max-shard"));
//   create_safetensors(staging, shards);                    // one process; then a barrier
//   SafetensorsWriter writer(staging, shards);              // every process
//   writer.write("wte.weight", first_row * row_bytes, rows);
//   writer.sync();                                          // then a barrier, and publish_folder()
//
// All processes must pass the same tensors in the same order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/units.h"
#include "files/file_system.h"
#include "files/safetensors_layout.h"

namespace shardwise {

struct SafetensorsShard {
  std::string file_name;
  SafetensorsLayout layout;
};

struct ShardedTensors {
  std::vector<SafetensorsShard> shards;

  // Bytes of all tensors, as the index says it.
  Bytes total_size() const;
};

// Fills one file after the other with the tensors in the order given, each with at most
// `max_shard_size` bytes of data; a larger tensor gets a file of its own. One file is called
// model.safetensors, several model-00001-of-0000n.safetensors. Metadata is repeated in every file.
// Throws InputError as SafetensorsLayout::make() does, and for a name given twice.
ShardedTensors split_tensors(const std::vector<TensorSpec>& tensors,
                             Bytes max_shard_size,
                             const TensorMetadata& metadata = {{"format", "pt"}});

// Makes all files of `tensors` in `folder` with their headers and zeros as data, and
// model.safetensors.index.json if there are several. Replaces files of these names.
void create_safetensors(const std::filesystem::path& folder,
                        const ShardedTensors& tensors,
                        FileSystem& files = disk());

// Fills in data. Files are opened when first written. Not for several threads at once; several
// writers, also in other processes, may write the same files.
class SafetensorsWriter {
 public:
  SafetensorsWriter(std::filesystem::path folder,
                    const ShardedTensors& tensors,
                    FileSystem& files = disk());

  // Writes `data` from byte `byte_offset` of the tensor on. The range must lie inside the tensor
  // (a bug otherwise).
  void write(std::string_view name, std::int64_t byte_offset, std::span<const std::byte> data);
  // Returns when all that this writer wrote would survive a power cut.
  void sync();

 private:
  struct Place {
    std::size_t shard;
    std::int64_t begin;  // in the file
    std::int64_t size;
  };

  std::filesystem::path folder_;
  std::vector<std::string> file_names_;
  std::vector<std::unique_ptr<OutputFile>> outputs_;  // null until first written
  std::map<std::string, Place, std::less<>> places_;
  FileSystem* files_;
};

}  // namespace shardwise
