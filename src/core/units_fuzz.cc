// Quantities of files and flags: any text is either refused with an InputError or a number that is
// finite and not negative.
#include "core/units.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"

namespace {

template <typename Parse>
void try_parse(Parse parse, const std::string& text) {
  try {
    const auto value = static_cast<double>(parse(text, "input").count);
    SHARDWISE_CHECK(std::isfinite(value) && value >= 0, "a parsed quantity is no quantity");
  } catch (const shardwise::InputError&) {
    // refused: fine
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  try_parse(shardwise::parse_bytes, text);
  try_parse(shardwise::parse_bandwidth, text);
  try_parse(shardwise::parse_duration, text);
  try_parse(shardwise::parse_flop_rate, text);
  return 0;
}
