#include "report/advice_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "report/table.h"

namespace shardwise {

namespace {

std::string signed_time(Picoseconds time) {
  const Picoseconds size = time.count < 0 ? Picoseconds(-time.count) : time;
  return (time.count < 0 ? "-" : "+") + format_seconds(to_seconds(size));
}

std::string signed_bytes(Bytes bytes) {
  const Bytes size = bytes.count < 0 ? Bytes(-bytes.count) : bytes;
  return (bytes.count < 0 ? "-" : "+") + format_bytes(size);
}

// Share of the step that the change saves.
std::string saved(Picoseconds before, Picoseconds after) {
  return fmt::format(
      "{:+.2f} %",
      100 * (1 - static_cast<double>(after.count) / static_cast<double>(before.count)));
}

}  // namespace

std::string binding_text(const BindingConstraint& binding, const Evaluation& plan) {
  const auto stage = static_cast<std::size_t>(binding.stage);
  switch (binding.kind) {
    case BindingConstraint::Kind::kMemory: {
      const StageMemory& memory = plan.stage_memory[stage];
      return fmt::format(
          "binding: memory, fullest in stage {} ({} of {}); 10 % more saves {:.2f} %",
          binding.stage,
          format_bytes(memory.total()),
          format_bytes(memory.limit),
          100 * binding.gain);
    }
    case BindingConstraint::Kind::kNetwork:
      return fmt::format(
          "binding: the network; {} saves {:.2f} %", binding.change, 100 * binding.gain);
    case BindingConstraint::Kind::kCompute: {
      const StageTime& time = plan.stage_times[stage];
      const Picoseconds kernels = time.forward + time.recompute + time.backward;
      const Picoseconds all = time.microbatch() + time.transfer;
      return fmt::format(
          "binding: speed of the devices; kernels are {:.0f} % of the period of "
          "stage {}",
          100 * static_cast<double>(kernels.count) /
              static_cast<double>(std::max<std::int64_t>(all.count, 1)),
          binding.stage);
    }
  }
  return "";
}

std::string sensitivity_table(const std::vector<Sensitivity>& changes,
                              Picoseconds step_time,
                              const BindingConstraint& binding,
                              const Evaluation& plan) {
  TextTable table({"change, planned again", "step", "saved", "proof"});
  table.add_row({"none", format_seconds(to_seconds(step_time)), "", ""});
  for (const Sensitivity& one : changes) {
    table.add_row({one.change.name,
                   one.result.plan ? format_seconds(to_seconds(one.result.step_time)) : "-",
                   one.result.plan ? saved(step_time, one.result.step_time) : "-",
                   to_string(one.result.stop_reason)});
  }
  return table.to_string() + "  " + binding_text(binding, plan) + "\n";
}

std::string fitting_text(const std::vector<FittingChange>& changes) {
  std::string text;
  for (const FittingChange& change : changes) {
    text += fmt::format("  {}: {}{}\n",
                        text.empty() ? "a single change that would fit" : "or",
                        change.text,
                        change.is_least ? " (proved: fewer or less would not do)" : "");
  }
  return text;
}

std::string why_table(const std::string& layout,
                      const std::vector<TermPair>& terms,
                      const std::vector<MemoryPair>& memory) {
  TextTable times({"time of a step", "best plan", layout, "difference"});
  Picoseconds best{0};
  Picoseconds other{0};
  for (const TermPair& term : terms) {
    if (term.best.count != 0 || term.other.count != 0) {
      times.add_row({term.name,
                     format_seconds(to_seconds(term.best)),
                     format_seconds(to_seconds(term.other)),
                     signed_time(term.other - term.best)});
    }
    best += term.best;
    other += term.other;
  }
  times.add_rule();
  times.add_row({"step",
                 format_seconds(to_seconds(best)),
                 format_seconds(to_seconds(other)),
                 signed_time(other - best)});
  TextTable bytes({"memory, fullest stage", "best plan", layout, "difference"});
  for (const MemoryPair& part : memory) {
    bytes.add_row({part.name,
                   format_bytes(part.best),
                   format_bytes(part.other),
                   signed_bytes(part.other - part.best)});
  }
  return times.to_string() + "\n" + bytes.to_string();
}

}  // namespace shardwise
