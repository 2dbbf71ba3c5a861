// Modelled collectives against measured ones of other people: nccl-tests logs, vTrain's, nnScaler's
// and Bekman's tables, read in place.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/text.h"
#include "cost/device_preset.h"
#include "cost/modelled_table.h"
#include "files/json.h"
#include "files/read_file.h"
#include "io/nccl_tests.h"

namespace shardwise {
namespace {

constexpr std::int64_t kMebibyte = 1 << 20;

struct Sweep {
  std::string name;
  std::string node;  // preset; empty: unknown machine
  CollectiveKind kind = CollectiveKind::kAllReduce;
  int ranks = 0;
  int nodes = 1;
  std::map<std::int64_t, double> times;        // s by payload
  std::map<std::int64_t, std::int64_t> sizes;  // as the table prints them
};

std::string folder() {
  const char* data = std::getenv("SHARDWISE_DATA");
  return std::string(data != nullptr ? data : "../shared/data") + "/";
}

void add(Sweep& sweep, std::int64_t size, double time) {
  const std::int64_t payload = sweep.kind == CollectiveKind::kAllReduce ? 2 * size : size;
  sweep.times[payload] = time;
  sweep.sizes[payload] = size;
}

std::vector<Sweep> nccl_sweeps() {
  struct File {
    const char* name;
    const char* node;
    CollectiveKind kind;
  };
  std::vector<Sweep> sweeps;
  for (const auto& [name, node, kind] :
       {File{"allgather_b200_1node_x2", "dgx-b200", CollectiveKind::kAllGather},
        {"allgather_b200_2nodes_x1", "dgx-b200", CollectiveKind::kAllGather},
        {"allgather_b200_2nodes_x8", "dgx-b200", CollectiveKind::kAllGather},
        {"allgather_h200_2nodes_x1", "dgx-h200", CollectiveKind::kAllGather},
        {"allreduce_gh200_2nodes_x1_v2.18.2", "gh200-x4", CollectiveKind::kAllReduce},
        {"allreduce_gh200_2nodes_x4_slingshot", "gh200-x4", CollectiveKind::kAllReduce},
        {"allreduce_gh200_2nodes_x4_slow_network", "", CollectiveKind::kAllReduce},
        {"allreduce_h200_2nodes_x1_noisy_mpirun", "dgx-h200", CollectiveKind::kAllReduce}}) {
    const CollectiveBenchmark read =
        read_nccl_tests(fmt::format("{}cluster_samples/nccl_{}.txt", folder(), name), kind);
    Sweep sweep{name, node, kind, read.ranks, read.nodes, {}, {}};
    for (const CollectiveBenchmark::Row& row : read.rows) {
      const std::int64_t passes = kind == CollectiveKind::kAllReduce ? 2 : 1;
      add(sweep, row.payload.count / passes, row.time.count);
    }
    sweeps.push_back(std::move(sweep));
  }
  return sweeps;
}

// size(B),count,type,time(ns),...
std::vector<Sweep> vtrain_sweeps() {
  std::vector<Sweep> sweeps;
  for (const std::string device : {"a100", "v100"}) {
    for (int ranks = 2; ranks <= 8; ++ranks) {
      Sweep sweep{fmt::format("vTrain {} x{}", device, ranks),
                  device == "a100" ? "dgx-a100" : "dgx-1",
                  CollectiveKind::kAllReduce,
                  ranks,
                  1,
                  {},
                  {}};
      const std::string text =
          read_file(fmt::format("{}vtrain/allreduce_{}_{}gpu.csv", folder(), device, ranks));
      for (const std::string& line : split(text, '\n')) {
        const std::vector<std::string> fields = split(line, ',');
        if (fields.size() > 3 && std::isdigit(static_cast<unsigned char>(fields[0][0])) != 0) {
          add(sweep, std::stoll(fields[0]), std::stod(fields[3]) * 1e-9);
        }
      }
      sweeps.push_back(std::move(sweep));
    }
  }
  return sweeps;
}

// {"all reduce": [[MB, ...], [s, ...]], ...} on the dies of MI250X cards.
std::vector<Sweep> nnscaler_sweeps() {
  std::vector<Sweep> sweeps;
  for (const int ranks : {2, 4, 8, 16}) {
    const JsonValue file =
        read_json_file(fmt::format("{}nnscaler/mi200_intra_{}.json", folder(), ranks));
    for (const auto& [name, kind] : {std::pair("all gather", CollectiveKind::kAllGather),
                                     std::pair("all reduce", CollectiveKind::kAllReduce),
                                     std::pair("reduce scatter", CollectiveKind::kReduceScatter),
                                     std::pair("all to all", CollectiveKind::kAllToAll)}) {
      Sweep sweep{fmt::format("nnScaler {} x{}", name, ranks), "mi250x-x4", kind, ranks, 1, {}, {}};
      const std::vector<JsonValue> sides = file.at(name).items();
      const std::vector<JsonValue> sizes = sides.at(0).items();
      const std::vector<JsonValue> times = sides.at(1).items();
      for (std::size_t i = 0; i < sizes.size(); ++i) {
        add(sweep,
            static_cast<std::int64_t>(sizes[i].as_double() * kMebibyte),
            times.at(i).as_double());
      }
      sweeps.push_back(std::move(sweep));
    }
  }
  return sweeps;
}

// system,nodes,gpus_per_node,payload_bytes,busbw,note
std::vector<Sweep> bekman_sweeps() {
  std::map<std::string, Sweep> sweeps;
  for (const std::string& line :
       split(read_file(folder() + "ml_engineering/allreduce_busbw.csv"), '\n')) {
    const std::vector<std::string> fields = split(line, ',');
    if (fields.size() < 6 || fields[0] == "system" ||
        line.find("in-switch reduction disabled") != std::string::npos) {
      continue;
    }
    const int nodes = std::stoi(fields[1]);
    const int ranks = nodes * (fields[2].empty() ? 8 : std::stoi(fields[2]));
    const bool is_b200 = fields[0].find("B200") != std::string::npos;
    const bool is_h200 = fields[0].find("H200") != std::string::npos;
    const std::string name = fmt::format("Bekman {} {}x{}", fields[0], nodes, ranks / nodes);
    Sweep& sweep = sweeps
                       .try_emplace(name,
                                    Sweep{name,
                                          is_b200   ? "dgx-b200"
                                          : is_h200 ? "dgx-h200"
                                                    : "",
                                          CollectiveKind::kAllReduce,
                                          ranks,
                                          nodes,
                                          {},
                                          {}})
                       .first->second;
    const std::int64_t size = std::stoll(fields[3]);
    add(sweep,
        size,
        static_cast<double>(size) * 2 * (ranks - 1) / ranks / std::stod(fields[4]) * 1e-9);
  }
  std::vector<Sweep> result;
  for (auto& [name, sweep] : sweeps) {
    result.push_back(std::move(sweep));
  }
  return result;
}

std::vector<Sweep> all_sweeps() {
  std::vector<Sweep> all;
  for (std::vector<Sweep> part :
       {nccl_sweeps(), vtrain_sweeps(), nnscaler_sweeps(), bekman_sweeps()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

GroupPlacement group_of(const Sweep& sweep) {
  return {.ranks = sweep.ranks,
          .level = sweep.nodes > 1 ? 1 : 0,
          .ranks_per_node = sweep.ranks / sweep.nodes};
}

Cluster cluster_for(const Sweep& sweep) {
  const NodePreset node = *find_node(sweep.node.empty() ? "dgx-h100" : sweep.node);
  return cluster_of(node, std::max(sweep.nodes, 1), sweep.name);
}

double predicted(const Sweep& sweep, const Cluster& cluster, std::int64_t payload) {
  ModelConstants calm;
  calm.per_doubling = 0;  // these programs wait for nothing else
  return ModelledTable(cluster, {}, calm)
      .collective_time(sweep.kind, Bytes(payload), Precision::kFloat32, group_of(sweep))
      .time.count;
}

struct Mean {
  double sum = 0;
  int count = 0;
  void add(double error) {
    sum += std::abs(error);
    ++count;
  }
  double value() const { return count == 0 ? 0 : sum / count; }
};

// Means over all rows and over the means of tables.
struct Errors {
  Mean rows;
  Mean tables;
  void add(const Sweep& sweep, const Mean& own) {
    if (own.count > 0) {
      rows.sum += own.sum;
      rows.count += own.count;
      tables.add(own.value());
      fmt::print("  {:45} {:5} rows {:5.1f} %\n", sweep.name, own.count, 100 * own.value());
    }
  }
};

#define SKIP_WITHOUT_DATA()                                      \
  if (!std::filesystem::exists(folder() + "vtrain")) {           \
    GTEST_SKIP() << "no " << folder() << "; set SHARDWISE_DATA"; \
  }

// Each size from the others of its table.
TEST(Collectives, TablesAnswerForSizesTheyLack) {
  SKIP_WITHOUT_DATA();
  Errors errors;
  for (const Sweep& sweep : all_sweeps()) {
    if (sweep.times.size() < 3) {
      continue;
    }
    Cluster cluster = cluster_for(sweep);
    const GroupPlacement group = group_of(sweep);
    std::vector<MeasuredCollective> rows;
    for (const auto& [payload, time] : sweep.times) {
      rows.push_back({sweep.kind,
                      group.level,
                      group.ranks,
                      group.ranks_per_node,
                      Bytes(payload),
                      Seconds(time)});
    }
    Mean own;
    for (std::size_t left_out = 0; left_out < rows.size(); ++left_out) {
      cluster.collectives = rows;
      cluster.collectives.erase(cluster.collectives.begin() +
                                static_cast<std::ptrdiff_t>(left_out));
      const double time = predicted(sweep, cluster, rows[left_out].payload.count);
      own.add(time / rows[left_out].time.count - 1);
    }
    errors.add(sweep, own);
  }
  fmt::print("left out one at a time: {:.1f} % over rows, {:.1f} % over tables\n",
             100 * errors.rows.value(),
             100 * errors.tables.value());
  EXPECT_LE(errors.rows.value(), 0.08);
  EXPECT_LE(errors.tables.value(), 0.08);
}

// Nothing but the data sheets of presets, from 1 MiB on; machines without a preset left out.
TEST(Collectives, PresetsAnswerForLargeMessages) {
  SKIP_WITHOUT_DATA();
  Errors errors;
  for (const Sweep& sweep : all_sweeps()) {
    if (sweep.node.empty()) {
      continue;
    }
    const Cluster cluster = cluster_for(sweep);
    Mean own;
    for (const auto& [payload, time] : sweep.times) {
      if (sweep.sizes.at(payload) >= kMebibyte) {
        own.add(predicted(sweep, cluster, payload) / time - 1);
      }
    }
    errors.add(sweep, own);
  }
  fmt::print("presets alone: {:.1f} % over rows, {:.1f} % over tables\n",
             100 * errors.rows.value(),
             100 * errors.tables.value());
  EXPECT_LE(errors.rows.value(), 0.20);
}

}  // namespace
}  // namespace shardwise
