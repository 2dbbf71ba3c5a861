// Price of one layer: the steps of its body, then what its parameters cost.
#include <algorithm>
#include <map>
#include <tuple>

#include "core/errors.h"
#include "cost/op_key.h"
#include "cost/stage_prices.h"
#include "graph/layer_memory.h"
#include "graph/op_definition.h"

namespace shardwise::internal {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }
std::size_t at(CollectiveKind kind) { return static_cast<std::size_t>(kind); }

constexpr std::int64_t kFloatBytes = 4;

// Bytes kept for each score where attention stores them: output of softmax and of dropout in two
// bytes, beside dropout's mask of one (Korthikanti et al., 2022, section 4.1).
constexpr std::int64_t kScoreBytes = 4;

// Parameters of an op that share one collective: the same mesh axes to reduce over and the same
// sharding of state.
struct ReductionGroup {
  unsigned axes = 0;  // bit m: the gradient is partial on mesh axis m
  std::int64_t ranks = 1;
  StateSharding sharding = StateSharding::kNone;
  bool is_gathered_for_use = false;
  std::int64_t padded_elements = 0;   // sum of ranks * chunk, whoever reduces
  std::int64_t updated_elements = 0;  // the same over parameters that are updated here
  std::int64_t reduced_elements = 0;  // the same over parameters that are reduced here
};

class LayerPricer {
 public:
  LayerPricer(const Block& block,
              const LayerPlan& plan,
              const Layout& output_layout,
              Precision precision,
              const Surroundings& surroundings,
              const std::vector<ParameterRole>& roles,
              const CostTable& costs)
      : block_(block),
        plan_(plan),
        precision_(precision),
        around_(surroundings),
        roles_(roles),
        costs_(costs),
        execution_(costs.execution()),
        body_(make_layer_body(block, plan, surroundings.mesh, output_layout, precision)),
        backward_of_op_(block.ops.size()) {}

  LayerPrice price() {
    Communication forward;
    Communication backward;
    for (const LayerStep& step : body_.forward) {
      add_step(step, price_.forward, forward);
    }
    const bool is_whole = plan_.recompute == Recompute::kFull && execution_.repeats_whole_layers;
    for (const LayerStep& step : is_whole ? body_.forward : body_.recompute) {
      add_step(step, price_.recompute, backward);
    }
    for (const LayerStep& step : body_.backward) {
      const Picoseconds before = price_.backward;
      if (is_reduction(step)) {
        Communication reduced;
        add_step(step, price_.backward, reduced);
        backward.input_gradients += reduced.layer;
      } else {
        add_step(step, price_.backward, backward);
      }
      if (step.kind == LayerStep::Kind::kOp) {
        backward_of_op_[at(step.op)] += price_.backward - before;
      }
    }
    if (execution_.gathers_again) {
      add_second_gathers(backward);
    }
    price_.forward_collectives = shown_part(forward, price_.forward);
    price_.backward_collectives = shown_part(backward, price_.recompute + price_.backward);
    std::vector<bool> runs_again(block_.ops.size(), false);
    for (const LayerStep& step : body_.recompute) {
      if (step.kind == LayerStep::Kind::kOp) {
        runs_again[at(step.op)] = true;
      }
    }
    Bytes largest_op_state{0};
    Bytes held{0};  // gathered for recomputation, still needed in backward
    for (int o = 0; o < static_cast<int>(block_.ops.size()); ++o) {
      const MomentaryState state = add_parameters(o);
      const bool is_held = runs_again[at(o)];
      held += is_held ? state.gathered : Bytes(0);
      largest_op_state =
          std::max(largest_op_state, state.gradients + (is_held ? Bytes(0) : state.gathered));
    }
    price_.transient = transient_bytes(body_) + largest_op_state + held;
    hide_state();
    add_saved_values();
    return price_;
  }

 private:
  // Collectives of one direction: conversions of layouts, and exchanges of routed tokens.
  struct Communication {
    Picoseconds layer{0};
    Picoseconds experts{0};
    Picoseconds input_gradients{0};  // LayerOverlap::kInputGradients hides these
  };

  // Products are cut up into as many parts as share them, each part's communication behind the next
  // part's product: what is gathered starts with a part at hand, what is reduced ends with one that
  // nothing covers. Half of the communication is of each kind.
  double shown_of_parts() const {
    return 0.5 / std::max(around_.mesh.sizes[1] * around_.mesh.sizes[2], 1);
  }

  Picoseconds shown_part(const Communication& time, Picoseconds kernels) const {
    const Picoseconds both = time.layer + time.input_gradients;
    const double share = execution_.exposed;
    const Picoseconds layer = execution_.layer == LayerOverlap::kAll
                                  ? shown(both, kernels, share + (1 - share) * shown_of_parts())
                              : execution_.layer == LayerOverlap::kInputGradients
                                  ? time.layer + shown(time.input_gradients, kernels, share)
                                  : both;
    return layer + (execution_.overlaps_experts ? shown(time.experts, kernels, execution_.exposed)
                                                : time.experts);
  }

  // What is paid for state in every micro-batch runs behind the layer's kernels.
  void hide_state() {
    if (execution_.state == StateOverlap::kCompute) {
      price_.forward_gather = shown(price_.forward_gather, price_.forward, execution_.exposed);
      price_.backward_state =
          shown(price_.backward_state, price_.recompute + price_.backward, execution_.exposed);
    }
  }

  std::int64_t compute_bytes() const { return element_bytes(ElementType::kCompute, precision_); }

  Picoseconds rounded(const Estimate& estimate) {
    price_.extrapolated |= estimate.extrapolated;
    return to_picoseconds(estimate.time);
  }

  // The slowest device of the stage decides.
  Picoseconds kernel_time(const Op& op,
                          const std::vector<std::int64_t>& sizes,
                          Direction direction) {
    Picoseconds slowest{0};
    for (const int type : around_.device_types) {
      slowest = std::max(slowest, rounded(costs_.op_time(op, sizes, direction, precision_, type)));
    }
    return slowest;
  }

  Picoseconds collective(CollectiveKind kind, Bytes payload, unsigned axes, Precision precision) {
    return payload.count == 0 ? Picoseconds(0)
                              : rounded(costs_.collective_time(
                                    kind, payload, precision, around_.placements[axes]));
  }

  Picoseconds microbatch_collective(CollectiveKind kind,
                                    Bytes payload,
                                    unsigned axes,
                                    Precision precision) {
    price_.microbatch_payload[at(kind)] += payload.count;
    return collective(kind, payload, axes, precision);
  }

  Picoseconds step_collective(CollectiveKind kind,
                              Bytes payload,
                              unsigned axes,
                              Precision precision) {
    price_.step_payload[at(kind)] += payload.count;
    return collective(kind, payload, axes, precision);
  }

  void add_step(const LayerStep& step, Picoseconds& kernels, Communication& collectives) {
    switch (step.kind) {
      case LayerStep::Kind::kOp:
        add_kernel(step, kernels, collectives);
        return;
      case LayerStep::Kind::kCollective: {
        const CollectiveStep& what = step.collective;
        if (what.kind == CollectiveKind::kSlice) {
          return;
        }
        const Value& value = body_.values[at(step.reads[0])];
        const Bytes payload =
            collective_payload(what, around_.mesh, element_bytes(value.type, precision_));
        const Precision sent =
            value.type == ElementType::kCompute ? precision_ : Precision::kFloat32;
        collectives.layer += microbatch_collective(what.kind, payload, 1U << what.mesh_axis, sent);
        return;
      }
      case LayerStep::Kind::kAccumulate: {
        Picoseconds slowest{0};
        for (const int type : around_.device_types) {
          slowest = std::max(
              slowest,
              rounded(costs_.accumulate_time(body_.values[at(step.writes[0])].bytes, type)));
        }
        kernels += slowest;
        return;
      }
    }
  }

  void add_kernel(const LayerStep& step, Picoseconds& kernels, Communication& collectives) {
    const Op& op = block_.ops[at(step.op)];
    const AxisAssignment& assignment = plan_.op_axes[at(step.op)];
    kernels += kernel_time(op, local_axis_sizes(op, assignment, around_.mesh), step.direction);
    // Of each mesh axis, backward's first exchange sends the tokens once more.
    unsigned sends_again = op.kind == OpKind::kExperts && !execution_.repeats_expert_input &&
                                   step.direction != Direction::kForward
                               ? ~0U
                               : 0U;
    for (const InternalCollective& internal : definition_of(op.kind).internal_collectives(
             op, assignment, around_.mesh, step.direction, compute_bytes())) {
      const unsigned axis = 1U << internal.mesh_axis;
      if ((sends_again & axis) != 0) {
        sends_again &= ~axis;
        continue;
      }
      // The loss talks in fp32; what the others send is only moved.
      (internal.routed ? collectives.experts : collectives.layer) +=
          microbatch_collective(internal.kind, internal.payload, axis, Precision::kFloat32);
      if (internal.routed) {
        price_.routed_payload += internal.payload.count;
      }
    }
  }

  TieRole role_of(int op, int index) const {
    for (const ParameterRole& role : roles_) {
      if (role.op == op && role.index == index) {
        return role.role;
      }
    }
    return TieRole::kNone;
  }

  StateSharding sharding_of(TieRole role) const {
    switch (role) {
      case TieRole::kExchangedAlias:
        return StateSharding::kNone;
      case TieRole::kExchangedOwner:
        return std::min(plan_.state_sharding, StateSharding::kGradients);
      case TieRole::kNone:
      case TieRole::kSharedAlias:
        return plan_.state_sharding;
    }
    return plan_.state_sharding;
  }

  // What the kernels of an op need of its parameters for the moment.
  struct MomentaryState {
    Bytes gathered{0};   // whole weights
    Bytes gradients{0};  // whole gradients, until they are shared out
  };

  // Memory, update and collectives of op `o`'s parameters.
  MomentaryState add_parameters(int o) {
    const Op& op = block_.ops[at(o)];
    std::map<std::pair<unsigned, StateSharding>, ReductionGroup> groups;
    MomentaryState momentary;
    std::int64_t updated = 0;
    for (int i = 0; i < static_cast<int>(op.parameters.size()); ++i) {
      const Operand& operand = op.parameters[at(i)];
      const ParameterPlacement placement =
          parameter_placement(op, operand, plan_.op_axes[at(o)], around_.mesh);
      const std::int64_t elements = element_count(
          local_shape(block_.tensors[at(operand.tensor)].shape, placement.layout, around_.mesh));
      const std::int64_t ranks = placement.reduction_degree;
      const std::int64_t chunk = (elements + ranks - 1) / ranks;
      const TieRole role = role_of(o, i);
      const StateSharding sharding = sharding_of(role);
      const bool has_state = role != TieRole::kSharedAlias && role != TieRole::kExchangedAlias;
      if (role != TieRole::kSharedAlias) {
        add_parameter_memory(elements, chunk, sharding, has_state);
      }
      updated += !has_state ? 0 : sharding >= StateSharding::kOptimizer ? chunk : elements;
      if (sharding >= StateSharding::kGradients && ranks > 1) {
        momentary.gradients += Bytes(elements * execution_.gradient_bytes);
        momentary.gathered +=
            Bytes(sharding == StateSharding::kParameters ? elements * compute_bytes() : 0);
      }
      if (ranks == 1) {
        continue;
      }
      unsigned axes = 0;
      for (int m = 0; m < kMeshAxes; ++m) {
        axes |= placement.gradient[at(m)].kind == AxisLayout::Kind::kPartial ? 1U << m : 0U;
      }
      ReductionGroup& group = groups[{axes, sharding}];
      group.axes = axes;
      group.ranks = ranks;
      group.sharding = sharding;
      group.padded_elements += ranks * chunk;
      group.updated_elements += has_state ? ranks * chunk : 0;
      const bool owner_reduces =
          role == TieRole::kSharedAlias && sharding <= StateSharding::kOptimizer;
      group.reduced_elements += owner_reduces ? 0 : ranks * chunk;
    }
    add_update(updated);
    add_collectives(o, groups);
    return momentary;
  }

  void add_parameter_memory(std::int64_t elements,
                            std::int64_t chunk,
                            StateSharding sharding,
                            bool has_state) {
    const auto share = [&](StateSharding from) { return sharding >= from ? chunk : elements; };
    price_.weights += Bytes(share(StateSharding::kParameters) * compute_bytes());
    price_.gradients += Bytes(share(StateSharding::kGradients) * execution_.gradient_bytes);
    // Two moments, and the fp32 master copy of 2-byte weights.
    const std::int64_t numbers = precision_ == Precision::kBFloat16 ? 3 : 2;
    price_.optimizer_state +=
        Bytes(has_state ? share(StateSharding::kOptimizer) * numbers * kFloatBytes : 0);
  }

  void add_update(std::int64_t elements) {
    if (elements == 0) {
      return;
    }
    Picoseconds slowest{0};
    for (const int type : around_.device_types) {
      slowest = std::max(slowest, rounded(costs_.optimizer_time(elements, precision_, type)));
    }
    price_.optimizer += slowest;
  }

  // Reductions hide behind a share phi of the op's own backward; what is left shows.
  void add_collectives(int o,
                       const std::map<std::pair<unsigned, StateSharding>, ReductionGroup>& groups) {
    Picoseconds per_step{0};
    Picoseconds per_microbatch{0};
    for (const auto& [key, group] : groups) {
      const Bytes gradient(group.reduced_elements * execution_.gradient_bytes);
      switch (group.sharding) {
        case StateSharding::kNone:
          per_step += step_collective(
              CollectiveKind::kAllReduce, 2 * gradient, group.axes, Precision::kFloat32);
          break;
        case StateSharding::kOptimizer:
          per_step += step_collective(
              CollectiveKind::kReduceScatter, gradient, group.axes, Precision::kFloat32);
          break;
        case StateSharding::kGradients:
        case StateSharding::kParameters:
          per_microbatch += microbatch_collective(
              CollectiveKind::kReduceScatter, gradient, group.axes, Precision::kFloat32);
          break;
      }
      add_gathers(group);
    }
    double phi = execution_.state == StateOverlap::kOwnOp ? 1 : 0;
    for (const int type : around_.device_types) {
      phi = std::min(phi, costs_.overlap_fraction(type));
    }
    const Picoseconds hidden(
        static_cast<std::int64_t>(phi * static_cast<double>(backward_of_op_[at(o)].count)));
    const Picoseconds none{0};
    // An op has one of both, but for a tied parameter beside others: then both may hide.
    price_.exposed_reduction += std::max(none, per_step - hidden);
    price_.backward_state += std::max(none, per_microbatch - hidden);
  }

  void add_gathers(const ReductionGroup& group) {
    if (group.sharding == StateSharding::kParameters) {
      const Bytes weights(group.padded_elements * compute_bytes());
      price_.forward_gather +=
          microbatch_collective(CollectiveKind::kAllGather, weights, group.axes, precision_);
      price_.backward_state +=
          microbatch_collective(CollectiveKind::kAllGather, weights, group.axes, precision_);
    } else if (group.sharding != StateSharding::kNone) {
      const Bytes weights(group.updated_elements * compute_bytes());
      price_.parameter_gather +=
          step_collective(CollectiveKind::kAllGather, weights, group.axes, precision_);
    }
  }

  bool is_saved(ValueId value) const {
    return value >= 0 &&
           std::find(body_.saved.begin(), body_.saved.end(), value) != body_.saved.end();
  }

  bool is_saved_gather(const LayerStep& step) const {
    return step.kind == LayerStep::Kind::kCollective &&
           step.collective.kind == CollectiveKind::kAllGather && is_saved(step.writes[0]);
  }

  static bool is_reduction(const LayerStep& step) {
    return step.kind == LayerStep::Kind::kCollective &&
           (step.collective.kind == CollectiveKind::kReduceScatter ||
            step.collective.kind == CollectiveKind::kAllReduce);
  }

  void add_second_gathers(Communication& backward) {
    for (const LayerStep& step : body_.forward) {
      if (is_saved_gather(step)) {
        Picoseconds none{0};
        Communication gathered;
        add_step(step, none, gathered);
        backward.input_gradients += gathered.layer;
      }
    }
  }

  // What linears alone read is kept in the format of their products.
  bool is_small(ValueId value) const {
    bool read = false;
    for (const LayerStep& step : body_.forward) {
      if (step.kind == LayerStep::Kind::kOp &&
          std::find(step.reads.begin(), step.reads.end(), value) != step.reads.end()) {
        if (block_.ops[at(step.op)].kind != OpKind::kLinear) {
          return false;
        }
        read = true;
      }
    }
    return read && body_.values[at(value)].type == ElementType::kCompute;
  }

  // Saved values as the software keeps them.
  Bytes kept_bytes() const {
    Bytes sum = body_.saved_bytes();
    for (const ValueId value : body_.saved) {
      if (execution_.format != MatrixFormat::kCompute && is_small(value)) {
        const std::int64_t bytes = body_.values[at(value)].bytes.count;
        sum -= Bytes(bytes - bytes / compute_bytes());
      }
    }
    if (!execution_.gathers_again) {
      return sum;
    }
    for (const LayerStep& step : body_.forward) {
      if (is_saved_gather(step)) {
        const std::int64_t ranks = around_.mesh.sizes[at(step.collective.mesh_axis)];
        const std::int64_t whole = body_.values[at(step.writes[0])].bytes.count;
        const std::int64_t part = is_saved(step.reads[0]) ? 0 : whole / ranks;
        const bool small = execution_.format != MatrixFormat::kCompute && is_small(step.writes[0]);
        sum -= Bytes((whole - part) / (small ? compute_bytes() : 1));
      }
    }
    return sum;
  }

  // What kernels keep inside, where they do not run again: scores of attention without flash, masks
  // of dropout, tokens and first products of experts.
  Bytes kept_inside() const {
    std::int64_t bytes = 0;
    for (std::size_t o = 0; o < block_.ops.size() && plan_.recompute != Recompute::kFull; ++o) {
      const Op& op = block_.ops[o];
      const OpKey key =
          op_key(op, local_axis_sizes(op, plan_.op_axes[o], around_.mesh), precision_);
      if (is_sequence_attention(op.kind) && execution_.attention == AttentionKernel::kStored) {
        std::int64_t scores = 1;  // all sizes but the widths
        for (std::size_t i = 0; i < (op.kind == OpKind::kLatentAttention ? 3U : 4U); ++i) {
          scores *= key.sizes[i];
        }
        bytes += scores * (kScoreBytes + (execution_.dropout ? 1 : 0));
      } else if (op.kind == OpKind::kAdd && execution_.dropout) {
        bytes += key.sizes[0];  // the mask
      } else if (op.kind == OpKind::kExperts && !execution_.repeats_expert_input) {
        const std::int64_t small =
            execution_.format == MatrixFormat::kCompute ? compute_bytes() : 1;
        bytes +=
            key.sizes[0] * (key.sizes[3] * small + key.sizes[2] * (2 * compute_bytes() + small));
      }
    }
    return Bytes(bytes);
  }

  void add_saved_values() {
    price_.saved = kept_bytes() + kept_inside();
    price_.saves_input = is_saved(body_.input);
    price_.saves_output = is_saved(body_.output);
    price_.input = body_.input >= 0 ? body_.values[at(body_.input)].bytes : Bytes(0);
    price_.output = body_.output >= 0 ? body_.values[at(body_.output)].bytes : Bytes(0);
  }

  const Block& block_;
  const LayerPlan& plan_;
  const Precision precision_;
  const Surroundings& around_;
  const std::vector<ParameterRole>& roles_;
  const CostTable& costs_;
  const Execution& execution_;
  const LayerBody body_;
  std::vector<Picoseconds> backward_of_op_;
  LayerPrice price_;
};

}  // namespace

Surroundings surroundings_of(const Cluster& cluster, const StagePlan& stage) {
  Surroundings around;
  around.mesh = stage.mesh;
  for (const int device : stage.devices) {
    around.device_types.push_back(cluster.type_of(device));
  }
  std::sort(around.device_types.begin(), around.device_types.end());
  around.device_types.erase(std::unique(around.device_types.begin(), around.device_types.end()),
                            around.device_types.end());
  for (unsigned axes = 0; axes < around.placements.size(); ++axes) {
    around.placements[axes] = placement_of(cluster, stage.devices, stage.mesh, axes);
  }
  return around;
}

LayerPrice price_layer(const Block& block,
                       const LayerPlan& plan,
                       const Layout& output_layout,
                       Precision precision,
                       const Surroundings& surroundings,
                       const std::vector<ParameterRole>& roles,
                       const CostTable& costs) {
  return LayerPricer(block, plan, output_layout, precision, surroundings, roles, costs).price();
}

}  // namespace shardwise::internal
