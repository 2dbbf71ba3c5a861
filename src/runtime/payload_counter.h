// Counts the payload that a rank hands to collectives and sends; several threads may add.
#pragma once

#include <atomic>
#include <cstdint>

#include "runtime/communicator.h"

namespace shardwise {

struct PayloadCounter {
  std::atomic<std::int64_t> all_gather{0};
  std::atomic<std::int64_t> reduce_scatter{0};
  std::atomic<std::int64_t> all_reduce{0};
  std::atomic<std::int64_t> all_to_all{0};
  std::atomic<std::int64_t> all_to_all_kept{0};
  std::atomic<std::int64_t> sends{0};

  PayloadCounts read() const {
    return {all_gather, reduce_scatter, all_reduce, all_to_all, all_to_all_kept, sends};
  }
};

}  // namespace shardwise
