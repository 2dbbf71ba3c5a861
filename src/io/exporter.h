// Configuration of other frameworks for a plan: one file a framework, named export_<framework>.cc.
// What each can express: Megatron-LM core 0.19, torchtitan 0.2.2, DeepSpeed 0.19, accelerate 1.15.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "io/framework_plan.h"

namespace shardwise {

struct Exporter {
  std::string_view name;
  // The whole text of the file. Throws InputError that begins with `where` and names what the
  // framework cannot express.
  std::string (*write)(const FrameworkPlan&, const std::string& where);
};

const std::vector<Exporter>& exporters();
// Throws InputError with the known names.
const Exporter& exporter_called(std::string_view name, const std::string& where);

Exporter megatron_exporter();    // flags, as a shell script's array
Exporter torchtitan_exporter();  // TOML
Exporter deepspeed_exporter();   // JSON
Exporter accelerate_exporter();  // YAML

}  // namespace shardwise
