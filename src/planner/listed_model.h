// A ListedProblem as the search sees it. Boundary states: with n layouts, input i < n continues the
// stage after a layer that ended in layout i, input n + i begins a stage in layout i. Reshards are
// part of the option behind them, so each listed option stands once for each layout it may follow.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "planner/listed_problem.h"
#include "planner/problem.h"

namespace shardwise::planning {

class ListedOptions final : public BlockOptions {
 public:
  ListedOptions(int num_layouts, std::vector<Option> options, const Deadline& deadline);

  int num_inputs() const override { return 2 * num_layouts_; }
  int num_outputs() const override { return num_layouts_; }
  int first_entry() const override { return num_layouts_; }
  std::int64_t input_bytes(int) const override { return 0; }
  std::int64_t output_bytes(int) const override { return 0; }
  bool may_save_output() const override { return false; }
  BlockBound bound(const Weights& weights) override;
  std::optional<Option> minimiser(const Weights& weights, int mode, int input, int output) override;
  OptionSet find(const Weights& weights, const Matrix& limit, const Criteria& criteria) override;
  std::int64_t least_transient() override;
  std::int64_t exact_transient(const Option& option) const override { return option.transient; }

 private:
  const int num_layouts_;
  std::vector<Option> options_;  // by (input, output)
  const Deadline& deadline_;
};

class ListedModel final : public Problem {
 public:
  // Throws InputError (listed_problem.h).
  ListedModel(const ListedProblem& problem, const Deadline& deadline);

  ListedPlan plan_of(const PipelineSolution& solution) const;

  const Deadline& deadline() const override { return deadline_; }
  int num_microbatches() const override { return problem_.num_microbatches; }
  int num_layers() const override { return static_cast<int>(problem_.layers.size()); }
  int block_of(int layer) const override { return blocks_[static_cast<std::size_t>(layer)]; }
  bool is_tied() const override { return false; }
  const StagePlaces& places() const override { return *places_; }
  int max_stage_devices() const override { return 0; }
  const std::vector<int>& shapes_at(const StagePlace& place) override;
  std::int64_t memory_limit(int shape) const override;
  BlockOptions& options(int shape, int layer, TieCase tie) override;
  Transfer transfer(int layer, const StageEnd& sender, const StageEnd& receiver) override;
  std::int64_t tie_exchange(const StageEnd&,
                            const Option&,
                            const StageEnd&,
                            const Option&) override {
    return 0;
  }
  std::int64_t step_overhead(int) override { return problem_.overhead.count; }
  std::int64_t least_overhead(int) override { return problem_.overhead.count; }

 private:
  void check() const;
  std::vector<Option> compose(int mesh, int block, int before) const;

  const ListedProblem& problem_;
  const Deadline& deadline_;
  int num_layouts_ = 1;
  std::unique_ptr<StagePlaces> places_;
  std::vector<int> blocks_;                                 // of layers: number of (before, block)
  std::map<std::pair<int, int>, std::vector<int>> shapes_;  // by (type, devices)
  std::map<std::pair<int, int>, std::unique_ptr<ListedOptions>> options_;  // by (mesh, number)
};

}  // namespace shardwise::planning
