// Memory for tensors from one stretch of address space that is kept for the life of the process.
//
// A training step frees what the next one asks for again. Handing memory back to the system in
// between means faulting it in page by page, and a general allocator that keeps it spreads blocks
// of mixed lives over a heap a fifth larger than what they hold. Here a request takes the lowest
// place where it fits (address-ordered first fit: what lives long sinks to the bottom, the top is
// freed as a whole), and free neighbours join at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>

namespace shardwise {

// Thread-safe. Holds no pages that were never written.
class Arena {
 public:
  // Reserves `bytes` of address space, or as much of it as the system grants (halving; none: every
  // allocate() returns nullptr).
  explicit Arena(std::size_t bytes);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // At least `bytes`, aligned to kAlignment; nullptr if no place is left.
  void* allocate(std::size_t bytes);
  // `block` is from allocate() and not yet released.
  void release(void* block);
  bool owns(const void* block) const;
  // Highest offset that a block has ever ended at: what may have become resident.
  std::size_t high_water() const;

  static constexpr std::size_t kAlignment = 64;

 private:
  using Offset = std::size_t;

  mutable std::mutex mutex_;
  unsigned char* base_ = nullptr;
  std::size_t size_ = 0;
  std::size_t high_water_ = 0;
  std::map<Offset, std::size_t> free_;  // by address: sizes
  std::map<Offset, std::size_t> used_;
};

}  // namespace shardwise
