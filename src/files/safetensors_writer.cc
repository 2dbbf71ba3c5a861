#include "files/safetensors_writer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/errors.h"
#include "files/json_writer.h"
#include "files/safetensors_reader.h"

namespace shardwise {

namespace {

// Groups of consecutive tensors, each within the limit or a single tensor.
std::vector<std::vector<TensorSpec>> group_by_size(const std::vector<TensorSpec>& tensors,
                                                   Bytes max_shard_size) {
  std::vector<std::vector<TensorSpec>> groups(1);
  Bytes size(0);
  for (const TensorSpec& tensor : tensors) {
    const Bytes added = tensor_bytes(tensor);
    if (!groups.back().empty() && added > max_shard_size - size) {
      groups.emplace_back();
      size = Bytes(0);
    }
    groups.back().push_back(tensor);
    size += added;
  }
  return groups;
}

void write_text(const std::filesystem::path& path, std::string_view text, FileSystem& files) {
  const auto file = files.open_output(path, OpenMode::kTruncate);
  file->write_at(0, bytes_of(text));
  file->sync();
}

std::string index_text(const ShardedTensors& tensors) {
  std::map<std::string, std::string> weight_map;
  for (const SafetensorsShard& shard : tensors.shards) {
    for (const TensorEntry& entry : shard.layout.tensors()) {
      weight_map[entry.tensor.name] = shard.file_name;
    }
  }
  return to_json_text(
      {{"metadata", {{"total_size", tensors.total_size().count}}}, {"weight_map", weight_map}});
}

}  // namespace

Bytes ShardedTensors::total_size() const {
  Bytes total(0);
  for (const SafetensorsShard& shard : shards) {
    total += Bytes(shard.layout.data_size());
  }
  return total;
}

ShardedTensors split_tensors(const std::vector<TensorSpec>& tensors,
                             Bytes max_shard_size,
                             const TensorMetadata& metadata) {
  std::set<std::string_view> seen;
  for (const TensorSpec& tensor : tensors) {
    if (!seen.insert(tensor.name).second) {
      throw InputError("tensor '" + tensor.name + "'", "expected each name once, found it twice");
    }
  }
  ShardedTensors result;
  const auto groups = group_by_size(tensors, max_shard_size);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    result.shards.push_back(
        {.file_name = groups.size() == 1
                          ? std::string(kSafetensorsName)
                          : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, groups.size()),
         .layout = SafetensorsLayout::make(groups[i], metadata)});
  }
  return result;
}

void create_safetensors(const std::filesystem::path& folder,
                        const ShardedTensors& tensors,
                        FileSystem& files) {
  for (const SafetensorsShard& shard : tensors.shards) {
    const auto file = files.open_output(folder / shard.file_name, OpenMode::kTruncate);
    file->write_at(0, bytes_of(shard.layout.preamble()));
    file->resize(shard.layout.file_size());
    file->sync();
  }
  if (tensors.shards.size() > 1) {
    write_text(folder / kSafetensorsIndexName, index_text(tensors), files);
  }
}

SafetensorsWriter::SafetensorsWriter(std::filesystem::path folder,
                                     const ShardedTensors& tensors,
                                     FileSystem& files)
    : folder_(std::move(folder)), outputs_(tensors.shards.size()), files_(&files) {
  for (const SafetensorsShard& shard : tensors.shards) {
    for (const TensorEntry& entry : shard.layout.tensors()) {
      places_.emplace(entry.tensor.name,
                      Place{.shard = file_names_.size(),
                            .begin = shard.layout.data_begin() + entry.begin,
                            .size = entry.size().count});
    }
    file_names_.push_back(shard.file_name);
  }
}

void SafetensorsWriter::write(std::string_view name,
                              std::int64_t byte_offset,
                              std::span<const std::byte> data) {
  const auto found = places_.find(name);
  SHARDWISE_CHECK(found != places_.end(), fmt::format("no place for tensor '{}'", name));
  const Place& place = found->second;
  SHARDWISE_CHECK(byte_offset >= 0 && byte_offset <= place.size &&
                      std::cmp_less_equal(data.size(), place.size - byte_offset),
                  fmt::format("{} bytes at {} of tensor '{}', which has {}",
                              data.size(),
                              byte_offset,
                              name,
                              place.size));
  std::unique_ptr<OutputFile>& output = outputs_[place.shard];
  if (!output) {
    output = files_->open_output(folder_ / file_names_[place.shard], OpenMode::kExisting);
  }
  output->write_at(place.begin + byte_offset, data);
}

void SafetensorsWriter::sync() {
  for (const std::unique_ptr<OutputFile>& output : outputs_) {
    if (output) {
      output->sync();
    }
  }
}

}  // namespace shardwise
