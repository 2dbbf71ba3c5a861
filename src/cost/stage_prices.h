// The parts that evaluate() adds up: the price of one layer in one plan, and of moving a tensor
// between devices. Internal to cost.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "cost/cost_table.h"
#include "graph/layer_body.h"
#include "graph/redistribution.h"

namespace shardwise::internal {

inline constexpr int kNumCollectiveKinds = 5;
using BytesByKind = std::array<std::int64_t, kNumCollectiveKinds>;

// What shows of communication that runs behind kernels: a share of what they cover, and all that
// lasts longer.
inline Picoseconds shown(Picoseconds communication, Picoseconds kernels, double exposed) {
  const Picoseconds covered = std::min(communication, kernels);
  return communication - covered +
         Picoseconds(static_cast<std::int64_t>(exposed * static_cast<double>(covered.count)));
}

// What prices depend on besides the layer: equal surroundings, equal prices.
struct Surroundings {
  Mesh mesh;
  std::vector<int> device_types;  // of the stage's devices, distinct, ascending
  std::array<GroupPlacement, 1U << kMeshAxes> placements;  // by set of mesh axes

  auto operator<=>(const Surroundings&) const = default;
};
Surroundings surroundings_of(const Cluster& cluster, const StagePlan& stage);

// How a parameter takes part in a tie (graph/tied.h).
enum class TieRole : std::uint8_t {
  kNone,
  kSharedAlias,     // holds nothing of its own, reduces only where every op does
  kExchangedOwner,  // never gathers for use
  kExchangedAlias,  // whole weights and gradient, no optimizer state
};
struct ParameterRole {
  int op = 0;
  int index = 0;
  TieRole role = TieRole::kNone;
};

// One layer: times and payloads of one micro-batch and of one step, memory on one device.
struct LayerPrice {
  Picoseconds forward{0};
  Picoseconds recompute{0};
  Picoseconds backward{0};
  Picoseconds forward_collectives{0};
  Picoseconds backward_collectives{0};  // recomputation's included
  Picoseconds forward_gather{0};
  Picoseconds backward_state{0};  // gather, exposed reduce-scatter
  Picoseconds exposed_reduction{0};
  Picoseconds optimizer{0};
  Picoseconds parameter_gather{0};

  Bytes weights{0};
  Bytes gradients{0};
  Bytes optimizer_state{0};
  Bytes saved{0};
  bool saves_input = false;
  bool saves_output = false;
  Bytes transient{0};
  Bytes input{0};
  Bytes output{0};

  BytesByKind microbatch_payload{};
  BytesByKind step_payload{};
  std::int64_t routed_payload = 0;  // part of microbatch_payload
  bool extrapolated = false;
};
LayerPrice price_layer(const Block& block,
                       const LayerPlan& plan,
                       const Layout& output_layout,
                       Precision precision,
                       const Surroundings& surroundings,
                       const std::vector<ParameterRole>& roles,
                       const CostTable& costs);

// Messages that run at once: the device with most bytes to send or to receive decides.
struct TransferPrice {
  Picoseconds time{0};
  Bytes busiest{0};  // of the device that decides
  int level = 0;
  int concurrent = 1;
  std::vector<std::int64_t> sent;  // by index in the sender's devices
  bool extrapolated = false;
};
TransferPrice price_messages(const std::vector<RedistributionMessage>& messages,
                             const std::vector<int>& senders,
                             std::int64_t element_bytes,
                             const Cluster& cluster,
                             const CostTable& costs);

// The same for the messages of redistribution(shape, sender, receiver), without writing down those
// that repeat.
TransferPrice price_transfer(const std::vector<std::int64_t>& shape,
                             const TensorPlacement& sender,
                             const TensorPlacement& receiver,
                             std::int64_t element_bytes,
                             const Cluster& cluster,
                             const CostTable& costs);

// The time of the same messages by other costs.
void price_again(TransferPrice& price, const CostTable& costs);

// A layer of a chunk: what the chunk's layers up to it keep of a micro-batch, and what it needs on
// top while it runs.
struct LayerMemory {
  int block = 0;
  Bytes kept_so_far{0};
  Bytes transient{0};
};
// What a chunk needs for a while beyond all that it keeps,
//
//   max over runs r of equal blocks of (max of transient_l, l in r) - (kept by the layers behind r)
//
// for the layers behind have freed what they kept, or not yet kept it, while r runs. In a run of
// equal layers the last one decides; for unequal ones the figure is above the truth by at most what
// the run keeps. Never negative. Without `frees_behind` nothing is taken off: of several chunks
// none but the last has anything behind its last decoder layer.
Bytes chunk_transient(const std::vector<LayerMemory>& layers, bool frees_behind);

// Passes (a micro-batch through a chunk) of a stage whose activations are held at once under the
// interleaved schedule, at most: warm-up of Megatron's order plus one.
int interleaved_passes_in_flight(int num_stages, int stage, int num_microbatches, int num_chunks);

// Most activation bytes that a stage holds at once under the interleaved schedule, from those of
// one micro-batch in each of its chunks: early chunks are in flight more often than late ones.
// Never less than that many passes of the smallest chunk.
Bytes interleaved_activations(int num_stages,
                              int stage,
                              int num_microbatches,
                              const std::vector<Bytes>& by_chunk);

}  // namespace shardwise::internal
