// Text of a uniform layout: refused with an InputError, or read back from what it is written as.
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"
#include "planner/uniform_layout.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const UniformLayout layout = parse_uniform_layout(text, "fuzz");
    SHARDWISE_CHECK(parse_uniform_layout(to_string(layout), "again") == layout,
                    "a layout is written as it was read");
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
