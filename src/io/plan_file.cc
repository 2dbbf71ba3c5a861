#include "io/plan_file.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/version.h"
#include "cost/calculon_table.h"
#include "files/atomic_file.h"
#include "files/json_convert.h"
#include "files/json_writer.h"
#include "io/cluster_json.h"
#include "io/table_json.h"

namespace shardwise {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "shardwise-plan";
constexpr int kVersion = 1;

Json costs_to_json(const LoadedCluster& cluster) {
  if (dynamic_cast<const CalculonTable*>(cluster.costs.get()) != nullptr) {
    throw InputError(fmt::format("cluster {}", cluster.cluster.name),
                     "a plan file cannot hold a system of Calculon; leave -o out, or write the "
                     "machine as a cluster file");
  }
  Json json = {{"source", cluster.table ? "measured" : "modelled"},
               {"provenance", cluster.costs->provenance()}};
  if (cluster.table) {
    json["table"] = table_to_json(*cluster.table);
  }
  return json;
}

std::optional<MeasuredTable> table_of(const JsonValue& costs) {
  costs.reject_unknown_keys({"source", "provenance", "table"});
  const JsonValue source = costs.at("source");
  if (source.as_string() == "modelled") {
    return std::nullopt;
  }
  if (source.as_string() != "measured") {
    throw source.unexpected("\"measured\" or \"modelled\"");
  }
  return table_from_json(costs.at("table"));
}

Json prediction_to_json(const PlanPrediction& prediction) {
  Json json = {{"method", prediction.method}, {"step_time_ps", prediction.step_time.count}};
  if (!prediction.stop_reason.empty()) {
    json["stop_reason"] = prediction.stop_reason;
  }
  if (prediction.lower_bound) {
    json["lower_bound_ps"] = prediction.lower_bound->count;
  }
  json["stage_memory_bytes"] = Json::array();
  for (const Bytes memory : prediction.stage_memory) {
    json["stage_memory_bytes"].push_back(memory.count);
  }
  json["space"] = prediction.space;
  if (prediction.gap > 0) {
    json["gap"] = prediction.gap;
  }
  if (!prediction.certificate.empty()) {
    json["certificate"] = Json::array();
    for (const CertifiedBound& one : prediction.certificate) {
      json["certificate"].push_back(
          {{"num_microbatches", one.num_microbatches}, {"lower_bound_ps", one.bound.count}});
    }
  }
  return json;
}

PlanPrediction prediction_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"method",
                             "step_time_ps",
                             "stop_reason",
                             "lower_bound_ps",
                             "stage_memory_bytes",
                             "space",
                             "gap",
                             "certificate"});
  PlanPrediction prediction;
  prediction.method = value.at("method").as_string();
  prediction.step_time = Picoseconds(value.at("step_time_ps").as_int64(0));
  if (const auto reason = value.find("stop_reason")) {
    prediction.stop_reason = reason->as_string();
  }
  if (const auto bound = value.find("lower_bound_ps")) {
    prediction.lower_bound = Picoseconds(bound->as_int64(0));
  }
  for (const JsonValue& memory : value.at("stage_memory_bytes").items()) {
    prediction.stage_memory.emplace_back(memory.as_int64(0));
  }
  prediction.space = value.at("space").as_string();
  if (const auto gap = value.find("gap")) {
    prediction.gap = gap->as_double(0);
  }
  if (const auto certificate = value.find("certificate")) {
    for (const JsonValue& entry : certificate->items()) {
      entry.reject_unknown_keys({"num_microbatches", "lower_bound_ps"});
      prediction.certificate.push_back(
          {entry.at("num_microbatches").as_int(1, std::numeric_limits<int>::max()),
           Picoseconds(entry.at("lower_bound_ps").as_int64(0))});
    }
  }
  return prediction;
}

void check_devices(const JsonValue& value, const Plan& plan, const Cluster& cluster) {
  for (const StagePlan& stage : plan.stages) {
    for (const int device : stage.devices) {
      if (device >= cluster.num_devices()) {
        throw value.error(fmt::format(
            "the plan uses device {}, the cluster has {}", device, cluster.num_devices()));
      }
    }
  }
}

PlanFile plan_file_from_json(const JsonValue& value, const ModelGraphBuilder& build) {
  value.reject_unknown_keys({"format",
                             "version",
                             "written_by",
                             "model_type",
                             "model",
                             "cluster",
                             "costs",
                             "plan",
                             "prediction"});
  if (value.at("format").as_string() != kFormat) {
    throw value.at("format").unexpected(fmt::format("\"{}\"", kFormat),
                                        "a PLAN is written by shardwise plan -o");
  }
  value.at("version").as_int(kVersion, kVersion);
  PlanFile file;
  const JsonValue model = value.at("model");
  file.model_json = to_json_text(to_ordered_json(model));
  file.model_type = value.at("model_type").as_string();
  file.cluster = with_costs(cluster_from_json(value.at("cluster")), table_of(value.at("costs")));
  const JsonValue plan = value.at("plan");
  file.plan = plan_from_json(plan, build(model, file.model_type, plan_shape_from_json(plan)));
  check_devices(plan, file.plan, file.cluster.cluster);
  file.prediction = prediction_from_json(value.at("prediction"));
  return file;
}

}  // namespace

Json plan_file_to_json(const PlanFile& file, const Graph& graph) {
  return {{"format", kFormat},
          {"version", kVersion},
          {"written_by", fmt::format("shardwise {}", version())},
          {"model_type", file.model_type},
          {"model", Json::parse(file.model_json)},
          {"plan", plan_to_json(file.plan, graph)},
          {"prediction", prediction_to_json(file.prediction)},
          {"cluster", cluster_to_json(file.cluster.cluster)},
          {"costs", costs_to_json(file.cluster)}};
}

void write_plan_file(const std::filesystem::path& path, const PlanFile& file, const Graph& graph) {
  write_file_atomically(path, to_json_text(plan_file_to_json(file, graph)));
}

PlanFile read_plan_file(const std::filesystem::path& path, const ModelGraphBuilder& build) {
  return plan_file_from_json(read_json_file(path), build);
}

PlanFile parse_plan_file(const std::string& text,
                         const std::string& file_name,
                         const ModelGraphBuilder& build) {
  return plan_file_from_json(parse_json(text, file_name), build);
}

}  // namespace shardwise
