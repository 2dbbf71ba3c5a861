// Galvatron's profile files: any text is refused with an InputError or gives finite costs.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"
#include "cost/galvatron_costs.h"
#include "io/galvatron_profile.h"

// The corpus holds one document with the members "time", "memory" and "hardware".
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const JsonValue file = parse_json(text, "galvatron.json");
    GalvatronJob job;
    job.model = galvatron_model_from_json(
        file.at("time"), file.at("memory"), {.hidden = 16, .sequence = 2048});
    const JsonValue hardware = file.at("hardware");
    add_galvatron_allreduce(hardware.at("allreduce"), job.hardware);
    add_galvatron_point_to_point(hardware.at("p2p"), job.hardware);
    add_galvatron_overlap(hardware.at("overlap"), job.hardware);
    add_galvatron_collectives(hardware.at("sp_time"), job.hardware);
    job.layers.assign(job.model.layer_types.size(), 1);
    const GalvatronCosts costs(job, 1, 1);
    const GalvatronTime time = costs.layer_time(0, {.data = 8});
    SHARDWISE_CHECK(std::isfinite(time.with_sync) && time.with_sync >= 0, "a time is not finite");
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
