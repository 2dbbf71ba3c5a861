#include "report/simulation_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "report/table.h"

namespace shardwise {

std::string simulation_table(const Simulation& simulation) {
  TextTable table({"stage",
                   "ranks",
                   "compute",
                   "collectives",
                   "of them beside",
                   "sends",
                   "idle",
                   "ends at",
                   "peak memory"});
  struct Row {
    const RankActivity* last = nullptr;  // ends last
    int ranks = 0;
    Bytes peak{0};
  };
  std::map<int, Row> rows;
  for (const RankActivity& rank : simulation.ranks) {
    Row& row = rows[rank.stage];
    row.ranks += rank.alike;
    row.peak = std::max(row.peak, rank.peak_memory);
    if (row.last == nullptr || rank.end > row.last->end) {
      row.last = &rank;
    }
  }
  const auto time = [](Picoseconds value) { return format_seconds(to_seconds(value)); };
  for (const auto& [stage, row] : rows) {
    const RankActivity& rank = *row.last;
    const Picoseconds busy = rank.compute + rank.collectives - rank.reductions;
    const double idle =
        simulation.makespan.count == 0 ? 0 : (simulation.makespan - busy) / simulation.makespan;
    table.add_row({std::to_string(stage),
                   std::to_string(row.ranks),
                   time(rank.compute),
                   time(rank.collectives),
                   time(rank.reductions),
                   time(rank.point_to_point),
                   fmt::format("{:.1f} %", 100 * idle),
                   time(rank.end),
                   format_bytes(row.peak)});
  }
  return table.to_string();
}

std::string formula_line(const Simulation& simulation, const Evaluation& evaluation) {
  const double off = (simulation.step_time() - evaluation.step_time) / evaluation.step_time;
  return fmt::format("the formula says {}, the replay {} ({:+.1f} %)\n",
                     format_seconds(to_seconds(evaluation.step_time)),
                     format_seconds(to_seconds(simulation.step_time())),
                     100 * off);
}

std::string replay_line(const ReplayCheck& check) {
  const std::string band = fmt::format("{:+.1f} to {:+.1f} % on random {} pipelines",
                                       100 * check.band.least,
                                       100 * check.band.most,
                                       to_string(check.band.schedule));
  if (check.deadlock) {
    return fmt::format("the schedule replayed: never ends: {}\n", *check.deadlock);
  }
  if (!check.replayed) {
    return fmt::format(
        "the schedule not replayed, for its length (`shardwise simulate` does); the formula was "
        "off {}\n",
        band);
  }
  return fmt::format("the schedule replayed: {}; the formula is off {:+.1f} % ({})\n",
                     format_seconds(to_seconds(*check.replayed)),
                     100 * check.off(),
                     band);
}

std::string refined_table(const std::vector<RefinedPlan>& refined) {
  TextTable table({"candidate", "schedule", "formula", "replay", "fullest device", "fits"});
  for (const RefinedPlan& entry : refined) {
    table.add_row({entry.origin,
                   to_string(entry.plan.schedule),
                   format_seconds(to_seconds(entry.formula_time)),
                   format_seconds(to_seconds(entry.replayed_time)),
                   format_bytes(entry.peak_memory),
                   entry.fits ? "yes" : "no"});
  }
  return table.to_string();
}

}  // namespace shardwise
