// Layout conversions: which collectives turn one layout into another (graph/layout.h).
//
// Each changing mesh axis is one step. Several mesh axes may shard one dimension, the lower one
// major: a step of a major axis that touches dimension d is contiguous only while no minor axis
// shards d. So a step must wait (a) while a more minor axis shards one of its dimensions, and a
// step that begins to shard d must wait (b) while a more major pending step touches d. If all wait,
// the most minor sharding axis in the way is gathered and sliced again at the end.

#include <algorithm>
#include <optional>

#include "core/errors.h"
#include "graph/layout.h"

namespace shardwise {

namespace {

using Kind = AxisLayout::Kind;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Least data first: reduce-scatter and slice shrink, all-gather grows.
int order_of(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::kReduceScatter:
      return 0;
    case CollectiveKind::kSlice:
      return 1;
    case CollectiveKind::kAllToAll:
      return 2;
    case CollectiveKind::kAllReduce:
      return 3;
    case CollectiveKind::kAllGather:
      return 4;
  }
  return 5;
}

std::optional<CollectiveStep> step_between(const AxisLayout& from, const AxisLayout& to, int axis) {
  if (from == to) {
    return std::nullopt;
  }
  CollectiveStep step;
  step.mesh_axis = axis;
  SHARDWISE_CHECK(to.kind != Kind::kPartial, "a whole tensor is never made partial");
  if (from.kind == Kind::kShard && to.kind == Kind::kShard) {
    step.kind = CollectiveKind::kAllToAll;
    step.dim = from.dim;
    step.to_dim = to.dim;
  } else if (from.kind == Kind::kShard) {
    step.kind = CollectiveKind::kAllGather;
    step.dim = from.dim;
  } else if (from.kind == Kind::kPartial) {
    step.kind =
        to.kind == Kind::kShard ? CollectiveKind::kReduceScatter : CollectiveKind::kAllReduce;
    step.dim = to.kind == Kind::kShard ? to.dim : -1;
  } else {
    step.kind = CollectiveKind::kSlice;
    step.dim = to.dim;
  }
  return step;
}

bool touches(const CollectiveStep& step, int dim) {
  return dim >= 0 && (step.dim == dim || step.to_dim == dim);
}

int shards_anew(const CollectiveStep& step) {
  switch (step.kind) {
    case CollectiveKind::kAllToAll:
      return step.to_dim;
    case CollectiveKind::kReduceScatter:
    case CollectiveKind::kSlice:
      return step.dim;
    default:
      return -1;
  }
}

// Mesh axis > step.mesh_axis that shards a dimension the step touches, the most minor, or -1.
int blocking_minor(const CollectiveStep& step, const Layout& current) {
  for (int m = kMeshAxes - 1; m > step.mesh_axis; --m) {
    if (current[at(m)].kind == Kind::kShard && touches(step, current[at(m)].dim)) {
      return m;
    }
  }
  return -1;
}

class Conversion {
 public:
  Conversion(const std::vector<std::int64_t>& shape,
             const Layout& from,
             const Layout& to,
             const Mesh& mesh)
      : shape_(shape), current_(from), to_(to), mesh_(mesh) {}

  std::vector<CollectiveStep> steps() {
    while (current_ != to_) {
      if (const std::optional<CollectiveStep> next = next_allowed()) {
        apply(*next, to_[at(next->mesh_axis)]);
      } else {
        gather_most_minor_blocker();
      }
    }
    return std::move(steps_);
  }

 private:
  std::vector<CollectiveStep> pending() const {
    std::vector<CollectiveStep> all;
    for (int m = 0; m < kMeshAxes; ++m) {
      if (const auto step = step_between(current_[at(m)], to_[at(m)], m)) {
        all.push_back(*step);
      }
    }
    return all;
  }

  std::optional<CollectiveStep> next_allowed() const {
    const std::vector<CollectiveStep> all = pending();
    std::optional<CollectiveStep> best;
    for (const CollectiveStep& step : all) {
      const int dim = shards_anew(step);
      const bool must_wait_for_major =
          std::any_of(all.begin(), all.end(), [&](const CollectiveStep& major) {
            return major.mesh_axis < step.mesh_axis && touches(major, dim);
          });
      if (blocking_minor(step, current_) >= 0 || must_wait_for_major) {
        continue;
      }
      if (!best || order_of(step.kind) < order_of(best->kind)) {
        best = step;
      }
    }
    return best;
  }

  void gather_most_minor_blocker() {
    int blocker = -1;
    for (const CollectiveStep& step : pending()) {
      blocker = std::max(blocker, blocking_minor(step, current_));
    }
    SHARDWISE_CHECK(blocker >= 0, "a conversion makes progress");
    CollectiveStep gather;
    gather.kind = CollectiveKind::kAllGather;
    gather.mesh_axis = blocker;
    gather.dim = current_[at(blocker)].dim;
    apply(gather, AxisLayout::replicate());
  }

  void apply(CollectiveStep step, const AxisLayout& result) {
    step.elements_before = element_count(local_shape(shape_, current_, mesh_));
    current_[at(step.mesh_axis)] = result;
    step.elements_after = element_count(local_shape(shape_, current_, mesh_));
    steps_.push_back(step);
  }

  const std::vector<std::int64_t>& shape_;
  Layout current_;
  const Layout& to_;
  const Mesh& mesh_;
  std::vector<CollectiveStep> steps_;
};

}  // namespace

Bytes collective_payload(const CollectiveStep& step, const Mesh& mesh, std::int64_t element_bytes) {
  const std::int64_t n = mesh.sizes[at(step.mesh_axis)];
  switch (step.kind) {
    case CollectiveKind::kAllGather:
      return Bytes(step.elements_after * element_bytes);
    case CollectiveKind::kReduceScatter:
    case CollectiveKind::kAllToAll:
      return Bytes(step.elements_before * element_bytes);
    case CollectiveKind::kAllReduce:
      return Bytes(2 * ((step.elements_before + n - 1) / n) * n * element_bytes);
    case CollectiveKind::kSlice:
      return Bytes(0);
  }
  return Bytes(0);
}

bool is_convertible(const std::vector<std::int64_t>& shape,
                    const Layout& from,
                    const Layout& to,
                    const Mesh& mesh) {
  if (from == to) {
    return true;
  }
  for (const Layout* layout : {&from, &to}) {
    for (std::size_t d = 0; d < shape.size(); ++d) {
      std::int64_t degree = 1;
      for (int m = 0; m < kMeshAxes; ++m) {
        degree *=
            (*layout)[at(m)] == AxisLayout::shard(static_cast<int>(d)) ? mesh.sizes[at(m)] : 1;
      }
      if (shape[d] % degree != 0) {
        return false;
      }
    }
  }
  return true;
}

std::vector<CollectiveStep> conversion_steps(const std::vector<std::int64_t>& shape,
                                             const Layout& from,
                                             const Layout& to,
                                             const Mesh& mesh) {
  return Conversion(shape, from, to, mesh).steps();
}

std::string to_string(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::kAllGather:
      return "all-gather";
    case CollectiveKind::kReduceScatter:
      return "reduce-scatter";
    case CollectiveKind::kAllReduce:
      return "all-reduce";
    case CollectiveKind::kAllToAll:
      return "all-to-all";
    case CollectiveKind::kSlice:
      return "slice";
  }
  return "unknown";
}

}  // namespace shardwise
