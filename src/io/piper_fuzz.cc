// Piper's input files: any text is refused with an InputError or gives a problem that can be
// priced.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"
#include "io/piper_problem.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const PiperProblem problem = piper_problem_from_json(parse_json(text, "piper.json"));
    PiperStage all;
    all.tensor = problem.nodes[0].degrees[0].tensor;
    for (std::size_t v = 0; v < problem.nodes.size(); ++v) {
      all.nodes.push_back(static_cast<int>(v));
      all.implementations.push_back(0);
    }
    const PiperEvaluation found = evaluate_piper(problem, {{all}});
    SHARDWISE_CHECK(std::isfinite(found.seconds_per_microbatch), "a time is not finite");
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
