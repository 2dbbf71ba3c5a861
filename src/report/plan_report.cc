#include "report/plan_report.h"

#include <fmt/format.h>

#include <algorithm>

#include "report/table.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

std::string milliseconds(Picoseconds time) {
  return fmt::format("{:.3f}", to_seconds(time).count * 1e3);
}

// "0-3,8": consecutive devices as a range.
std::string device_ranges(const std::vector<int>& devices) {
  std::string text;
  for (std::size_t i = 0; i < devices.size();) {
    std::size_t end = i + 1;
    while (end < devices.size() && devices[end] == devices[end - 1] + 1) {
      ++end;
    }
    text += text.empty() ? "" : ",";
    text += end - i == 1 ? fmt::format("{}", devices[i])
                         : fmt::format("{}-{}", devices[i], devices[end - 1]);
    i = end;
  }
  return text;
}

// Loop axes that mesh axis `m` shards in the layer, in op order, each once: "n h f".
std::string axes_of(const Block& block, const LayerPlan& plan, int m) {
  std::vector<std::string> names;
  for (std::size_t o = 0; o < block.ops.size(); ++o) {
    const int axis = plan.op_axes[o][at(m)];
    const std::string name = axis == kUnassigned ? "-" : block.ops[o].axes[at(axis)].name;
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(name);
    }
  }
  return fmt::format("{}", fmt::join(names, "/"));
}

std::string layer_words(const Block& block, const LayerPlan& plan, const Mesh& mesh) {
  std::vector<std::string> words;
  for (int m = 0; m < kMeshAxes; ++m) {
    if (mesh.sizes[at(m)] > 1) {
      words.push_back(fmt::format("{} {} on {}",
                                  m == kDataAxis ? "data" : "free",
                                  mesh.sizes[at(m)],
                                  axes_of(block, plan, m)));
    }
  }
  if (words.empty()) {
    words.emplace_back("one device");
  }
  if (plan.state_sharding != StateSharding::kNone) {
    words.push_back("shards " + to_string(plan.state_sharding));
  }
  if (plan.recompute != Recompute::kNone) {
    words.push_back("recompute " + to_string(plan.recompute));
  }
  return fmt::format("{}", fmt::join(words, ", "));
}

void add_time_row(TextTable& table,
                  const std::string& name,
                  const std::vector<StageTime>& stages,
                  Picoseconds StageTime::*term) {
  std::vector<std::string> cells{name};
  bool is_used = false;
  for (const StageTime& stage : stages) {
    cells.push_back(milliseconds(stage.*term));
    is_used |= (stage.*term).count != 0;
  }
  if (is_used) {
    table.add_row(std::move(cells));
  }
}

void add_memory_row(TextTable& table,
                    const std::string& name,
                    const std::vector<StageMemory>& stages,
                    Bytes (*part)(const StageMemory&)) {
  std::vector<std::string> cells{name};
  bool is_used = false;
  for (const StageMemory& stage : stages) {
    cells.push_back(format_bytes(part(stage)));
    is_used |= part(stage).count != 0;
  }
  if (is_used) {
    table.add_row(std::move(cells));
  }
}

std::vector<std::string> stage_header(const std::string& first, std::size_t stages) {
  std::vector<std::string> header{first};
  for (std::size_t s = 0; s < stages; ++s) {
    header.push_back(fmt::format("stage {}", s));
  }
  return header;
}

}  // namespace

std::string describe_layer(const Graph& graph, const Plan& plan, int layer) {
  const LayerPlace place = place_of(plan, layer);
  return layer_words(
      graph.block_of(layer), layer_plan(plan, place), plan.stages[at(place.stage)].mesh);
}

std::string plan_strip(const Plan& plan, const Graph& graph) {
  std::string text = fmt::format("  {} micro-batches of {} x {} tokens, schedule {}, {}\n",
                                 plan.num_microbatches,
                                 plan.microbatch(),
                                 plan.sequence,
                                 to_string(plan.schedule),
                                 to_string(plan.precision));
  for (int c = 0; c < plan.num_chunks(); ++c) {
    for (int s = 0; s < plan.num_stages(); ++s) {
      const StagePlan& stage = plan.stages[at(s)];
      const ChunkPlan& chunk = stage.chunks[at(c)];
      text += fmt::format("  stage {}{}  devices {}  mesh {}\n",
                          s,
                          plan.num_chunks() > 1 ? fmt::format(" chunk {}", c) : "",
                          device_ranges(stage.devices),
                          to_string(stage.mesh));
      for (int layer = chunk.first_layer; layer < chunk.end_layer();) {
        const std::string words = describe_layer(graph, plan, layer);
        int end = layer + 1;
        while (end < chunk.end_layer() && describe_layer(graph, plan, end) == words) {
          ++end;
        }
        const std::string names = end - layer == 1 ? graph.layers[at(layer)].name
                                                   : graph.layers[at(layer)].name + " .. " +
                                                         graph.layers[at(end - 1)].name;
        text += fmt::format("    [{:<{}}] {:<24} {}\n",
                            std::string(at(end - layer), '='),
                            chunk.layers.size(),
                            names,
                            words);
        layer = end;
      }
    }
  }
  return text;
}

std::string time_table(const Plan& plan, const Evaluation& evaluation) {
  const std::vector<StageTime>& stages = evaluation.stage_times;
  TextTable table(stage_header("ms per micro-batch", stages.size()));
  add_time_row(table, "forward", stages, &StageTime::forward);
  add_time_row(table, "backward", stages, &StageTime::backward);
  add_time_row(table, "recomputation", stages, &StageTime::recompute);
  add_time_row(table, "collectives", stages, &StageTime::collectives);
  add_time_row(table, "state collectives", stages, &StageTime::state_collectives);
  add_time_row(table, "transfer to next stage", stages, &StageTime::transfer);
  TextTable per_step(stage_header("ms per step", stages.size()));
  add_time_row(per_step, "exposed gradient reduction", stages, &StageTime::exposed_reduction);
  add_time_row(per_step, "optimizer", stages, &StageTime::optimizer);
  add_time_row(per_step, "parameter gather", stages, &StageTime::parameter_gather);
  add_time_row(per_step, "tied parameters", stages, &StageTime::tied_exchange);
  return table.to_string() + per_step.to_string() +
         fmt::format("  step {} ms = fill {} + {} x period {} + per step {} + overhead {}\n",
                     milliseconds(evaluation.step_time),
                     milliseconds(evaluation.fill),
                     plan.num_microbatches - 1,
                     milliseconds(evaluation.period),
                     milliseconds(evaluation.per_step),
                     milliseconds(evaluation.overhead));
}

std::string memory_table(const Evaluation& evaluation) {
  const std::vector<StageMemory>& stages = evaluation.stage_memory;
  TextTable table(stage_header("memory of the worst device", stages.size()));
  add_memory_row(table, "weights", stages, [](const StageMemory& m) { return m.weights; });
  add_memory_row(table, "gradients", stages, [](const StageMemory& m) { return m.gradients; });
  add_memory_row(table, "optimizer", stages, [](const StageMemory& m) { return m.optimizer; });
  add_memory_row(
      table, "activations in flight", stages, [](const StageMemory& m) { return m.activations; });
  add_memory_row(
      table, "largest transient", stages, [](const StageMemory& m) { return m.transient; });
  add_memory_row(
      table, "boundary buffers", stages, [](const StageMemory& m) { return m.boundary_buffers; });
  add_memory_row(table, "reserve", stages, [](const StageMemory& m) { return m.reserve; });
  table.add_rule();
  add_memory_row(table, "total", stages, [](const StageMemory& m) { return m.total(); });
  add_memory_row(table, "limit", stages, [](const StageMemory& m) { return m.limit; });
  std::string text = table.to_string();
  for (std::size_t s = 0; s < stages.size(); ++s) {
    const double share = stages[s].total() / stages[s].limit;
    text += fmt::format("  stage {} [{}] {:.0f} %{}\n",
                        s,
                        bar(share, 40),
                        100 * share,
                        stages[s].fits() ? "" : "  does not fit");
  }
  return text;
}

std::string runner_up_table(const PlanResult& result) {
  TextTable table({"runner-up", "step ms", "gap"});
  for (const RunnerUp& runner_up : result.runner_ups) {
    const double gap = runner_up.step_time / result.step_time - 1;
    table.add_row(
        {runner_up.family, milliseconds(runner_up.step_time), fmt::format("{:+.1f} %", 100 * gap)});
  }
  return result.runner_ups.empty() ? "" : table.to_string();
}

std::string proof_line(const PlanResult& result) {
  const double bound_ms = to_seconds(result.lower_bound).count * 1e3;
  const std::string searched =
      fmt::format("searched: {} in {}", result.space, format_seconds(result.search_time));
  switch (result.stop_reason) {
    case StopReason::kOptimal:
      return fmt::format(
          "proved optimal: no plan of the space is faster than {:.3f} ms ({})", bound_ms, searched);
    case StopReason::kFeasible:
      if (result.lower_bound.count == 0) {
        return fmt::format("not proved: the search ended before it had a bound ({})", searched);
      }
      return fmt::format("not proved: at most {:.2f} % from the optimum, bound {:.3f} ms ({})",
                         100 * (result.step_time / result.lower_bound - 1),
                         bound_ms,
                         searched);
    case StopReason::kInfeasible:
      return fmt::format("proved infeasible: no plan of the space fits ({})", searched);
    case StopReason::kLimitReached:
      return fmt::format("limit reached before any plan was found ({})", searched);
  }
  return "";
}

std::string infeasibility_text(const Infeasibility& infeasibility, const Graph& graph) {
  const StageMemory& memory = infeasibility.memory;
  const std::string first = graph.layers[at(infeasibility.first_layer)].name;
  const std::string last = graph.layers[at(infeasibility.end_layer - 1)].name;
  return fmt::format(
      "no plan fits: device {} ({}) needs at least {} for {}..{}\n"
      "  weights {} + gradients {} + optimizer {} + activations {} ({} micro-batches in flight)"
      " + transient {} + buffers {} + reserve {}\n"
      "would fit: {}\n",
      infeasibility.device,
      format_bytes(memory.limit),
      format_bytes(memory.total()),
      first,
      last,
      format_bytes(memory.weights),
      format_bytes(memory.gradients),
      format_bytes(memory.optimizer),
      format_bytes(memory.activations),
      memory.in_flight,
      format_bytes(memory.transient),
      format_bytes(memory.boundary_buffers),
      format_bytes(memory.reserve),
      infeasibility.would_fit);
}

double tokens_per_second(const Plan& plan, Picoseconds step_time) {
  return static_cast<double>(plan.batch * plan.sequence) / to_seconds(step_time).count;
}

}  // namespace shardwise
