// Sailor's files, all in one document: any text is refused with an InputError or gives a run of
// finite time. Keys: run, layers, sizes, network.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"
#include "io/sailor_files.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const JsonValue files = parse_json(text, "sailor.json");
    const SailorRun run = sailor_run_from_json(files.at("run"));
    const SailorEvaluation found =
        evaluate_sailor(run,
                        "sailor.json",
                        sailor_layers_of(files.at("layers"), "model", run.device),
                        sailor_sizes_from_json(files.at("sizes")),
                        sailor_links_from_json(files.at("network"), run.device),
                        Bytes(0));
    SHARDWISE_CHECK(std::isfinite(found.step.count) && found.step.count >= 0, "no time");
    SHARDWISE_CHECK(found.memory.count >= 0, "memory below zero");
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
