#include "io/table_json.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/text.h"

namespace shardwise {

namespace {

using Json = nlohmann::ordered_json;

std::string to_name(Direction direction) {
  switch (direction) {
    case Direction::kForward:
      return "forward";
    case Direction::kBackwardInput:
      return "backward-input";
    case Direction::kBackwardWeight:
      return "backward-weight";
    case Direction::kBackward:
      return "backward";
  }
  return "";
}
std::string to_name(Precision precision) { return to_string(precision); }
std::string to_name(OpKind kind) { return to_string(kind); }
std::string to_name(CollectiveKind kind) { return to_string(kind); }

constexpr std::array kDirections = {Direction::kForward,
                                    Direction::kBackwardInput,
                                    Direction::kBackwardWeight,
                                    Direction::kBackward};
constexpr std::array kPrecisions = {Precision::kFloat32, Precision::kBFloat16};
constexpr std::array kCollectives = {CollectiveKind::kAllGather,
                                     CollectiveKind::kReduceScatter,
                                     CollectiveKind::kAllReduce,
                                     CollectiveKind::kAllToAll};

std::array<OpKind, kNumOpKinds> op_kinds() {
  std::array<OpKind, kNumOpKinds> kinds{};
  for (std::size_t k = 0; k < kinds.size(); ++k) {
    kinds[k] = static_cast<OpKind>(k);
  }
  return kinds;
}

template <typename Enum, std::size_t Count>
Enum named(const JsonValue& value, const std::array<Enum, Count>& all) {
  std::vector<std::string> names;
  for (const Enum candidate : all) {
    names.push_back(to_name(candidate));
    if (value.as_string() == names.back()) {
      return candidate;
    }
  }
  throw value.unexpected("one of " + join(names, ", "));
}

// Nothing takes less than a picosecond, the planner's unit.
Seconds time_of(const JsonValue& row) { return Seconds(row.at("time_s").as_double(1e-12, 1e6)); }
double spread_of(const JsonValue& row) { return row.at("spread").as_double(0); }
int device_type_of(const JsonValue& row) { return row.at("device_type").as_int(0, 1 << 16); }

Json op_to_json(const MeasuredTable::OpRow& row) {
  return {{"op", to_name(row.key.kind)},
          {"variant", row.key.variant},
          {"sizes", row.key.sizes},
          {"precision", to_name(row.key.precision)},
          {"direction", to_name(row.direction)},
          {"device_type", row.device_type},
          {"time_s", row.time.count},
          {"spread", row.spread}};
}

MeasuredTable::OpRow op_from_json(const JsonValue& value) {
  value.reject_unknown_keys(
      {"op", "variant", "sizes", "precision", "direction", "device_type", "time_s", "spread"});
  MeasuredTable::OpRow row;
  row.key.kind = named(value.at("op"), op_kinds());
  row.key.variant = value.at("variant").as_string();
  for (const JsonValue& size : value.at("sizes").items()) {
    row.key.sizes.push_back(size.as_int64(row.key.sizes.empty() ? 1 : 0));
  }
  if (row.key.sizes.empty()) {
    throw value.at("sizes").unexpected("at least one size");
  }
  row.key.precision = named(value.at("precision"), kPrecisions);
  row.direction = named(value.at("direction"), kDirections);
  row.device_type = device_type_of(value);
  row.time = time_of(value);
  row.spread = spread_of(value);
  return row;
}

Json collective_to_json(const MeasuredTable::CollectiveRow& row) {
  const GroupPlacement& placement = row.placement;
  return {{"collective", to_name(row.kind)},
          {"precision", to_name(row.precision)},
          {"ranks", placement.ranks},
          {"level", placement.level},
          {"ranks_per_node", placement.ranks_per_node},
          {"concurrent", placement.concurrent},
          {"device_type", placement.device_type},
          {"payload_bytes", row.payload.count},
          {"time_s", row.time.count},
          {"spread", row.spread}};
}

MeasuredTable::CollectiveRow collective_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"collective",
                             "precision",
                             "ranks",
                             "level",
                             "ranks_per_node",
                             "concurrent",
                             "device_type",
                             "payload_bytes",
                             "time_s",
                             "spread"});
  MeasuredTable::CollectiveRow row;
  row.kind = named(value.at("collective"), kCollectives);
  row.precision = named(value.at("precision"), kPrecisions);
  row.placement.ranks = value.at("ranks").as_int(1);
  row.placement.level = value.at("level").as_int(0);
  row.placement.ranks_per_node = value.at("ranks_per_node").as_int(1);
  row.placement.concurrent = value.at("concurrent").as_int(1);
  row.placement.device_type = device_type_of(value);
  row.payload = Bytes(value.at("payload_bytes").as_int64(1));
  row.time = time_of(value);
  row.spread = spread_of(value);
  return row;
}

Json transfer_to_json(const MeasuredTable::TransferRow& row) {
  return {{"level", row.level},
          {"concurrent", row.concurrent},
          {"size_bytes", row.size.count},
          {"time_s", row.time.count},
          {"spread", row.spread}};
}

MeasuredTable::TransferRow transfer_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"level", "concurrent", "size_bytes", "time_s", "spread"});
  MeasuredTable::TransferRow row;
  row.level = value.at("level").as_int(0);
  row.concurrent = value.at("concurrent").as_int(1);
  row.size = Bytes(value.at("size_bytes").as_int64(1));
  row.time = time_of(value);
  row.spread = spread_of(value);
  return row;
}

Json optimizer_to_json(const MeasuredTable::OptimizerRow& row) {
  return {{"elements", row.elements},
          {"precision", to_name(row.precision)},
          {"device_type", row.device_type},
          {"time_s", row.time.count},
          {"spread", row.spread}};
}

MeasuredTable::OptimizerRow optimizer_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"elements", "precision", "device_type", "time_s", "spread"});
  MeasuredTable::OptimizerRow row;
  row.elements = value.at("elements").as_int64(1);
  row.precision = named(value.at("precision"), kPrecisions);
  row.device_type = device_type_of(value);
  row.time = time_of(value);
  row.spread = spread_of(value);
  return row;
}

Json accumulate_to_json(const MeasuredTable::AccumulateRow& row) {
  return {{"size_bytes", row.size.count},
          {"device_type", row.device_type},
          {"time_s", row.time.count},
          {"spread", row.spread}};
}

MeasuredTable::AccumulateRow accumulate_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"size_bytes", "device_type", "time_s", "spread"});
  MeasuredTable::AccumulateRow row;
  row.size = Bytes(value.at("size_bytes").as_int64(1));
  row.device_type = device_type_of(value);
  row.time = time_of(value);
  row.spread = spread_of(value);
  return row;
}

Json overhead_to_json(const MeasuredTable::StepOverheadRow& row) {
  return {{"ranks", row.ranks}, {"time_s", row.time.count}};
}

MeasuredTable::StepOverheadRow overhead_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"ranks", "time_s"});
  return {value.at("ranks").as_int(1), time_of(value)};
}

template <typename Row>
Json rows_to_json(const std::vector<Row>& rows, Json (*write)(const Row&)) {
  Json json = Json::array();
  for (const Row& row : rows) {
    json.push_back(write(row));
  }
  return json;
}

template <typename Row>
std::vector<Row> rows_from_json(const JsonValue& value, Row (*read)(const JsonValue&)) {
  std::vector<Row> rows;
  for (const JsonValue& row : value.items()) {
    rows.push_back(read(row));
  }
  return rows;
}

}  // namespace

Json table_to_json(const MeasuredTable& table) {
  Json versions = Json::object();
  for (const auto& [name, version] : table.versions) {
    versions[name] = version;
  }
  return {{"machine", table.machine},
          {"date", table.date},
          {"versions", std::move(versions)},
          {"process_memory_bytes", table.process_memory.count},
          {"overlap_fraction", table.overlap_fraction},
          {"step_overhead", rows_to_json(table.step_overhead, overhead_to_json)},
          {"optimizer", rows_to_json(table.optimizer, optimizer_to_json)},
          {"accumulate", rows_to_json(table.accumulate, accumulate_to_json)},
          {"transfers", rows_to_json(table.transfers, transfer_to_json)},
          {"collectives", rows_to_json(table.collectives, collective_to_json)},
          {"ops", rows_to_json(table.ops, op_to_json)}};
}

MeasuredTable table_from_json(const JsonValue& value) {
  value.reject_unknown_keys({"machine",
                             "date",
                             "versions",
                             "process_memory_bytes",
                             "overlap_fraction",
                             "step_overhead",
                             "optimizer",
                             "accumulate",
                             "transfers",
                             "collectives",
                             "ops"});
  MeasuredTable table;
  table.machine = value.at("machine").as_string();
  table.date = value.at("date").as_string();
  for (const auto& [name, version] : value.at("versions").members()) {
    table.versions.emplace_back(name, version.as_string());
  }
  table.process_memory = Bytes(value.at("process_memory_bytes").as_int64(0));
  for (const JsonValue& fraction : value.at("overlap_fraction").items()) {
    table.overlap_fraction.push_back(fraction.as_double(0, 1));
  }
  table.step_overhead = rows_from_json(value.at("step_overhead"), overhead_from_json);
  table.optimizer = rows_from_json(value.at("optimizer"), optimizer_from_json);
  table.accumulate = rows_from_json(value.at("accumulate"), accumulate_from_json);
  table.transfers = rows_from_json(value.at("transfers"), transfer_from_json);
  table.collectives = rows_from_json(value.at("collectives"), collective_from_json);
  table.ops = rows_from_json(value.at("ops"), op_from_json);
  return table;
}

}  // namespace shardwise
