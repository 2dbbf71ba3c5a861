// Text of a constraint: refused with an InputError, or kept for messages.
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
      const Constraint constraint = parse_constraint(polarity, text, "fuzz");
      SHARDWISE_CHECK(constraint.text.ends_with(text), "messages show what was given");
    } catch (const InputError&) {
      // refused: fine
    }
  }
  return 0;
}
