#include "graph/framework_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/errors.h"

namespace shardwise {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// kTensor: key/value heads, features, vocabulary; kQueries: the same, but the queries of each
// key/value head instead of heads.
enum class Role { kNone, kData, kContext, kTensor, kQueries };

bool is_tensor(Role role) { return role == Role::kTensor || role == Role::kQueries; }

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
    check_experts();
    check_boundaries();
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
    if (!is_one_stack(graph_)) {
      throw InputError(where_,
                       fmt::format("expected a model of embedding, one stack of layers and head, "
                                   "found {}, which only Shardwise can lay out",
                                   graph_.model_type));
    }
    int device = plan_.stages[0].devices[0];
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
      const Op& op = block.ops[at(o)];
      result_.key_value_heads = has_axis(op, "n") ? op.axes[at(axis_index(op, "n"))].size : 1;
      for (int m = 1; m < kMeshAxes; ++m) {
        if (mesh_.sizes[at(m)] > 1) {
          set_role(m, axis_of(op, chosen.op_axes[at(o)], m), op.name);
        }
      }
    }
    for (int m = 1; m < kMeshAxes; ++m) {
      if (mesh_.sizes[at(m)] > 1 && roles_[at(m)] == Role::kNone) {
        fail("expected a model with attention");
      }
      if (roles_[at(m)] == Role::kContext && is_tensor(roles_[at(m - 1)])) {
        fail("expected tensor ranks inside of context ranks, found the opposite");
      }
      if (roles_[at(m)] == Role::kTensor && roles_[at(m - 1)] == Role::kQueries) {
        fail("expected the queries of a head on neighbouring ranks, found other heads between");
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
      roles_[at(m)] = axis == "n" ? Role::kTensor : Role::kQueries;
      result_.tensor *= size;
      result_.head_shards *= axis == "n" ? size : 1;
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
    const Role role = roles_[at(m)];
    if (op.kind == OpKind::kExperts && role != Role::kContext) {
      const bool fits =
          role == Role::kData ? axis == "b" || axis == "xb" : axis == "e" || axis == "f";
      expect(fits, role == Role::kData ? "the batch" : "experts or their features");
      std::string& spread = expert_axes_[at(m)];
      if (!spread.empty() && spread != axis) {
        fail(fmt::format("{} spreads experts otherwise than layers before it", name_of(layer)));
      }
      spread = axis;
    } else if (role == Role::kData) {
      expect(axis == "b", "the batch");
    } else if (role == Role::kContext) {
      expect(axis == "s", "the sequence");
    } else if (has_axis(op, "v") || has_axis(op, "f")) {
      expect(axis == "v" || axis == "f", "features");
    } else if (has_axis(op, "n")) {
      // Keys and values of one head serve all its queries.
      const std::string shards = role == Role::kTensor ? "n" : has_axis(op, "r") ? "r" : "";
      expect(axis == shards,
             role == Role::kTensor ? "heads"
             : shards.empty()      ? "nothing"
                                   : "queries of a head");
    } else {
      expect(axis.empty() || axis == "s", "the sequence or nothing");
      const bool shards = axis == "s";
      if (is_sequence_parallel_.value_or(shards) != shards) {
        fail(fmt::format("{}: {} shards the sequence unlike other ops", name_of(layer), op.name));
      }
      is_sequence_parallel_ = shards;
    }
  }

  // From the innermost rank outwards: those that share an expert, those among which experts are
  // spread, those that repeat them.
  void check_experts() {
    enum { kShare, kSpread, kRepeat } place = kShare;
    for (int m = kMeshAxes - 1; m >= 0; --m) {
      const std::string& axis = expert_axes_[at(m)];
      const int size = mesh_.sizes[at(m)];
      if (size == 1) {
        continue;
      }
      const auto now = axis == "f" ? kShare : axis == "e" || axis == "xb" ? kSpread : kRepeat;
      if (now < place) {
        fail("expected experts on neighbouring ranks, found other ranks between them");
      }
      place = now;
      result_.expert *= now == kSpread ? size : 1;
      result_.expert_tensor *= now == kShare ? size : 1;
    }
  }

  // Between layers: sharded as norms and residual adds are.
  void check_boundaries() const {
    Layout natural{};
    for (int m = 0; m < kMeshAxes; ++m) {
      if (roles_[at(m)] == Role::kData && mesh_.sizes[at(m)] > 1) {
        natural[at(m)] = AxisLayout::shard(0);
      } else if (roles_[at(m)] == Role::kContext ||
                 (is_tensor(roles_[at(m)]) && is_sequence_parallel_.value_or(false))) {
        natural[at(m)] = AxisLayout::shard(1);
      }
    }
    const auto check = [&](const Layout& layout, const std::string& place) {
      if (layout != natural) {
        fail(fmt::format("{}: expected its tensor as {}, found {}",
                         place,
                         to_string(natural),
                         to_string(layout)));
      }
    };
    for (int layer = 1; layer < num_layers(); ++layer) {
      check(layer_plan(plan_, place_of(plan_, layer)).input_layout, "before " + name_of(layer));
    }
    for (const StagePlan& stage : plan_.stages) {
      for (const ChunkPlan& chunk : stage.chunks) {
        if (chunk.end_layer() < num_layers()) {
          check(chunk.output_layout, "behind " + name_of(chunk.end_layer() - 1));
        }
      }
    }
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
  std::array<std::string, kMeshAxes> expert_axes_;  // what of the experts a mesh axis shards
  std::optional<bool> is_sequence_parallel_;
  FrameworkPlan result_;
};

}  // namespace

bool is_one_stack(const Graph& graph) {
  const std::vector<Layer>& layers = graph.layers;
  return layers.size() >= 3 && layers.front().name == "embedding" && layers.back().name == "head" &&
         std::all_of(layers.begin() + 1, layers.end() - 1, [](const Layer& layer) {
           return layer.name.starts_with("layer.");
         });
}

bool FrameworkPlan::is_even() const {
  return std::all_of(layers.begin(), layers.end(), [&](int count) { return count == layers[0]; });
}

FrameworkPlan describe_for_frameworks(const Plan& plan,
                                      const Graph& graph,
                                      const std::string& where) {
  return Reader(plan, graph, where).read();
}

}  // namespace shardwise
