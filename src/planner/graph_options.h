// Options of a layer of a graph, by its ops (option_search.h).
#pragma once

#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "planner/option_search.h"
#include "planner/problem.h"

namespace shardwise::planning {

class GraphOptions final : public BlockOptions {
 public:
  // `modes`: all of them; `fastest_modes`: those that could be fastest if memory were free.
  GraphOptions(const BlockCosts& costs,
               EliminationPool& pool,
               std::vector<Mode> modes,
               std::vector<Mode> fastest_modes,
               bool may_save_output);

  int num_inputs() const override { return static_cast<int>(costs_.inputs().size()); }
  int num_outputs() const override { return static_cast<int>(costs_.outputs().size()); }
  std::int64_t input_bytes(int input) const override { return costs_.input_bytes(input); }
  std::int64_t output_bytes(int output) const override { return costs_.output_bytes(output); }
  bool may_save_output() const override { return may_save_output_; }
  BlockBound bound(const Weights& weights) override;
  std::optional<Option> minimiser(const Weights& weights, int mode, int input, int output) override;
  OptionSet find(const Weights& weights, const Matrix& limit, const Criteria& criteria) override;
  std::int64_t least_transient() override;
  std::int64_t exact_transient(const Option& option) const override;

 private:
  const std::vector<Mode>& modes_for(bool uses_memory) const {
    return uses_memory ? modes_ : fastest_modes_;
  }

  const BlockCosts& costs_;
  BlockRelaxation relaxation_;
  std::map<Weights, BlockBound> bounds_;
  std::map<std::tuple<Mode, int, int, std::vector<int>>, std::optional<Option>> minimisers_;
  const std::vector<Mode> modes_;
  const std::vector<Mode> fastest_modes_;
  const bool may_save_output_;
  std::int64_t most_saved_behind(int op) const;

  std::int64_t least_transient_ = -1;  // not yet known
};

}  // namespace shardwise::planning
