// Bounds of all runs of layers that a stage may take, by class of places: what relaxations choose
// from. Kept, for pipelines of any number of stages share them.
#pragma once

#include <map>
#include <tuple>
#include <vector>

#include "planner/pipeline_space.h"

namespace shardwise::planning {

class RunBounds {
 public:
  // Which end of the chain the runs hold.
  enum class Runs { kWhole, kFirst, kLast, kInner };

  struct Item {
    double value = 0;  // of the run's layers, added up
    double cost = 0;   // bound on the stage's time + step_weight * per_step
    int begin = 0;
    int end = 0;
  };
  // Runs on a class of places.
  struct Choice {
    const PlaceClass* place = nullptr;
    std::vector<Item> items;  // by value; costs rise with it
    std::vector<Item> hull;   // lower hull of cost over value, of the first `num_below` items
    std::size_t num_below = 0;
    std::vector<StageSearch::Family*> families;  // of the place's shapes
    std::size_t changes = 0;                     // of the families, when the items were found
  };

  // `layer_work`: the value of every layer of the chain, above zero. `shape`: of any pipeline whose
  // stages take these runs. All must outlive it.
  RunBounds(Problem& problem,
            StageSearch& stages,
            const std::vector<PlaceClass>& classes,
            const std::vector<double>& layer_work,
            const PipelineShape& shape);

  double value_of(int begin, int end) const {
    return values_before_[static_cast<std::size_t>(end)] -
           values_before_[static_cast<std::size_t>(begin)];
  }
  double value_of_all() const { return values_before_.back(); }

  // As StageSearch knows them now; runs that cannot fit are left out, and so are those that another
  // one beats: no less value, no more cost. Valid until the next call for the same arguments.
  std::vector<Choice>& of(Runs runs, int in_flight, double step_weight);
  // Makes the hull that of the runs that cost at most `most`.
  static void keep_below(double most, Choice& choice);

 private:
  std::vector<std::pair<int, int>> find_runs(Runs runs) const;
  std::vector<Choice> new_choices(int in_flight, double step_weight);
  void find_items(Choice& choice, const std::vector<std::pair<int, int>>& runs);

  Problem& problem_;
  StageSearch& stages_;
  const std::vector<PlaceClass>& classes_;
  const PipelineSpace space_;
  std::vector<double> values_before_;  // sum of the layers' values up to a layer
  std::map<Runs, std::vector<std::pair<int, int>>> runs_;
  std::map<std::tuple<Runs, int, double>, std::vector<Choice>> choices_;
};

}  // namespace shardwise::planning
