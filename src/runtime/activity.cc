#include "runtime/activity.h"

#include <fmt/format.h>

#include <chrono>

namespace shardwise {
namespace {

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

void Activity::begin(const char* what, int layer, int microbatch) {
  what_.store(what, std::memory_order_relaxed);
  layer_.store(layer, std::memory_order_relaxed);
  microbatch_.store(microbatch, std::memory_order_relaxed);
  since_ns_.store(now_ns(), std::memory_order_relaxed);
}

void Activity::set_step(std::int64_t step) { step_.store(step, std::memory_order_relaxed); }

std::string Activity::describe() const {
  std::string text = what_.load(std::memory_order_relaxed);
  if (const int layer = layer_.load(std::memory_order_relaxed); layer >= 0) {
    text += fmt::format(" of layer {}", layer);
  }
  if (const int microbatch = microbatch_.load(std::memory_order_relaxed); microbatch >= 0) {
    text += fmt::format(", micro-batch {}", microbatch);
  }
  if (const std::int64_t step = step_.load(std::memory_order_relaxed); step >= 0) {
    text += fmt::format(", step {}", step);
  }
  return text;
}

Seconds Activity::age() const {
  const std::int64_t since = since_ns_.load(std::memory_order_relaxed);
  return since == 0 ? Seconds(0) : Seconds(1e-9 * static_cast<double>(now_ns() - since));
}

}  // namespace shardwise
