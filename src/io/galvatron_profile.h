// Reads the JSON files of Galvatron's profilers (PKU-DAIR/Hetu-Galvatron, releases 2.1 to 2026).
//
//   GalvatronProfileOptions options{.hidden = 4096, .sequence = 2048};
//   options.time_mode = GalvatronTimeMode::kBatch;
//   options.memory_mode = GalvatronMemoryMode::kSequenceParallel;
//   const GalvatronModelProfile model = read_galvatron_model(time_json, memory_json, options);
//
// Keys: docs/file_formats.md. Every number of a file must be finite and not negative, raw
// measurements included: files that were shipped hold negative layer times. Throws InputError with
// file, line and key.
#pragma once

#include <filesystem>

#include "cost/galvatron_profile.h"
#include "files/json.h"

namespace shardwise {

// kStatic: time is proportional to the batch. kBatch: a line fitted through at least eight batch
// sizes. kSequence: batch 1, a parabola fitted over at least three sequence lengths.
enum class GalvatronTimeMode { kStatic, kBatch, kSequence };
// Which groups of a memory file to use: plain, or those measured with sequence parallelism ("_sp").
enum class GalvatronMemoryMode { kPlain, kSequenceParallel };

struct GalvatronProfileOptions {
  int hidden = 1;
  int sequence = 1;
  GalvatronTimeMode time_mode = GalvatronTimeMode::kStatic;
  GalvatronMemoryMode memory_mode = GalvatronMemoryMode::kPlain;
};

GalvatronModelProfile read_galvatron_model(const std::filesystem::path& time_file,
                                           const std::filesystem::path& memory_file,
                                           const GalvatronProfileOptions& options);
GalvatronModelProfile galvatron_model_from_json(const JsonValue& time,
                                                const JsonValue& memory,
                                                const GalvatronProfileOptions& options);

// Parts of a hardware profile, each from its file; the rest of `hardware` stays as it is.
void add_galvatron_allreduce(const JsonValue& file, GalvatronHardware& hardware);
void add_galvatron_point_to_point(const JsonValue& file, GalvatronHardware& hardware);
void add_galvatron_overlap(const JsonValue& file, GalvatronHardware& hardware);
void add_galvatron_collectives(const JsonValue& file, GalvatronHardware& hardware);

// The files of `folder` for that shape: allreduce_bandwidth, p2p_bandwidth, overlap_coefficient,
// and sp_time if it is there.
GalvatronHardware read_galvatron_hardware(const std::filesystem::path& folder,
                                          int nodes,
                                          int devices_per_node);

}  // namespace shardwise
