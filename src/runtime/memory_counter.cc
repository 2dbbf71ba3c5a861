#include "runtime/memory_counter.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <mutex>
#include <new>
#include <string>

#include "runtime/arena.h"

namespace shardwise {
namespace {

std::atomic<std::int64_t> live{0};
std::atomic<std::int64_t> peak{0};

constexpr std::size_t kAlignment = Arena::kAlignment;
// Blocks from this size on live in the arena; what is smaller would only split its holes.
constexpr std::size_t kArenaBlock = std::size_t{16} * 1024;

// Never destroyed: tensors of static life may be freed after it would be.
Arena& arena() {
#if defined(__SANITIZE_ADDRESS__)
  static Arena& one =
      *new Arena(0);  // one block for one tensor, so that the sanitizer sees its ends
#else
  static Arena& one = *new Arena(std::size_t{1} << 40);
#endif
  return one;
}

void* take_block(std::size_t bytes) {
  if (bytes >= kArenaBlock) {
    if (void* block = arena().allocate(bytes)) {
      return block;
    }
  }
  void* block = nullptr;
  if (::posix_memalign(&block, kAlignment, bytes) != 0) {
    throw std::bad_alloc();
  }
  return block;
}

// The size stands in front of each block, in a whole alignment unit.
void release(void* data) {
  if (data == nullptr) {
    return;
  }
  void* block = static_cast<char*>(data) - kAlignment;
  std::int64_t size = 0;
  std::memcpy(&size, block, sizeof size);
  live.fetch_sub(size, std::memory_order_relaxed);
  if (arena().owns(block)) {
    arena().release(block);
  } else {
    std::free(block);
  }
}

class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) {
      return {nullptr, nullptr, &release, cpu};
    }
    void* block = take_block(bytes + kAlignment);
    const auto size = static_cast<std::int64_t>(bytes);
    std::memcpy(block, &size, sizeof size);
    const std::int64_t now = live.fetch_add(size, std::memory_order_relaxed) + size;
    std::int64_t highest = peak.load(std::memory_order_relaxed);
    while (now > highest && !peak.compare_exchange_weak(highest, now, std::memory_order_relaxed)) {
    }
    void* data = static_cast<char*>(block) + kAlignment;
    return {data, data, &release, cpu};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &release; }

  void copy_data(void* target, const void* source, std::size_t count) const override {
    std::memcpy(target, source, count);
  }
};

Bytes status_line(const char* key) {
  std::ifstream file("/proc/self/status");
  std::string word;
  std::int64_t kibibytes = 0;
  while (file >> word) {
    if (word == key && file >> kibibytes) {
      return Bytes(kibibytes * 1024);
    }
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return Bytes(0);
}

}  // namespace

void install_memory_counter() {
  static std::once_flag once;
  std::call_once(once, [] {
    static CountingAllocator allocator;
    c10::SetCPUAllocator(&allocator, 1);
  });
}

Bytes live_tensor_bytes() { return Bytes(live.load()); }
Bytes peak_tensor_bytes() { return Bytes(peak.load()); }
void reset_memory_peak() { peak.store(live.load()); }

Bytes resident_bytes() { return status_line("VmRSS:"); }
Bytes peak_resident_bytes() { return status_line("VmHWM:"); }
Bytes resident_file_bytes() { return status_line("RssFile:"); }

void reset_resident_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }

}  // namespace shardwise
