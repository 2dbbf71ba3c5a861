// A file system in memory that knows what a power cut would leave: the referee of atomic_file.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "files/file_system.h"

namespace shardwise {

// What reaches the disk although nobody has synced it. Real disks do any of these.
enum class PowerCut {
  kLosesUnsynced,    // neither contents nor names
  kKeepsNames,       // names, but of unsynced contents only the first half
  kKeepsContents,    // contents, but no names
  kKeepsEverything,  // as after a mere kill of the process
};

// Paths are absolute; "/" exists. No links.
class MemoryFileSystem : public FileSystem {
 public:
  MemoryFileSystem();

  std::unique_ptr<OutputFile> open_output(const std::filesystem::path& path,
                                          OpenMode mode) override;
  void sync_folder(const std::filesystem::path& path) override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void exchange(const std::filesystem::path& a, const std::filesystem::path& b) override;
  void make_folder(const std::filesystem::path& path) override;
  void remove(const std::filesystem::path& path) override;
  PathKind kind(const std::filesystem::path& path) const override;
  std::vector<std::filesystem::path> list(const std::filesystem::path& folder) const override;

  // Contents of a file; nothing if it is missing.
  std::optional<std::string> contents(const std::filesystem::path& path) const;
  // Cuts the power, and starts again with what is left.
  void cut_power(PowerCut cut);

 private:
  struct Node;
  using NodePointer = std::shared_ptr<Node>;  // shared: a node has a present and a synced name
  struct Node {
    bool is_folder = false;
    std::string contents;
    std::string synced_contents;
    std::map<std::string, NodePointer> entries;
    std::map<std::string, NodePointer> synced_entries;
  };
  class File;

  NodePointer find(const std::filesystem::path& path) const;
  Node& folder_of(const std::filesystem::path& path) const;
  static NodePointer survivor(const NodePointer& node, PowerCut cut);

  NodePointer root_;
};

}  // namespace shardwise
