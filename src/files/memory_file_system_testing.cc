#include "files/memory_file_system_testing.h"

#include <algorithm>
#include <cerrno>

#include "core/errors.h"

namespace shardwise {

class MemoryFileSystem::File : public OutputFile {
 public:
  explicit File(NodePointer node) : node_(std::move(node)) {}

  void write_at(std::int64_t offset, std::span<const std::byte> data) override {
    const auto begin = static_cast<std::size_t>(offset);
    node_->contents.resize(std::max(node_->contents.size(), begin + data.size()));
    std::transform(data.begin(), data.end(), node_->contents.begin() + offset, [](std::byte byte) {
      return static_cast<char>(byte);
    });
  }
  void resize(std::int64_t size) override {
    node_->contents.resize(static_cast<std::size_t>(size));
  }
  void sync() override { node_->synced_contents = node_->contents; }

 private:
  NodePointer node_;
};

MemoryFileSystem::MemoryFileSystem() : root_(std::make_shared<Node>()) { root_->is_folder = true; }

MemoryFileSystem::NodePointer MemoryFileSystem::find(const std::filesystem::path& path) const {
  NodePointer node = root_;
  for (const std::filesystem::path& name : path.relative_path()) {
    const auto entry = node->entries.find(name.string());
    if (entry == node->entries.end()) {
      return nullptr;
    }
    node = entry->second;
  }
  return node;
}

MemoryFileSystem::Node& MemoryFileSystem::folder_of(const std::filesystem::path& path) const {
  const NodePointer folder = find(path.parent_path());
  if (!folder || !folder->is_folder) {
    throw_file_error(path, "reach it", ENOENT);
  }
  return *folder;
}

std::unique_ptr<OutputFile> MemoryFileSystem::open_output(const std::filesystem::path& path,
                                                          OpenMode mode) {
  NodePointer node = find(path);
  if (!node) {
    if (mode == OpenMode::kExisting) {
      throw_file_error(path, "open the file for writing", ENOENT);
    }
    node = std::make_shared<Node>();
    folder_of(path).entries[path.filename()] = node;
  }
  if (mode == OpenMode::kTruncate) {
    node->contents.clear();
  }
  return std::make_unique<File>(std::move(node));
}

void MemoryFileSystem::sync_folder(const std::filesystem::path& path) {
  const NodePointer folder = find(path);
  SHARDWISE_CHECK(folder && folder->is_folder, "sync of a folder that is missing");
  folder->synced_entries = folder->entries;
}

void MemoryFileSystem::rename(const std::filesystem::path& from, const std::filesystem::path& to) {
  const NodePointer node = find(from);
  SHARDWISE_CHECK(node, "rename of a missing name");
  const NodePointer replaced = find(to);
  SHARDWISE_CHECK(!replaced || !replaced->is_folder, "rename to a folder that exists");
  folder_of(to).entries[to.filename()] = node;
  folder_of(from).entries.erase(from.filename());
}

void MemoryFileSystem::exchange(const std::filesystem::path& a, const std::filesystem::path& b) {
  SHARDWISE_CHECK(find(a) && find(b), "exchange with a missing name");
  std::swap(folder_of(a).entries[a.filename()], folder_of(b).entries[b.filename()]);
}

void MemoryFileSystem::make_folder(const std::filesystem::path& path) {
  if (find(path)) {
    throw_file_error(path, "make the folder", EEXIST);
  }
  auto node = std::make_shared<Node>();
  node->is_folder = true;
  folder_of(path).entries[path.filename()] = std::move(node);
}

void MemoryFileSystem::remove(const std::filesystem::path& path) {
  const NodePointer node = find(path);
  SHARDWISE_CHECK(!node || node->entries.empty(), "remove of a folder with entries");
  if (node) {
    folder_of(path).entries.erase(path.filename());
  }
}

PathKind MemoryFileSystem::kind(const std::filesystem::path& path) const {
  const NodePointer node = find(path);
  if (!node) {
    return PathKind::kMissing;
  }
  return node->is_folder ? PathKind::kFolder : PathKind::kFile;
}

std::vector<std::filesystem::path> MemoryFileSystem::list(
    const std::filesystem::path& folder) const {
  const NodePointer node = find(folder);
  SHARDWISE_CHECK(node && node->is_folder, "list of a folder that is missing");
  std::vector<std::filesystem::path> paths;
  for (const auto& [name, entry] : node->entries) {
    paths.push_back(folder / name);
  }
  return paths;
}

std::optional<std::string> MemoryFileSystem::contents(const std::filesystem::path& path) const {
  const NodePointer node = find(path);
  return node && !node->is_folder ? std::optional(node->contents) : std::nullopt;
}

MemoryFileSystem::NodePointer MemoryFileSystem::survivor(const NodePointer& node, PowerCut cut) {
  const bool keeps_names = cut == PowerCut::kKeepsNames || cut == PowerCut::kKeepsEverything;
  const bool keeps_contents = cut == PowerCut::kKeepsContents || cut == PowerCut::kKeepsEverything;
  auto left = std::make_shared<Node>();
  left->is_folder = node->is_folder;
  left->contents = node->contents;
  if (!keeps_contents && node->contents != node->synced_contents) {
    left->contents = cut == PowerCut::kKeepsNames
                         ? node->contents.substr(0, node->contents.size() / 2)
                         : node->synced_contents;
  }
  left->synced_contents = left->contents;
  for (const auto& [name, entry] : keeps_names ? node->entries : node->synced_entries) {
    left->entries[name] = survivor(entry, cut);
  }
  left->synced_entries = left->entries;
  return left;
}

void MemoryFileSystem::cut_power(PowerCut cut) { root_ = survivor(root_, cut); }

}  // namespace shardwise
