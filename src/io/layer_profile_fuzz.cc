// Layer profiles: any text is refused with an InputError or holds layers of finite time.
#include "io/layer_profile.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

#include "core/errors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace shardwise;
  const std::string text(reinterpret_cast<const char*>(data), size);
  try {
    const JsonValue file = parse_json(text, "layers.json");
    LayerProfile profile;
    if (file.is_object() && file.find("execution_time")) {
      add_metis_profile(file, 1, 1, profile);
    } else {
      profile = sailor_profile_from_json(file);
    }
    for (const auto& [key, layers] : profile.layers) {
      SHARDWISE_CHECK(!layers.empty(), "a profile without layers");
      for (const ProfiledLayer& layer : layers) {
        SHARDWISE_CHECK(std::isfinite(layer.forward_backward.count), "a time is not finite");
      }
    }
  } catch (const InputError&) {
    // refused: fine
  }
  return 0;
}
