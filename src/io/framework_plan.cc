#include "io/framework_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/errors.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

enum class Role { kNone, kData, kContext, kTensor };

std::string axis_of(const Op& op, const AxisAssignment& assignment, int m) {
  const int axis = assignment[at(m)];
  return axis == kUnassigned ? "" : op.axes[at(axis)].name;
}

bool has_axis(const Op& op, const char* name) { return axis_index(op, name) >= 0; }

class Reader {
 public:
  Reader(const Plan& plan, const Graph& graph, const std::string& where)
      : plan_(plan), graph_(graph), where_(where), mesh_(plan.stages[0].mesh) {}

  FrameworkPlan read() {
    check_stages();
    find_roles();
    for (int layer = 0; layer < num_layers(); ++layer) {
      read_layer(layer);
    }
    read_modes();
    read_layers();
    result_.sequence_parallel = is_sequence_parallel_.value_or(false);
    result_.pipeline = plan_.num_stages();
    result_.chunks = plan_.num_chunks();
    result_.schedule = plan_.schedule;
    result_.precision = plan_.precision;
    result_.batch = plan_.batch;
    result_.sequence = plan_.sequence;
    result_.num_microbatches = plan_.num_microbatches;
    result_.micro = plan_.microbatch() / result_.data;
    return result_;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(where_, what + "; other frameworks have one layout for all layers");
  }

  int num_layers() const { return static_cast<int>(graph_.layers.size()); }
  const std::string& name_of(int layer) const { return graph_.layers[at(layer)].name; }

  void check_stages() const {
    if (num_layers() < 3 || name_of(0) != "embedding" || name_of(num_layers() - 1) != "head") {
      throw InputError(where_,
                       fmt::format("expected a model of embedding, layers and head, found {}, "
                                   "which only Shardwise can lay out",
                                   graph_.model_type));
    }
    int device = 0;
    for (const StagePlan& stage : plan_.stages) {
      if (stage.mesh != mesh_) {
        fail(fmt::format("expected stages that are alike, found meshes {} and {}",
                         to_string(mesh_),
                         to_string(stage.mesh)));
      }
      for (const int used : stage.devices) {
        if (used != device++) {
          fail(fmt::format("expected stages on consecutive ranks, found rank {} in place of {}",
                           used,
                           device - 1));
        }
      }
    }
  }

  // Read off the attention of the first layer.
  void find_roles() {
    roles_[kDataAxis] = Role::kData;
    result_.data = mesh_.sizes[kDataAxis];
    const Block& block = graph_.block_of(1);
    const LayerPlan& chosen = layer_plan(plan_, place_of(plan_, 1));
    for (int o = 0; o < static_cast<int>(block.ops.size()); ++o) {
      if (!is_sequence_attention(block.ops[at(o)].kind)) {
        continue;
      }
      for (int m = 1; m < kMeshAxes; ++m) {
        if (mesh_.sizes[at(m)] > 1) {
          set_role(m, axis_of(block.ops[at(o)], chosen.op_axes[at(o)], m), block.ops[at(o)].name);
        }
      }
    }
    for (int m = 1; m < kMeshAxes; ++m) {
      if (mesh_.sizes[at(m)] > 1 && roles_[at(m)] == Role::kNone) {
        fail("expected a model with attention");
      }
      if (roles_[at(m)] == Role::kContext && roles_[at(m - 1)] == Role::kTensor) {
        fail("expected tensor ranks inside of context ranks, found the opposite");
      }
      if (roles_[at(m)] == Role::kData && roles_[at(m - 1)] != Role::kData) {
        fail("expected data ranks outside of the others, found the opposite");
      }
    }
  }

  void set_role(int m, const std::string& axis, const std::string& op) {
    const int size = mesh_.sizes[at(m)];
    if (axis == "s") {
      roles_[at(m)] = Role::kContext;
      result_.context *= size;
    } else if (axis == "n" || axis == "r") {
      roles_[at(m)] = Role::kTensor;
      result_.tensor *= size;
    } else if (axis == "b") {
      roles_[at(m)] = Role::kData;
      result_.data *= size;
    } else {
      fail(fmt::format("expected heads, sequence or batch to be sharded in {}, found \"{}\"",
                       op,
                       axis.empty() ? "nothing" : axis));
    }
  }

  void read_layer(int layer) {
    const Block& block = graph_.block_of(layer);
    const LayerPlan& chosen = layer_plan(plan_, place_of(plan_, layer));
    for (int o = 0; o < static_cast<int>(block.ops.size()); ++o) {
      for (int m = 0; m < kMeshAxes; ++m) {
        if (mesh_.sizes[at(m)] > 1) {
          check_axis(
              layer, block.ops[at(o)], axis_of(block.ops[at(o)], chosen.op_axes[at(o)], m), m);
        }
      }
    }
  }

  void check_axis(int layer, const Op& op, const std::string& axis, int m) {
    const auto expect = [&](bool holds, const std::string& expected) {
      if (!holds) {
        fail(fmt::format("{}: expected {} to shard {}, found {}",
                         name_of(layer),
                         op.name,
                         expected,
                         axis.empty() ? "nothing" : axis));
      }
    };
    const bool is_experts = op.kind == OpKind::kExperts;
    switch (roles_[at(m)]) {
      case Role::kData:
        if (is_experts && axis == "xb") {
          exchange(m, layer);
        } else {
          expect(axis == "b", "the batch");
        }
        break;
      case Role::kContext:
        expect(axis == "s", "the sequence");
        break;
      case Role::kTensor:
        if (is_experts && (axis == "e" || axis == "f")) {
          if (axis == "e") {
            exchange(m, layer);
          }
        } else if (has_axis(op, "v") || has_axis(op, "f")) {
          expect(axis == "v" || axis == "f", "features");
        } else if (has_axis(op, "n")) {
          expect(axis == "n" || axis == "r", "heads");
        } else {
          expect(axis.empty() || axis == "s", "the sequence or nothing");
          const bool shards = axis == "s";
          if (is_sequence_parallel_.value_or(shards) != shards) {
            fail(fmt::format(
                "{}: {} shards the sequence unlike other ops", name_of(layer), op.name));
          }
          is_sequence_parallel_ = shards;
        }
        break;
      case Role::kNone:
        break;
    }
  }

  // Mesh axis `m` spreads experts, in every layer with experts.
  void exchange(int m, int layer) {
    if (expert_axes_[at(m)] == 0) {
      result_.expert *= mesh_.sizes[at(m)];
      for (int before = 1; before < layer; ++before) {
        if (graph_.layers[at(before)].block == graph_.layers[at(layer)].block) {
          fail(
              fmt::format("{} spreads experts otherwise than {}", name_of(before), name_of(layer)));
        }
      }
    }
    ++expert_axes_[at(m)];
  }

  void read_modes() {
    const LayerPlan& first = layer_plan(plan_, place_of(plan_, 1));
    for (int layer = 0; layer < num_layers(); ++layer) {
      const LayerPlan& chosen = layer_plan(plan_, place_of(plan_, layer));
      const bool is_end = layer == 0 || layer + 1 == num_layers();
      if (chosen.state_sharding != first.state_sharding) {
        fail(fmt::format("{} shards state {}, layer.0 {}",
                         name_of(layer),
                         to_string(chosen.state_sharding),
                         to_string(first.state_sharding)));
      }
      // Frameworks keep what embedding and head need; making it again is theirs to leave out.
      if (!is_end && chosen.recompute != first.recompute) {
        fail(fmt::format("{} recomputes {}, layer.0 {}",
                         name_of(layer),
                         to_string(chosen.recompute),
                         to_string(first.recompute)));
      }
    }
    if (first.recompute == Recompute::kSelective) {
      fail(
          "selective recomputation here makes norms and activations again, a choice of modules "
          "that no other framework has; plan with --forbid recompute=selective");
    }
    result_.recomputes = first.recompute == Recompute::kFull;
    result_.zero = static_cast<int>(first.state_sharding);
  }

  void read_layers() {
    for (int c = 0; c < plan_.num_chunks(); ++c) {
      for (const StagePlan& stage : plan_.stages) {
        const ChunkPlan& chunk = stage.chunks[at(c)];
        int decoders = 0;
        for (int layer = chunk.first_layer; layer < chunk.end_layer(); ++layer) {
          decoders += layer > 0 && layer + 1 < num_layers() ? 1 : 0;
        }
        result_.layers.push_back(decoders);
      }
    }
  }

  const Plan& plan_;
  const Graph& graph_;
  const std::string& where_;
  const Mesh mesh_;
  std::array<Role, kMeshAxes> roles_{};
  std::array<int, kMeshAxes> expert_axes_{};
  std::optional<bool> is_sequence_parallel_;
  FrameworkPlan result_;
};

}  // namespace

bool FrameworkPlan::is_even() const {
  return std::all_of(layers.begin(), layers.end(), [&](int count) { return count == layers[0]; });
}

FrameworkPlan describe_for_frameworks(const Plan& plan,
                                      const Graph& graph,
                                      const std::string& where) {
  return Reader(plan, graph, where).read();
}

}  // namespace shardwise
