#include "io/exporter.h"

#include <algorithm>

#include "core/errors.h"
#include "core/text.h"

namespace shardwise {

const std::vector<Exporter>& exporters() {
  static const std::vector<Exporter> kExporters = {
      megatron_exporter(),
      torchtitan_exporter(),
      deepspeed_exporter(),
      accelerate_exporter(),
  };
  return kExporters;
}

const Exporter& exporter_called(std::string_view name, const std::string& where) {
  std::vector<std::string> names;
  for (const Exporter& exporter : exporters()) {
    if (exporter.name == name) {
      return exporter;
    }
    names.emplace_back(exporter.name);
  }
  throw InputError(
      where,
      "expected a known framework, found \"" + std::string(name) + "\"" + suggest(name, names));
}

}  // namespace shardwise
