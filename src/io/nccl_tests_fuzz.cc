// Logs of nccl-tests: any text is refused with an InputError or holds positive sizes and times.
#include "io/nccl_tests.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const CollectiveBenchmark read = parse_nccl_tests(text, "log.txt", CollectiveKind::kAllReduce);
    SHARDWISE_CHECK(read.ranks >= 2 && read.nodes >= 1 && !read.rows.empty(), "an empty table");
    for (const CollectiveBenchmark::Row& row : read.rows) {
      SHARDWISE_CHECK(row.payload.count > 0, "a payload is not positive");
      SHARDWISE_CHECK(std::isfinite(row.time.count) && row.time.count > 0, "a time is not sound");
    }
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
