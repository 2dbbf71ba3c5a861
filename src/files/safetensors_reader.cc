#include "files/safetensors_reader.h"

#include <fmt/format.h>

#include <utility>

#include "core/errors.h"
#include "core/text.h"
#include "files/json.h"

namespace shardwise {

namespace {

SafetensorsLayout read_layout(const InputFile& file) {
  constexpr std::int64_t kLengthBytes = 8;
  const std::string name = file.path().string();
  const std::int64_t size = file.size();
  if (size < kLengthBytes) {
    throw InputError(name,
                     fmt::format("expected a .safetensors file, found {} bytes, too few for the "
                                 "length of its header; copy it again",
                                 size));
  }
  std::uint64_t length = 0;
  file.read_at(0, std::as_writable_bytes(std::span(&length, 1)));
  if (length > static_cast<std::uint64_t>(kMaxSafetensorsHeader) ||
      length > static_cast<std::uint64_t>(size - kLengthBytes)) {
    throw InputError(name,
                     fmt::format("expected a .safetensors file, found a header length of {} in a "
                                 "file of {} bytes; it is cut off or of another format",
                                 length,
                                 size));
  }
  std::string header(static_cast<std::size_t>(length), '\0');
  file.read_at(kLengthBytes, std::as_writable_bytes(std::span(header)));
  return SafetensorsLayout::parse(
      header, size - kLengthBytes - static_cast<std::int64_t>(length), name);
}

// A name from an index must stay in the folder of the index.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string::npos;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), layout_(read_layout(file_)) {}

void SafetensorsFile::read(std::string_view name,
                           std::int64_t byte_offset,
                           std::span<std::byte> out) const {
  const TensorEntry* entry = layout_.find(name);
  if (entry == nullptr) {
    throw InputError(path().string(), fmt::format("expected tensor '{}', found none", name));
  }
  const std::int64_t size = entry->size().count;
  if (byte_offset < 0 || byte_offset > size || std::cmp_greater(out.size(), size - byte_offset)) {
    throw InputError(path().string(),
                     fmt::format("expected a range within the {} bytes of tensor '{}', found {} "
                                 "bytes at {}",
                                 size,
                                 name,
                                 out.size(),
                                 byte_offset));
  }
  file_.read_at(layout_.data_begin() + entry->begin + byte_offset, out);
}

SafetensorsReader SafetensorsReader::open(const std::filesystem::path& path) {
  SafetensorsReader reader(path);
  std::filesystem::path file = path;
  // What cannot be looked at is no folder: opening it as a file says why.
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    file = path / kSafetensorsIndexName;
    if (!std::filesystem::exists(file, ignored)) {
      file = path / kSafetensorsName;
    }
    if (!std::filesystem::exists(file, ignored)) {
      throw InputError(path.string(),
                       fmt::format("expected {} or {} in this folder, found neither",
                                   kSafetensorsName,
                                   kSafetensorsIndexName));
    }
  }
  if (file.extension() == ".json") {
    reader.add_index(file);
    return reader;
  }
  reader.files_.emplace_back(file);
  for (const TensorEntry& entry : reader.files_.front().layout().tensors()) {
    reader.files_of_.emplace(entry.tensor.name, 0);
  }
  return reader;
}

void SafetensorsReader::add_index(const std::filesystem::path& index) {
  const JsonValue weight_map = read_json_file(index).at("weight_map");
  std::map<std::string, std::size_t> opened;
  for (const auto& [name, value] : weight_map.members()) {
    const std::string& file_name = value.as_string();
    if (!is_plain_name(file_name)) {
      throw value.unexpected("the name of a file beside the index");
    }
    auto file = opened.find(file_name);
    if (file == opened.end()) {
      files_.emplace_back(index.parent_path() / file_name);
      file = opened.emplace(file_name, files_.size() - 1).first;
    }
    if (files_[file->second].layout().find(name) == nullptr) {
      throw value.error(
          fmt::format("expected this tensor in {}, found none; the index belongs to "
                      "other files",
                      file_name));
    }
    files_of_.emplace(name, file->second);
  }
  if (files_.empty()) {
    throw weight_map.unexpected("at least one tensor");
  }
}

std::vector<std::string> SafetensorsReader::names() const {
  std::vector<std::string> names;
  names.reserve(files_of_.size());
  for (const auto& [name, file] : files_of_) {
    names.push_back(name);
  }
  return names;
}

const SafetensorsFile& SafetensorsReader::file_of(std::string_view name) const {
  const auto found = files_of_.find(name);
  if (found == files_of_.end()) {
    throw InputError(
        path_.string(),
        fmt::format("expected tensor '{}', found none{}", name, suggest(name, names())));
  }
  return files_[found->second];
}

const TensorEntry& SafetensorsReader::at(std::string_view name) const {
  return *file_of(name).layout().find(name);
}

void SafetensorsReader::read(std::string_view name,
                             std::int64_t byte_offset,
                             std::span<std::byte> out) const {
  file_of(name).read(name, byte_offset, out);
}

}  // namespace shardwise
