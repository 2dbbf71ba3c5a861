// How the builder of blocks spells dimensions with loop axes. For src/graph/block_builder*.cc only.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "graph/op.h"

namespace shardwise::builder {

inline std::size_t at(int index) { return static_cast<std::size_t>(index); }

inline LoopAxis whole(LoopAxis axis) {
  axis.sharding = AxisSharding::kNever;
  return axis;
}

inline std::vector<LoopAxis> joined(std::vector<LoopAxis> first,
                                    const std::vector<LoopAxis>& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

inline std::vector<std::int64_t> shape_of(const std::vector<LoopAxis>& axes) {
  std::vector<std::int64_t> shape;
  shape.reserve(axes.size());
  for (const LoopAxis& axis : axes) {
    shape.push_back(axis.size);
  }
  return shape;
}

// Collects the loop axes of one op by name.
class OpAxes {
 public:
  int index(const LoopAxis& axis) {
    for (std::size_t a = 0; a < axes_.size(); ++a) {
      if (axes_[a].name == axis.name) {
        SHARDWISE_CHECK(axes_[a].size == axis.size, "axis " + axis.name + " has two sizes");
        return static_cast<int>(a);
      }
    }
    axes_.push_back(axis);
    return static_cast<int>(axes_.size()) - 1;
  }

  std::vector<std::vector<int>> dims(const std::vector<LoopAxis>& axes) {
    std::vector<std::vector<int>> result;
    result.reserve(axes.size());
    for (const LoopAxis& axis : axes) {
      result.push_back({index(axis)});
    }
    return result;
  }

  std::vector<LoopAxis> take() { return std::move(axes_); }

 private:
  std::vector<LoopAxis> axes_;
};

}  // namespace shardwise::builder
