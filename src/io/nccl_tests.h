// Reads what nccl-tests and rccl-tests print: text (with whatever a launcher put around it) and the
// JSON of their flag -J.
//
//   const CollectiveBenchmark measured = read_nccl_tests("all_reduce.txt", std::nullopt);
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "graph/cluster.h"

namespace shardwise {

struct CollectiveBenchmark {
  CollectiveKind kind = CollectiveKind::kAllReduce;
  int ranks = 0;
  int nodes = 0;  // different host names
  struct Row {
    Bytes payload{0};  // by the convention of graph/layout.h
    Seconds time{0};   // out of place; in place where only that was measured
  };
  std::vector<Row> rows;  // by payload, each once; sizes that round to nothing left out
};

// `kind`: what was measured; nothing: as the text says ("Collective test starting: ...", or the
// command above it). Throws InputError with file and line for a table without a row, a row that is
// cut off or contradicts itself, two tables in one file, wrong results, ranks that are missing from
// the list of devices, a collective that plans do not use or that nothing names, NaN and negative
// times.
CollectiveBenchmark read_nccl_tests(const std::filesystem::path& path,
                                    std::optional<CollectiveKind> kind);
CollectiveBenchmark parse_nccl_tests(const std::string& text,
                                     const std::string& file_name,
                                     std::optional<CollectiveKind> kind);

// The collective of that name, as nccl-tests ("all_reduce_perf") and cluster files ("all_reduce")
// spell it.
std::optional<CollectiveKind> find_collective(const std::string& name);

// The rows as a cluster keeps them. Throws InputError with `where` if the ranks do not spread
// evenly over the nodes.
std::vector<MeasuredCollective> measured_collectives(const CollectiveBenchmark& benchmark,
                                                     int level,
                                                     const std::string& where);

}  // namespace shardwise
