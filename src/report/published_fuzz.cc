// Tables of published runs: any text is refused with an InputError or gives finite predictions.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"
#include "report/score.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const std::vector<PublishedRow> rows = parse_published_rows(text, "runs.csv");
    for (const ScoredRow& row : score_published_rows(rows, "runs.csv", Refit::kNone).rows) {
      SHARDWISE_CHECK(std::isfinite(row.shipped) && row.shipped > 0,
                      "a prediction that is no time");
    }
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
