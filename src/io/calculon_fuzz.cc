// Calculon's system files: any text is refused with an InputError or prices finite times.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"
#include "io/calculon_system.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const CalculonSystem system =
        calculon_system_from_json(parse_json(text, "system.json"), "system");
    const Cluster cluster = system.cluster(16);
    const CalculonTable table(system, cluster);
    GroupPlacement placement;
    placement.ranks = 16;
    placement.level = static_cast<int>(cluster.levels.size()) - 1;
    for (const std::int64_t bytes : {1LL, 1LL << 20, 1LL << 40}) {
      const double times[] = {
          table.transfer_time(Bytes(bytes), placement.level, 1).time.count,
          table.accumulate_time(Bytes(bytes), 0).time.count,
          table.optimizer_time(bytes, Precision::kBFloat16, 0).time.count,
          table
              .collective_time(
                  CollectiveKind::kAllReduce, Bytes(bytes), Precision::kBFloat16, placement)
              .time.count};
      for (const double time : times) {
        SHARDWISE_CHECK(std::isfinite(time) && time >= 0, "a time is not finite");
      }
    }
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
