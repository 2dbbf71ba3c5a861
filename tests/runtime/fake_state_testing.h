// A rank's state made of numbers that say where they belong: value of (parameter, kind, global
// index) is a function of these alone, so a checkpoint loaded under any plan can be checked number
// by number.
#pragma once

#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <bit>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "lower/lower.h"
#include "runtime/training_state.h"

namespace shardwise::testing {

class FakeState final : public TrainingState {
 public:
  static constexpr float kUntouched = -7;

  FakeState(const Plan& plan, const Graph& graph, int rank) : program_(lower(plan, graph, rank)) {
    for (const LocalParameter& p : program_.parameters) {
      const std::int64_t share = p.state_sharding == StateSharding::kNone ? p.elements : p.chunk;
      const std::int64_t first = share == p.elements ? 0 : p.index_in_group * p.chunk;
      const bool is_shared_out = p.state_sharding == StateSharding::kParameters;
      std::map<StateValues, HeldValues>& mine = held_.emplace_back();
      const at::ScalarType compute =
          precision() == Precision::kFloat32 ? at::kFloat : at::kBFloat16;
      mine[StateValues::kWeight] =
          is_shared_out ? make(share, first, compute) : make(p.elements, 0, compute);
      if (!p.has_optimizer_state()) {
        continue;
      }
      mine[StateValues::kFirstMoment] = make(share, first, at::kFloat);
      mine[StateValues::kSecondMoment] = make(share, first, at::kFloat);
      if (compute != at::kFloat) {
        mine[StateValues::kMaster] = make(share, first, at::kFloat);
      }
    }
  }

  const std::vector<LocalParameter>& parameters() const override { return program_.parameters; }
  Precision precision() const override { return program_.precision; }
  HeldValues held(int parameter, StateValues which) override {
    return held_[static_cast<std::size_t>(parameter)][which];
  }
  TrainingProgress progress() const override { return progress_; }
  void set_progress(const TrainingProgress& progress) override { progress_ = progress; }

  // The number that belongs there. Aliases have their owner's: `name` is the owner's.
  static float number(const std::string& name,
                      StateValues which,
                      std::int64_t index,
                      int generation) {
    std::uint64_t z = static_cast<std::uint64_t>(index) * 4 + static_cast<std::uint64_t>(which);
    // A weight is its master.
    z -= which == StateValues::kMaster ? 1 : 0;
    for (const char c : name) {
      z = (z ^ static_cast<std::uint64_t>(c)) * 0x9e3779b97f4a7c15u;
    }
    z += static_cast<std::uint64_t>(generation) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 31)) * 0x94d049bb133111ebu;
    // Positive, between 2^-7 and 2, every bit of the mantissa in use.
    return std::bit_cast<float>(static_cast<std::uint32_t>(0x3c000000u + (z >> 38)));
  }

  // Sets every number, or counts those that differ; padding stays untouched. `generation` tells
  // checkpoints apart.
  void fill(const Graph& graph, int generation) {
    visit(graph, [&](float& value, StateValues which, const std::string& name, std::int64_t i) {
      value = number(name, which, i, generation);
    });
  }
  // With `only_weights`: moments are untouched.
  std::int64_t count_wrong(const Graph& graph, int generation, bool only_weights = false) {
    std::int64_t wrong = 0;
    visit(graph, [&](float& value, StateValues which, const std::string& name, std::int64_t i) {
      const bool is_moment =
          which == StateValues::kFirstMoment || which == StateValues::kSecondMoment;
      float expected = only_weights && is_moment ? kUntouched : number(name, which, i, generation);
      if (which == StateValues::kWeight && precision() == Precision::kBFloat16) {
        expected = static_cast<float>(static_cast<c10::BFloat16>(expected));
      }
      wrong += std::bit_cast<std::uint32_t>(value) != std::bit_cast<std::uint32_t>(expected);
    });
    return wrong;
  }

 private:
  static HeldValues make(std::int64_t count, std::int64_t begin, at::ScalarType type) {
    return {at::full({count}, kUntouched, type), begin};
  }

  // Calls see(number, kind, name of the owner, global index) for all that is no padding.
  template <typename Visitor>
  void visit(const Graph& graph, const Visitor& see) {
    for (std::size_t p = 0; p < program_.parameters.size(); ++p) {
      const LocalParameter& local = program_.parameters[p];
      const std::string name = name_of_owner(graph, local);
      for (auto& [which, held] : held_[p]) {
        if (!held.values.defined()) {
          continue;
        }
        const at::Tensor wide = held.values.to(at::kFloat);  // itself, if fp32
        for (std::int64_t i = 0; i < wide.numel(); ++i) {
          const std::int64_t global = global_index(local, held.begin + i);
          float& value = wide.mutable_data_ptr<float>()[i];
          if (global >= 0) {
            see(value, which, name, global);
          } else {
            EXPECT_EQ(value, kUntouched) << "padding of " << name;
          }
        }
        held.values.copy_(wide);
      }
    }
  }

  static std::string name_of_owner(const Graph& graph, const LocalParameter& local) {
    const ParameterPlace place{local.layer, local.op, local.index};
    const TiedParameter* tied = tied_as_alias(graph, place);
    if (tied == nullptr) {
      return local.name;
    }
    return graph.layers[static_cast<std::size_t>(tied->owner_layer)].prefix +
           graph.block_of(tied->owner_layer)
               .tensors[static_cast<std::size_t>(tied->owner_tensor)]
               .name;
  }

  // -1: padding.
  static std::int64_t global_index(const LocalParameter& local, std::int64_t rest) {
    if (rest >= local.elements) {
      return -1;
    }
    std::int64_t global = 0;
    std::int64_t stride = 1;
    for (std::size_t d = local.shape.size(); d-- > 0;) {
      const std::int64_t index = local.box.begin[d] + rest % local.shape[d];
      if (index >= local.box.end[d]) {
        return -1;
      }
      rest /= local.shape[d];
      global += index * stride;
      stride *= local.global_shape[d];
    }
    return global;
  }

  Program program_;
  TrainingProgress progress_;
  std::vector<std::map<StateValues, HeldValues>> held_;
};

}  // namespace shardwise::testing
