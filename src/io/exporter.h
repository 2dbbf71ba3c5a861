// Configuration of other frameworks for a plan: one file a framework, named export_<framework>.cc.
#pragma once

#include <string>
#include <vector>

#include "graph/framework_plan.h"

namespace shardwise {

struct Exporter {
  Framework framework;
  // The whole text of the file. Requires a plan that the framework can express.
  std::string (*text)(const FrameworkPlan&);
};

const std::vector<Exporter>& exporters();

// The whole text of the framework's file. Throws InputError that begins with `where` and names what
// the framework cannot express (framework_refusal).
std::string export_plan(Framework framework, const FrameworkPlan& plan, const std::string& where);

Exporter megatron_exporter();    // flags, as a shell script's array
Exporter torchtitan_exporter();  // TOML
Exporter deepspeed_exporter();   // JSON
Exporter accelerate_exporter();  // YAML

}  // namespace shardwise
