// Counts from outside what a rank sends, through MPI's profiling interface: preloaded into the real
// binary or linked into a test, it sees every MPI_Isend and shares no code with the runtime that it
// watches.
//
// Knows only what mpi_communicator.h promises to observers: collectives run on communicators named
// "shardwise group" with the kind as tag (ObservedKind), messages on "shardwise messages". At
// MPI_Finalize each rank writes one JSON object to the file named by SHARDWISE_PAYLOAD_LOG, with
// ".<rank>" appended.
#include <mpi.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "payload_counts.h"

namespace shardwise::testing {
namespace {

constexpr std::array<const char*, kObservedKinds> kNames = {"sends",
                                                            "control",
                                                            "all_gather",
                                                            "reduce_scatter",
                                                            "all_reduce",
                                                            "all_to_all",
                                                            "all_to_all_sent"};

std::mutex mutex;
std::map<std::pair<int, int>, std::int64_t> wire_bytes;  // (kind, group size) -> bytes sent

void count(int items, MPI_Datatype type, int tag, MPI_Comm comm) {
  std::array<char, MPI_MAX_OBJECT_NAME> name{};
  int length = 0;
  int item_bytes = 0;
  int size = 0;
  PMPI_Comm_get_name(comm, name.data(), &length);
  PMPI_Type_size(type, &item_bytes);
  PMPI_Comm_size(comm, &size);
  const bool is_group = std::strcmp(name.data(), "shardwise group") == 0;
  const bool is_message = std::strcmp(name.data(), "shardwise messages") == 0;
  if (!is_group && !is_message) {
    return;
  }
  const std::lock_guard lock(mutex);
  wire_bytes[{is_group ? tag : kSends, size}] += static_cast<std::int64_t>(items) * item_bytes;
}

void write_log() {
  const char* path = std::getenv("SHARDWISE_PAYLOAD_LOG");
  if (path == nullptr) {
    return;
  }
  int rank = 0;
  PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const auto payload = observed_payload();
  std::FILE* file = std::fopen((std::string(path) + "." + std::to_string(rank)).c_str(), "w");
  if (file == nullptr) {
    return;
  }
  std::fprintf(file, "{");
  for (std::size_t kind = 0; kind < payload.size(); ++kind) {
    std::fprintf(file,
                 "%s\"%s\": %lld",
                 kind == 0 ? "" : ", ",
                 kNames[kind],
                 static_cast<long long>(payload[kind]));
  }
  std::fprintf(file, "}\n");
  std::fclose(file);
}

}  // namespace

std::array<std::int64_t, kObservedKinds> observed_payload() {
  const std::lock_guard lock(mutex);
  std::array<std::int64_t, kObservedKinds> payload{};
  for (const auto& [key, bytes] : wire_bytes) {
    const auto& [kind, size] = key;
    if (kind >= 0 && kind < kObservedKinds) {
      const bool keeps_one_block = kind >= kAllGather && kind <= kAllToAll && size > 1;
      payload[static_cast<std::size_t>(kind)] +=
          keeps_one_block ? bytes * size / (size - 1) : bytes;
    }
  }
  return payload;
}

}  // namespace shardwise::testing

extern "C" int MPI_Isend(const void* data,
                         int items,
                         MPI_Datatype type,
                         int to,
                         int tag,
                         MPI_Comm comm,
                         MPI_Request* request) {
  shardwise::testing::count(items, type, tag, comm);
  return PMPI_Isend(data, items, type, to, tag, comm, request);
}

extern "C" int MPI_Finalize() {
  shardwise::testing::write_log();
  return PMPI_Finalize();
}
