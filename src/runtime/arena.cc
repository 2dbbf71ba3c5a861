#include "runtime/arena.h"

#include <sys/mman.h>

#include <algorithm>

#include "core/errors.h"

namespace shardwise {

Arena::Arena(std::size_t bytes) {
  constexpr std::size_t kLeast = std::size_t{1} << 20;
  for (; bytes >= kLeast; bytes /= 2) {
    void* region = ::mmap(
        nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region != MAP_FAILED) {
      base_ = static_cast<unsigned char*>(region);
      size_ = bytes;
      free_.emplace(0, bytes);
      return;
    }
  }
}

Arena::~Arena() {
  if (base_ != nullptr) {
    ::munmap(base_, size_);
  }
}

void* Arena::allocate(std::size_t bytes) {
  const std::size_t size =
      (std::max<std::size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  const std::lock_guard lock(mutex_);
  const auto place = std::find_if(
      free_.begin(), free_.end(), [&](const auto& hole) { return hole.second >= size; });
  if (size < bytes || place == free_.end()) {
    return nullptr;
  }
  const auto [begin, room] = *place;
  free_.erase(place);
  if (room > size) {
    free_.emplace(begin + size, room - size);
  }
  used_.emplace(begin, size);
  high_water_ = std::max(high_water_, begin + size);
  return base_ + begin;
}

void Arena::release(void* block) {
  const std::lock_guard lock(mutex_);
  const auto found =
      used_.find(static_cast<std::size_t>(static_cast<unsigned char*>(block) - base_));
  SHARDWISE_CHECK(found != used_.end(), "a block is released that is not in use");
  auto [begin, size] = *found;
  used_.erase(found);
  auto next = free_.lower_bound(begin);
  if (next != free_.end() && next->first == begin + size) {
    size += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == begin) {
      before->second += size;
      return;
    }
  }
  free_.emplace_hint(next, begin, size);
}

bool Arena::owns(const void* block) const {
  const auto* address = static_cast<const unsigned char*>(block);
  return base_ != nullptr && address >= base_ && address < base_ + size_;
}

std::size_t Arena::high_water() const {
  const std::lock_guard lock(mutex_);
  return high_water_;
}

}  // namespace shardwise
