// What Galvatron's profiler measured, as plain numbers: the input of cost/galvatron_costs.h.
//
// Units are those of Galvatron's files: milliseconds, MB (2^20 bytes), GB/s of bus bandwidth.
// Source: PKU-DAIR/Hetu-Galvatron, profile files of its releases 2.1 to 2026.
#pragma once

#include <map>
#include <vector>

namespace shardwise {

// y(x) = slope x + intercept.
struct GalvatronLine {
  double slope = 0;
  double intercept = 0;
  double at(double x) const { return slope * x + intercept; }
};

// One type of layer.
struct GalvatronLayerProfile {
  GalvatronLine forward_ms;             // over samples on one device
  double parameter_mb = 0;              // its parameters at 4 bytes each
  std::map<int, double> activation_mb;  // of one sample, by tensor or sequence degree
  double checkpoint_mb = 0;             // of one sample, when the layer is recomputed
};

// Embedding and head, by vocabulary degree. Old profiles know one value, filed under 1.
struct GalvatronEndsProfile {
  std::map<int, double> states_mb;
  std::map<int, double> activation_mb;  // of one sample
};

struct GalvatronModelProfile {
  int hidden = 1;
  int sequence = 1;
  std::vector<GalvatronLayerProfile> layer_types;
  GalvatronLine ends_forward_ms;   // embedding and head together, over samples on one device
  GalvatronEndsProfile ends;       // without a pipeline
  GalvatronEndsProfile first_end;  // with one: on the first stage
  GalvatronEndsProfile last_end;   // and on the last
};

// Times of one collective on one group: measured points, and the line through them for the rest.
struct GalvatronCollective {
  std::map<int, double> ms_by_mb;
  GalvatronLine line;
  double at(double mb) const;
};

struct GalvatronHardware {
  std::map<int, double> allreduce_consecutive_gb_s;  // by group size; neighbouring ranks
  std::map<int, double> allreduce_strided_gb_s;
  std::map<int, double> point_to_point_gb_s;  // by pipeline degree
  double overlap = 1;                         // slow-down of both while they overlap, >= 1
  std::map<int, GalvatronCollective> allreduce;
  std::map<int, GalvatronCollective> all_to_all;
};

}  // namespace shardwise
