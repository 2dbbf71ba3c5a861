// Text of a constraint: read, or refused with an InputError.
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"
#include "graph/constraints.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const auto polarity : {Constraint::Polarity::kPin, Constraint::Polarity::kForbid}) {
    try {
      static_cast<void>(parse_constraint(polarity, text, "fuzz"));
    } catch (const InputError&) {
      // refused: fine
    }
  }
  return 0;
}
