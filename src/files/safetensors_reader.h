// Reads tensors, or parts of them, from .safetensors files. Headers are read and checked at once,
// data only when asked for.
//
//   const SafetensorsReader weights = SafetensorsReader::open("gpt2/");
//   const TensorEntry& entry = weights.at("wte.weight");
//   weights.read("wte.weight", row * row_bytes, out);
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "files/input_file.h"
#include "files/safetensors_layout.h"

namespace shardwise {

// One file.
class SafetensorsFile {
 public:
  // Throws InputError for a missing or damaged file.
  explicit SafetensorsFile(const std::filesystem::path& path);

  const SafetensorsLayout& layout() const { return layout_; }
  const std::filesystem::path& path() const { return file_.path(); }
  // Bytes of one tensor from `byte_offset` on. Throws InputError naming the tensor if it is missing
  // or the range leaves it, RuntimeFailure if the disk fails. Threads may call it at once.
  void read(std::string_view name, std::int64_t byte_offset, std::span<std::byte> out) const;

 private:
  InputFile file_;
  SafetensorsLayout layout_;
};

// All tensors of a model, in one file or several.
class SafetensorsReader {
 public:
  // `path` is a .safetensors file, an index (model.safetensors.index.json), or a folder that holds
  // one of them. Throws InputError if it is none, or if the index names a file or a tensor that is
  // missing.
  static SafetensorsReader open(const std::filesystem::path& path);

  // Sorted.
  std::vector<std::string> names() const;
  bool contains(std::string_view name) const { return files_of_.contains(name); }
  // Throws InputError with the nearest known name if there is no such tensor.
  const TensorEntry& at(std::string_view name) const;
  // See SafetensorsFile::read().
  void read(std::string_view name, std::int64_t byte_offset, std::span<std::byte> out) const;
  // Metadata of the first file.
  const TensorMetadata& metadata() const { return files_.front().layout().metadata(); }

 private:
  explicit SafetensorsReader(std::filesystem::path path) : path_(std::move(path)) {}
  void add_index(const std::filesystem::path& index);
  const SafetensorsFile& file_of(std::string_view name) const;

  std::filesystem::path path_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, std::size_t, std::less<>> files_of_;  // index into files_, by tensor
};

inline constexpr std::string_view kSafetensorsName = "model.safetensors";
inline constexpr std::string_view kSafetensorsIndexName = "model.safetensors.index.json";

}  // namespace shardwise
