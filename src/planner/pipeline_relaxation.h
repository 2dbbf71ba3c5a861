// Whether a pipeline can be faster than a given time at all: an aggregated bound, without walking
// through layers and devices.
//
// In the terms of pipeline_search.h a plan below C has max_i c_i <= t for
//   t = C / m, and again for t = (C - S(t)) / (m - 1),      (interleaved: t = C / rounds)
// where S(t) is at most the least sum of c_i over plans with all c_i <= t. For any l >= 0 and
// u_type >= 0,
//   S(t) = l V - sum_type u_type N_type + sum_i min { c - l v + u_type d : stage i, c <= t }
// for stages share the layers' values (sum v = V) and the devices (sum d <= N): a Lagrangian bound.
// Dearer and sharper, with stages placed one behind the other instead of a price for devices:
//   S(t) = l V + min over placements { sum_i min { c - l v : stage i on its place, c <= t } }
// by a dynamic programme over the devices taken.
// If S(t) > P t, no plan keeps all its stages below t.
#pragma once

#include <utility>
#include <vector>

#include "planner/run_bounds.h"

namespace shardwise::planning {

// How closely a relaxation looks at the micro-batches in flight. kOne: as if one; kRounded: down to
// a power of two or 1.5 times one, which many stages share. Fewer hold less: both are bounds.
enum class InFlight { kOne, kRounded, kExact };

// Whether devices have a price, or stages are placed on them.
enum class Devices { kPriced, kPlaced };

class PipelineRelaxation {
 public:
  // The bound is sharpest if the values of `runs` are about devices x time. All must outlive it.
  PipelineRelaxation(Problem& problem,
                     StageSearch& stages,
                     const PipelineSpace& space,
                     const PipelineShape& shape,
                     const PlaceClasses& places,
                     RunBounds& runs);

  // False: proved that every plan takes at least `cutoff`. `step_weight`: at most that of the
  // combination; smaller ones are weaker, but shared by more combinations.
  bool can_beat(double cutoff, double step_weight, InFlight in_flight, Devices devices);
  // After can_beat() that did not exclude its cutoff: the largest time between `proved` and that
  // cutoff, to within a 64th of their difference, that no plan beats.
  double bound(double proved);
  // Sharpens the bounds of the stages that the last can_beat() would like to use. False if none
  // rose.
  bool sharpen();
  // Devices and layers of each stage, the last one first, that the last can_beat() with placed
  // devices, or bound() after it, would have: a hint at a good plan. Empty if there are none.
  struct Hint {
    int size = 0;
    int num_layers = 0;
  };
  std::vector<Hint> stages() const;
  // Every plan below the cutoff of the last can_beat() keeps all weighted stage times below this.
  double most() const { return most_; }

 private:
  using Item = RunBounds::Item;
  // Stages that can choose from the same runs, with the same number in flight.
  struct Group {
    RunBounds::Runs runs = RunBounds::Runs::kInner;
    int in_flight = 1;
    int count = 1;
    std::vector<RunBounds::Choice>* choices = nullptr;  // one for each class of places
  };
  struct Chosen {
    double bound = 0;
    double value = 0;             // of all stages
    std::vector<double> devices;  // by type; not counted where stages are placed
    bool is_possible = true;
  };
  // A run that a solution uses.
  struct Used {
    int in_flight = 1;
    const PlaceClass* place = nullptr;
    Item item;
  };
  // Of a group and a class of places, for a price: the run and its cost - price * value.
  struct Priced {
    double reduced = kForbidden;
    Item item;
  };

  int rounded_in_flight(int from_end, InFlight in_flight) const;
  void make_groups(InFlight in_flight);
  bool excludes(double cutoff);
  void keep_below(double most);
  static Priced best_of(const RunBounds::Choice& choice, double value_price);
  Chosen choose(double value_price, const std::vector<double>& device_prices) const;
  Chosen choose_priced(double value_price,
                       const std::vector<double>& device_prices,
                       std::vector<Used>* used) const;
  Chosen choose_placed(double value_price, std::vector<Used>* used) const;
  Chosen best_value_price(const std::vector<double>& device_prices, double enough);
  double least_sum(double most, double enough);
  double least_overhead();

  Problem& problem_;
  StageSearch& stages_;
  const PipelineSpace& space_;
  const PipelineShape shape_;
  const PlaceClasses& places_;
  RunBounds& runs_;
  const double rounds_;
  std::vector<double> num_devices_;  // by type
  double step_weight_ = 0;
  double cutoff_ = 0;
  Devices devices_ = Devices::kPriced;
  std::vector<Group> groups_;
  double value_price_ = 0;             // best so far
  std::vector<double> device_prices_;  //
  double overhead_ = -1;
  double most_ = kForbidden;
};

}  // namespace shardwise::planning
