#include "files/faulty_file_system.h"

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "core/errors.h"

namespace shardwise {

class FaultyFileSystem::File : public OutputFile {
 public:
  File(FaultyFileSystem* system, std::filesystem::path path, std::unique_ptr<OutputFile> inner)
      : system_(system), path_(std::move(path)), inner_(std::move(inner)) {}

  void write_at(std::int64_t offset, std::span<const std::byte> data) override {
    if (system_->is_broken()) {
      if (system_->num_operations() == system_->fault_at_) {
        inner_->write_at(offset, data.first(data.size() / 2));
      }
      system_->break_at(path_);
    }
    inner_->write_at(offset, data);
  }
  void resize(std::int64_t size) override {
    system_->step(path_);
    inner_->resize(size);
  }
  void sync() override {
    system_->step(path_);
    inner_->sync();
  }

 private:
  FaultyFileSystem* system_;
  std::filesystem::path path_;
  std::unique_ptr<OutputFile> inner_;
};

bool FaultyFileSystem::is_broken() {
  const std::int64_t number = ++count_;
  return number == fault_at_ || (kind_ == FaultKind::kCrash && fault_at_ > 0 && number > fault_at_);
}

void FaultyFileSystem::break_at(const std::filesystem::path& path) const {
  switch (kind_) {
    case FaultKind::kKill:
      ::_exit(kFaultExitCode);
    case FaultKind::kFull:
      throw_file_error(path, "write", ENOSPC);
    case FaultKind::kCrash:
      throw DiskCrash{};
  }
  SHARDWISE_CHECK(false, "unknown kind of fault");
}

void FaultyFileSystem::step(const std::filesystem::path& path) {
  if (is_broken()) {
    break_at(path);
  }
}

std::unique_ptr<OutputFile> FaultyFileSystem::open_output(const std::filesystem::path& path,
                                                          OpenMode mode) {
  step(path);
  return std::make_unique<File>(this, path, inner_->open_output(path, mode));
}

void FaultyFileSystem::sync_folder(const std::filesystem::path& path) {
  step(path);
  inner_->sync_folder(path);
}

void FaultyFileSystem::rename(const std::filesystem::path& from, const std::filesystem::path& to) {
  step(to);
  inner_->rename(from, to);
}

void FaultyFileSystem::exchange(const std::filesystem::path& a, const std::filesystem::path& b) {
  step(b);
  inner_->exchange(a, b);
}

void FaultyFileSystem::make_folder(const std::filesystem::path& path) {
  step(path);
  inner_->make_folder(path);
}

void FaultyFileSystem::remove(const std::filesystem::path& path) {
  step(path);
  inner_->remove(path);
}

PathKind FaultyFileSystem::kind(const std::filesystem::path& path) const {
  return inner_->kind(path);
}

std::vector<std::filesystem::path> FaultyFileSystem::list(
    const std::filesystem::path& folder) const {
  return inner_->list(folder);
}

std::unique_ptr<FileSystem> faulty_file_system_from_environment(FileSystem* inner) {
  const char* variable = std::getenv("SHARDWISE_FAULT_AT");
  if (variable == nullptr) {
    return nullptr;
  }
  const std::string_view text(variable);
  std::int64_t fault_at = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), fault_at);
  const std::string_view rest = text.substr(static_cast<std::size_t>(end - text.data()));
  if (error != std::errc() || fault_at < 1 || (!rest.empty() && rest != ":full")) {
    throw InputError("environment variable SHARDWISE_FAULT_AT",
                     "expected the number of a file operation such as \"3\" or \"3:full\", found "
                     "\"" +
                         std::string(text) + "\"; unset it for a normal run");
  }
  return std::make_unique<FaultyFileSystem>(
      inner, fault_at, rest.empty() ? FaultKind::kKill : FaultKind::kFull);
}

}  // namespace shardwise
