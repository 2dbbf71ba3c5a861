#include "io/exporter.h"

#include "core/errors.h"

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

std::string export_plan(Framework framework, const FrameworkPlan& plan, const std::string& where) {
  const std::string refusal = framework_refusal(framework, plan);
  if (!refusal.empty()) {
    throw InputError(where, refusal);
  }
  for (const Exporter& exporter : exporters()) {
    if (exporter.framework == framework) {
      return exporter.text(plan);
    }
  }
  SHARDWISE_CHECK(false, "every framework has an exporter");
}

}  // namespace shardwise
