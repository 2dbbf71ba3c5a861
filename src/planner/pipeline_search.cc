#include "planner/pipeline_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <unordered_map>

#include "core/errors.h"
#include "cost/evaluate.h"
#include "planner/pipeline_reach.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

// Width of the first window above the bound, and how windows grow.
constexpr double kFirstWindow = 1.0 / 512;
constexpr double kWindowGrowth = 4;

// Between stages: layers [0, layer) of the chain are still to be placed, and `used` says which
// devices are taken (StagePlaces).
struct Position {
  int layer = 0;
  int used = 0;

  auto operator<=>(const Position&) const = default;
};

// (sum, max) of stage bounds.
struct BoundLabel {
  double sum = 0;
  double most = 0;
};
using BoundFront = std::vector<BoundLabel>;

void insert_bound(BoundFront& front, const BoundLabel& label) {
  for (const BoundLabel& other : front) {
    if (other.sum <= label.sum && other.most <= label.most) {
      return;
    }
  }
  std::erase_if(front, [&](const BoundLabel& other) {
    return label.sum <= other.sum && label.most <= other.most;
  });
  front.push_back(label);
}

// A stage that may come next, before the layers placed so far.
struct ShapedArc {
  int begin = 0;
  StagePlace place;
  int shape = 0;
  Position next;
  StageKey key;
};

}  // namespace

class PipelineSearch::Impl {
 public:
  Impl(Problem& model,
       StageSearch& stages,
       const PipelineShape& shape,
       const PlaceClasses& places,
       RunBounds& runs,
       Incumbent& best)
      : model_(model),
        stages_(stages),
        shape_(shape),
        incumbent_(best),
        chain_(stages.chain()),
        space_(model, stages.chain(), shape),
        places_(places),
        relaxation_(model, stages, space_, shape, places, runs),
        interleaved_(shape.schedule == Schedule::kInterleaved),
        m_(model.num_microbatches()),
        rounds_(interleaved_ ? m_ + static_cast<double>(shape.stages - 1) / shape.chunks
                             : m_ + shape.stages - 1),
        step_weight_(1 / rounds_) {
    start_.layer = chain_.size();
  }

  double bound() const { return bound_; }

  // False: proved that nothing beats the incumbent.
  bool find_reach(double step_weight) {
    if (incumbent_.cutoff() == kForbidden || relaxation_.most() == kForbidden) {
      return true;
    }
    reach_.emplace(model_, stages_, space_, shape_, places_, step_weight, relaxation_.most());
    return reach_->reach(0, 0) >= chain_.size();
  }

  void release() {
    reach_.reset();
    families_.clear();
    weight_of_families_ = 0;
    reset_bounds();
    exact_arcs_.clear();
    fronts_.clear();
    labels_ = {};
  }

  bool relax(double step_weight, InFlight in_flight, Devices devices, int sharpenings) {
    const double least = incumbent_.cutoff();
    if (bound_ >= least || least == kForbidden) {
      return bound_ < least;
    }
    while (relaxation_.can_beat(least, step_weight, in_flight, devices)) {
      if (sharpenings-- <= 0 || !relaxation_.sharpen()) {
        bound_ = relaxation_.bound(bound_);
        return true;
      }
    }
    bound_ = least;
    return false;
  }

  void raise_to(double bound) { bound_ = std::max(bound_, bound); }

  bool uses_all_devices() const {
    return largest_size() * (shape_.stages + 1) > model_.places().num_free(0);
  }

  // Stages of one size, as large as all fit, and runs of about equal length: a first plan, quickly.
  void try_equal_stages(double step_weight) {
    const int size = largest_size();
    if (size > 0) {
      try_stages(std::vector<int>(at(shape_.stages), size),
                 2 * (chain_.size() / shape_.stages) + 2,
                 step_weight);
    }
  }

  // Stages of the sizes that the relaxation would have.
  void try_placed_stages(double step_weight) {
    std::vector<int> sizes;
    int longest = 0;
    for (const PipelineRelaxation::Hint& stage : relaxation_.stages()) {
      sizes.push_back(stage.size);
      longest = std::max(longest, stage.num_layers);
    }
    if (!sizes.empty()) {
      try_stages(std::move(sizes), longest + 2, step_weight);
    }
  }

  void sharpen(double step_weight) {
    constexpr int kMostSharpenings = 100;
    if (!relax(step_weight, InFlight::kExact, Devices::kPlaced, kMostSharpenings)) {
      return;
    }
    constexpr int kMostRounds = 400;
    // Not worth it: so many rounds that close less than so much of the gap.
    constexpr int kFewRounds = 8;
    constexpr double kLittle = 1.0 / 64;
    bound_weight_ = step_weight;
    double before = bound_;
    for (int round = 0; round < kMostRounds; ++round) {
      if (!find_reach(step_weight)) {
        bound_ = std::max(bound_, incumbent_.cutoff());
        return;
      }
      reset_bounds();
      bound_ = std::max(bound_, best_of(to_go(0, start_)));
      if (bound_ >= incumbent_.cutoff()) {
        return;
      }
      if (round % kFewRounds == 1) {
        if (round > 1 && bound_ - before < kLittle * (incumbent_.cutoff() - before)) {
          return;
        }
        before = bound_;
      }
      bool rose = false;
      for (const ShapedArc& arc : best_path()) {
        rose |= stages_.sharpen(arc.key, step_weight);
      }
      if (!rose) {
        return;
      }
    }
  }

  bool solve() {
    if (width_ == kFirstWindow) {
      sharpen(step_weight_);
      if (bound_ >= incumbent_.cutoff()) {
        return false;
      }
      try_candidates();
    }
    // Plans a little above the bound first: fronts within a narrow window are small, and mostly the
    // best plan is there. What the window does not hold raises the bound to its edge.
    target_ = width_ < 1 ? bound_ * (1 + width_) : kForbidden;
    const double proved = search_exactly();
    const double edge = std::min(target_, incumbent_.cutoff());
    target_ = kForbidden;
    bound_ = std::max(bound_, std::min(proved, edge));
    width_ *= kWindowGrowth;
    return proved >= edge && bound_ < incumbent_.cutoff();  // else a limit on labels was hit
  }

 private:
  // Plans with stages of these sizes, the last one first, and runs of up to so many layers.
  void try_stages(std::vector<int> sizes, int longest_run, double step_weight) {
    only_sizes_ = std::move(sizes);
    longest_run_ = longest_run;
    bound_weight_ = step_weight;
    constexpr int kMostRounds = 12;
    for (int round = 0; round < kMostRounds; ++round) {
      reset_bounds();
      if (best_of(to_go(0, start_)) >= cutoff()) {
        break;
      }
      try_candidates();
      bool rose = false;
      for (const ShapedArc& arc : best_path()) {
        rose |= stages_.sharpen(arc.key, step_weight);
      }
      if (!rose) {
        try_candidates();
        break;
      }
    }
    only_sizes_.clear();
    longest_run_ = std::numeric_limits<int>::max();
    reset_bounds();
  }

  // Of stages that all have the same size; 0: the cluster has too few devices.
  int largest_size() const {
    int largest = 0;
    for (const StagePlaces::Step& step : model_.places().steps(0)) {
      if (step.place.size * shape_.stages <= model_.places().num_free(0)) {
        largest = std::max(largest, step.place.size);
      }
    }
    return largest;
  }

  // What a plan must be below to be looked for.
  double cutoff() const { return std::min(target_, incumbent_.cutoff()); }

  // --- bounds -----------------------------------------------------------------------------------

  StageKey key_of(int from_end, int shape, int begin, int end) const {
    return space_.key_of(from_end, shape, begin, end);
  }

  bool leaves_devices(int from_end, int used) const {
    return model_.places().num_free(used) >= shape_.stages - 1 - from_end;
  }

  double stage_bound(int from_end, const StagePlace& place, int begin, int end) {
    double least = kForbidden;
    const int first = space_.first_like(begin, end);
    for (const int shape : model_.shapes_at(place)) {
      least =
          std::min(least, stages_.bound(family_of(from_end, shape), first, first + end - begin));
    }
    return least;
  }

  StageSearch::Family& family_of(int from_end, int shape) {
    if (weight_of_families_ != bound_weight_) {
      families_.assign(at(shape_.stages), {});
      weight_of_families_ = bound_weight_;
    }
    std::vector<StageSearch::Family*>& families = families_[at(from_end)];
    if (families.size() <= at(shape)) {
      families.resize(at(shape) + 1, nullptr);
    }
    StageSearch::Family*& family = families[at(shape)];
    if (family == nullptr) {
      family = &stages_.family(key_of(from_end, shape, 0, 1), bound_weight_);
    }
    return *family;
  }

  BoundLabel add_stage(const BoundLabel& label, double stage) const {
    return {label.sum + (interleaved_ ? 0 : stage), std::max(label.most, stage)};
  }

  double objective(const BoundLabel& label) const {
    return interleaved_ ? label.sum + rounds_ * label.most : label.sum + (m_ - 1) * label.most;
  }

  double best_of(const BoundFront& front) const {
    double best = kForbidden;
    for (const BoundLabel& label : front) {
      best = std::min(best, objective(label));
    }
    return best;
  }

  void reset_bounds() { to_go_.clear(); }
  std::size_t number_of(int from_end, const Position& position) const {
    const std::size_t row = at(from_end) * at(chain_.size() + 1) + at(position.layer);
    return row * at(model_.places().num_states()) + at(position.used);
  }

  // Bounds on the stages from `from_end` to the first one.
  const BoundFront& to_go(int from_end, const Position& position) {
    const std::size_t number = number_of(from_end, position);
    if (const auto known = to_go_.find(number); known != to_go_.end()) {
      return known->second;
    }
    BoundFront front;
    if (from_end == shape_.stages) {
      if (position.layer == 0) {
        front.push_back({static_cast<double>(model_.least_overhead(position.used)), 0});
      }
    } else {
      for_each_arc(from_end, position, [&](const StagePlace& place, const Position& next) {
        incumbent_.deadline.check();
        const double stage = stage_bound(from_end, place, next.layer, position.layer);
        if (objective(add_stage({}, stage)) >= cutoff()) {
          return;
        }
        for (const BoundLabel& label : to_go(from_end + 1, next)) {
          const BoundLabel longer = add_stage(label, stage);
          if (objective(longer) < cutoff()) {
            insert_bound(front, longer);
          }
        }
      });
    }
    return to_go_.emplace(number, std::move(front)).first->second;
  }

  // Stages that may stand at `from_end` and end where the position begins; shortest runs first.
  template <typename Visit>
  void for_each_arc(int from_end, const Position& position, Visit visit) {
    const int size_limit = model_.max_stage_devices();
    const std::vector<StagePlaces::Step>& steps = model_.places().steps(position.used);
    for (std::size_t s = 0; s < steps.size(); ++s) {
      const StagePlaces::Step& step = steps[s];
      if ((size_limit > 0 && step.place.size > size_limit) ||
          (!only_sizes_.empty() && step.place.size != only_sizes_[at(from_end)]) ||
          !leaves_devices(from_end, step.used) || model_.shapes_at(step.place).empty()) {
        continue;
      }
      const int others = shape_.stages - 1 - from_end;
      int latest = others == 0 ? 0 : position.layer - 1;
      int earliest = others;
      if (reach_) {
        latest = std::min(latest, reach_->reach(from_end + 1, step.used));
        if (others > 0 && others >= space_.inner_begin() && position.layer <= space_.inner_end()) {
          const int place_class = places_.of_step[at(position.used)][s];
          earliest =
              std::max(earliest, position.layer - reach_->longest_inner(from_end, place_class));
        }
      }
      for (int begin = latest; begin >= earliest; --begin) {
        if (space_.is_run(begin, position.layer, others) &&
            position.layer - begin <= longest_run_) {
          visit(step.place, Position{begin, step.used});
        }
        if (others == 0) {
          break;
        }
      }
    }
  }

  // Stages of a pipeline that reaches the bound, the last stage first.
  std::vector<ShapedArc> best_path() {
    std::vector<ShapedArc> path;
    Position position = start_;
    BoundLabel target;
    double best = kForbidden;
    for (const BoundLabel& label : to_go(0, position)) {
      if (objective(label) < best) {
        best = objective(label);
        target = label;
      }
    }
    if (best == kForbidden) {
      return path;
    }
    // Labels behind the target: each step finds an arc and a label that add up to it.
    double sum_so_far = 0;
    double most_so_far = 0;
    for (int from_end = 0; from_end < shape_.stages; ++from_end) {
      bool is_chosen = false;
      StagePlace chosen_place;
      Position chosen;
      double chosen_stage = 0;
      double chosen_value = kForbidden;
      for_each_arc(from_end, position, [&](const StagePlace& place, const Position& next) {
        const double stage = stage_bound(from_end, place, next.layer, position.layer);
        for (const BoundLabel& label : to_go(from_end + 1, next)) {
          BoundLabel whole = add_stage(label, stage);
          whole.sum += sum_so_far;
          whole.most = std::max(whole.most, most_so_far);
          if (objective(whole) < chosen_value) {
            chosen_value = objective(whole);
            is_chosen = true;
            chosen_place = place;
            chosen = next;
            chosen_stage = stage;
          }
        }
      });
      if (!is_chosen) {
        return {};
      }
      for (const int shape : model_.shapes_at(chosen_place)) {
        const StageKey key = key_of(from_end, shape, chosen.layer, position.layer);
        if (stages_.bound(key, bound_weight_) <= chosen_stage) {
          path.push_back({chosen.layer, chosen_place, shape, chosen, key});
          break;
        }
      }
      sum_so_far += interleaved_ ? 0 : chosen_stage;
      most_so_far = std::max(most_so_far, chosen_stage);
      position = chosen;
    }
    return path;
  }

  // --- exact ------------------------------------------------------------------------------------

  // Largest c of a stage between these labels for which the whole stays below the cutoff.
  double room(const BoundLabel& later, const BoundLabel& earlier) const {
    const double most = std::max(later.most, earlier.most);
    const double rest = cutoff() - later.sum - earlier.sum;
    if (interleaved_) {
      return rest / rounds_ > most ? rest / rounds_ : -kForbidden;
    }
    const double below = rest - (m_ - 1) * most;  // if the stage is not the slowest
    return below <= most ? below : rest / m_;
  }

  struct Label {
    std::int64_t sum = 0;               // of p + o
    std::int64_t slowest = 0;           // period, or its forward part (gpipe)
    std::int64_t slowest_backward = 0;  // gpipe
    std::int64_t per_step = 0;          // most, but of the last stage
    std::int64_t last_per_step = 0;     // of the last stage: a tie may add to it
    std::int64_t last_time = 0;         // interleaved: of the last stage, before it sends around
    int ranks = 0;
    int tail = -1;  // what of the last stage still matters: index into tails_
    bool is_verified = true;
    int parent = -1;
    const StagePoint* point = nullptr;
    const ShapedArc* arc = nullptr;
  };

  // Last stage as a tie or the way around sees it.
  struct Tail {
    StagePlace place;
    int shape = 0;
    int inner_output = -1;  // interleaved
    int signature = -1;     // tied
    auto operator<=>(const Tail&) const = default;
  };

  // By where the next stage's output must go.
  using PortLabels = std::map<StageEnd, std::vector<int>>;

  bool is_beaten(const Label& b, const Label& a) const {
    return a.tail == b.tail && a.ranks == b.ranks && a.sum <= b.sum && a.slowest <= b.slowest &&
           a.slowest_backward <= b.slowest_backward && a.per_step <= b.per_step &&
           a.last_per_step <= b.last_per_step && a.last_time <= b.last_time;
  }

  // Step time without overhead.
  std::int64_t step_time(const Label& label) const {
    const std::int64_t per_step = std::max(label.per_step, label.last_per_step);
    const std::int64_t period = label.slowest + label.slowest_backward;
    if (interleaved_) {
      return period + ((shape_.stages - 1) * period + shape_.chunks - 1) / shape_.chunks +
             (m_ - 1) * period + per_step;
    }
    return label.sum + (m_ - 1) * period + per_step;
  }

  // Least step time of anything that continues the label (see the header's inequality, with the
  // label's own sums exact).
  double completed(const Label& label, int stages_left, const BoundFront& rest) const {
    const auto per_step = static_cast<double>(std::max(label.per_step, label.last_per_step));
    const auto period =
        static_cast<double>(std::max(label.slowest, label.last_time) + label.slowest_backward);
    double best = kForbidden;
    for (const BoundLabel& other : rest) {
      const double most = std::max(period, other.most - step_weight_ * per_step);
      const double time = interleaved_ ? other.sum + rounds_ * most + per_step
                                       : static_cast<double>(label.sum) + other.sum -
                                             stages_left * step_weight_ * per_step +
                                             (m_ - 1) * most + per_step;
      best = std::min(best, time);
    }
    return best;
  }

  // The options that bounds found for the stages of the best path, where they fit: the best way to
  // join them.
  void try_candidates() {
    std::vector<std::unique_ptr<StageFront>> candidates;
    if (take_candidates(candidates)) {
      const Outcome outcome = walk();
      if (outcome.best_verified >= 0) {
        adopt(outcome.best_verified);
      }
    }
    labels_.clear();
    fronts_.clear();
  }

  // The best path as the only arcs, with candidates as their fronts. False if a stage has none.
  bool take_candidates(std::vector<std::unique_ptr<StageFront>>& candidates) {
    exact_arcs_.clear();
    fronts_.clear();
    Position position = start_;
    const std::vector<ShapedArc> path = best_path();
    for (int j = 0; j < static_cast<int>(path.size()); ++j) {
      const ShapedArc& arc = path[at(j)];
      exact_arcs_[{j, position}] = {arc};
      const StageFront*& front = fronts_[arc.key];
      if (front == nullptr) {
        candidates.push_back(stages_.candidates(arc.key, bound_weight_));
        front = candidates.back().get();
        if (front == nullptr) {
          return false;
        }
        if (shape_.stages == 1) {
          std::erase_if(candidates.back()->points,
                        [&](const StagePoint& point) { return !keeps_tie(point); });
        }
      }
      position = arc.next;
    }
    return !path.empty();
  }

  // Whether the options of one stage that has both ends of a tie agree with the case at hand.
  bool keeps_tie(const StagePoint& point) const {
    const bool is_shared = point.options.front()->signature == point.options.back()->signature;
    return shape_.tie == TieCase::kNone || is_shared == (shape_.tie == TieCase::kShared);
  }

  // Searches plans below cutoff() with exact fronts; improves the incumbent. Returns a
  // proved bound on the plans looked at that the incumbent does not beat.
  double search_exactly() {
    while (true) {
      collect_arcs();
      make_fronts();
      const Outcome outcome = walk();
      if (outcome.best < 0 || outcome.objective >= cutoff()) {
        if (is_complete_) {
          return kForbidden;
        }
        return bound_;
      }
      if (outcome.is_verified) {
        adopt(outcome.best);
        continue;  // what is left must be better still
      }
      if (outcome.best_verified >= 0) {
        adopt(outcome.best_verified);
      }
      if (!upgrade(outcome.best)) {
        return outcome.objective;
      }
    }
  }

  // Stages that may be part of a plan below the cutoff, and the limits of their fronts.
  void collect_arcs() {
    exact_arcs_.clear();
    limits_.clear();
    bound_weight_ = step_weight_;
    reset_bounds();
    std::map<Position, BoundFront> from_end;
    from_end[start_] = {{0, 0}};
    for (int j = 0; j < shape_.stages; ++j) {
      std::map<Position, BoundFront> next;
      for (const auto& reached : from_end) {
        for_each_arc(j, reached.first, [&](const StagePlace& place, const Position& before) {
          collect(j, reached.first, place, before, reached.second, next);
        });
      }
      from_end = std::move(next);
    }
  }

  void collect(int j,
               const Position& position,
               const StagePlace& place,
               const Position& before,
               const BoundFront& later,
               std::map<Position, BoundFront>& next) {
    incumbent_.deadline.check();
    const BoundFront& earlier = to_go(j + 1, before);
    double most_room = -kForbidden;
    for (const BoundLabel& a : later) {
      for (const BoundLabel& b : earlier) {
        most_room = std::max(most_room, room(a, b));
      }
    }
    double least = kForbidden;
    for (const int shape : model_.shapes_at(place)) {
      const StageKey key = key_of(j, shape, before.layer, position.layer);
      const double bound = stages_.bound(key, step_weight_);
      if (bound > most_room || bound == kForbidden) {
        continue;
      }
      least = std::min(least, bound);
      exact_arcs_[{j, position}].push_back({before.layer, place, shape, before, key});
      double& limit = limits_.try_emplace(key, -kForbidden).first->second;
      limit = std::max(limit, most_room);
    }
    if (least < kForbidden) {
      BoundFront& front = next[before];
      for (const BoundLabel& label : later) {
        insert_bound(front, add_stage(label, least));
      }
    }
  }

  void make_fronts() {
    fronts_.clear();
    is_complete_ = true;
    for (const auto& [key, limit] : limits_) {
      FrontRequest request;
      request.key = key;
      request.level = level_of(key);
      request.step_weight = step_weight_;
      request.limit = std::min(limit, 1e17);
      request.joint_time = shape_.stages == 1 && !interleaved_ ? m_ : 0;
      request.splits_forward = shape_.schedule == Schedule::kGpipe && shape_.stages > 1;
      fronts_[key] = &stages_.front(request);
      is_complete_ &= fronts_[key]->is_complete;
    }
  }

  // Where memory raises the bound, a front that ignores it would hold all that the bound excludes.
  FrontLevel level_of(const StageKey& key) const {
    const auto known = levels_.find(key);
    if (known != levels_.end()) {
      return known->second;
    }
    return stages_.is_memory_tight(key, step_weight_) ? FrontLevel::kMemory : FrontLevel::kTimes;
  }

  // Looks closer at the stages of a label that may not fit. False if there is no closer look.
  bool upgrade(int label) {
    bool closer = false;
    for (int l = label; labels_[at(l)].arc != nullptr; l = labels_[at(l)].parent) {
      const Label& part = labels_[at(l)];
      if (!part.point->is_verified) {
        FrontLevel& level =
            levels_.try_emplace(part.arc->key, level_of(part.arc->key)).first->second;
        if (level == FrontLevel::kExact) {
          continue;
        }
        level = level == FrontLevel::kTimes ? FrontLevel::kMemory : FrontLevel::kExact;
        stages_.sharpen(part.arc->key, step_weight_);
        closer = true;
      }
    }
    return closer;
  }

  struct Outcome {
    int best = -1;
    double objective = kForbidden;
    bool is_verified = false;
    int best_verified = -1;
    std::int64_t verified_objective = 0;
  };

  Outcome walk() {
    labels_.clear();
    tails_.clear();
    Label first;
    labels_.push_back(first);
    std::map<Position, PortLabels> here;
    here[start_][StageEnd{}].push_back(0);
    for (int j = 0; j < shape_.stages; ++j) {
      std::map<Position, PortLabels> next;
      for (const auto& [position, ports] : here) {
        const auto found = exact_arcs_.find({j, position});
        if (found == exact_arcs_.end()) {
          continue;
        }
        for (const ShapedArc& arc : found->second) {
          add_stage_exactly(j, arc, ports, next[arc.next]);
        }
      }
      here = std::move(next);
    }
    Outcome outcome;
    for (const auto& [position, ports] : here) {
      for (const auto& [port, labels] : ports) {
        for (const int label : labels) {
          consider(label, outcome);
        }
      }
    }
    return outcome;
  }

  void consider(int label, Outcome& outcome) {
    const Label& last = labels_[at(label)];
    const std::int64_t objective = step_time(last) + model_.step_overhead(last.ranks);
    if (static_cast<double>(objective) < outcome.objective) {
      outcome.best = label;
      outcome.objective = static_cast<double>(objective);
      outcome.is_verified = last.is_verified;
    }
    if (last.is_verified && (outcome.best_verified < 0 || objective < outcome.verified_objective) &&
        objective < incumbent_.step_time) {
      outcome.best_verified = label;
      outcome.verified_objective = objective;
    }
  }

  void add_stage_exactly(int j, const ShapedArc& arc, const PortLabels& ports, PortLabels& next) {
    const StageFront& front = *fronts_.at(arc.key);
    const BoundFront& rest = to_go(j + 1, arc.next);
    for (const StagePoint& point : front.points) {
      for (const auto& [port, labels] : ports) {
        Transfer transfer;
        if (j > 0) {
          transfer = model_.transfer(
              chain_.layers[at(arc.key.end - 1)], {arc.place, arc.shape, point.output}, port);
        }
        if (!transfer.is_possible) {
          continue;
        }
        for (const int label : labels) {
          incumbent_.deadline.check();
          const Label longer = extend(j, label, arc, point, transfer);
          if (completed(longer, shape_.stages - 1 - j, rest) < cutoff()) {
            insert(next[{arc.place, arc.shape, inner_input(arc, point)}], longer);
          }
        }
      }
    }
  }

  // State in which the stage receives: for the first folded stage that of its decoder layers.
  int inner_input(const ShapedArc& arc, const StagePoint& point) const {
    return interleaved_ && arc.begin == 0 ? point.options[1]->input : point.input;
  }

  Label extend(
      int j, int label, const ShapedArc& arc, const StagePoint& point, const Transfer& transfer) {
    Label longer = labels_[at(label)];
    longer.parent = label;
    longer.arc = &arc;
    longer.point = &point;
    longer.is_verified &= point.is_verified;
    longer.ranks += arc.place.size;
    const bool is_last = j == 0;
    const bool is_first = arc.begin == 0;
    if (is_last && (interleaved_ || shape_.tie == TieCase::kExchanged)) {
      longer.tail = tail_of(arc, point);
    }
    const std::int64_t sent = shape_.chunks * (transfer.forward + transfer.backward);
    if (interleaved_) {
      if (is_last) {
        longer.last_time = point.time();
      } else {
        longer.slowest = std::max(longer.slowest, point.time() + sent);
      }
    } else {
      longer.sum += point.time() + sent;
      switch (shape_.schedule) {
        case Schedule::k1F1BEager:
          longer.slowest = std::max({longer.slowest, point.time(), sent});
          break;
        case Schedule::kGpipe:
          if (shape_.stages > 1) {
            longer.slowest = std::max({longer.slowest, point.forward, transfer.forward});
            longer.slowest_backward =
                std::max({longer.slowest_backward, point.backward, transfer.backward});
            break;
          }
          [[fallthrough]];
        default:
          longer.slowest = std::max(longer.slowest, point.time() + sent);
      }
    }
    if (is_last) {
      longer.last_per_step = point.per_step;
    } else if (!is_first) {
      longer.per_step = std::max(longer.per_step, point.per_step);
    }
    if (is_first) {
      finish(longer, arc, point);
    }
    return longer;
  }

  int tail_of(const ShapedArc& arc, const StagePoint& point) {
    Tail tail{arc.place, arc.shape, -1, -1};
    if (interleaved_) {
      tail.inner_output = point.options.back()->input;
    }
    if (shape_.tie == TieCase::kExchanged) {
      tail.signature = point.options.back()->signature;
    }
    for (std::size_t i = 0; i < tails_.size(); ++i) {
      if (tails_[i].first == tail) {
        return static_cast<int>(i);
      }
    }
    tails_.emplace_back(tail, point.options.back());
    return static_cast<int>(tails_.size()) - 1;
  }

  // The first stage closes what the last one left open: the tie, and the way around.
  void finish(Label& label, const ShapedArc& arc, const StagePoint& point) {
    std::int64_t exchange = 0;
    if (shape_.tie == TieCase::kExchanged) {
      const auto& [tail, option] = tails_[at(label.tail)];
      exchange = model_.tie_exchange(
          {arc.place, arc.shape, 0}, *point.options.front(), {tail.place, tail.shape, 0}, *option);
    }
    label.last_per_step += exchange;
    if (shape_.stages > 1) {
      label.per_step = std::max(label.per_step, point.per_step + exchange);
    }
    if (interleaved_) {
      const Tail& tail = tails_[at(label.tail)].first;
      const Transfer around = model_.transfer(chain_.layers[at(chain_.size() - 2)],
                                              {tail.place, tail.shape, tail.inner_output},
                                              {arc.place, arc.shape, inner_input(arc, point)});
      label.slowest =
          std::max(label.slowest,
                   label.last_time + (shape_.chunks - 1) * (around.forward + around.backward));
      label.last_time = 0;
    }
    label.tail = -1;
  }

  void insert(std::vector<int>& front, const Label& label) {
    for (const int other : front) {
      if (is_beaten(label, labels_[at(other)])) {
        return;
      }
    }
    std::erase_if(front, [&](int other) { return is_beaten(labels_[at(other)], label); });
    front.push_back(static_cast<int>(labels_.size()));
    labels_.push_back(label);
  }

  // --- the plan ---------------------------------------------------------------------------------

  void adopt(int label) {
    const std::int64_t objective =
        step_time(labels_[at(label)]) + model_.step_overhead(labels_[at(label)].ranks);
    if (objective >= incumbent_.step_time) {
      return;
    }
    PipelineSolution solution{&model_, shape_.schedule, shape_.chunks, {}};
    for (int l = label; labels_[at(l)].arc != nullptr; l = labels_[at(l)].parent) {
      const ShapedArc& arc = *labels_[at(l)].arc;
      StageSolution stage{arc.place, arc.shape, arc.begin, {}};
      for (const Option* option : labels_[at(l)].point->options) {
        stage.options.push_back(*option);
      }
      solution.stages.push_back(std::move(stage));
    }
    incumbent_.improve(std::move(solution), objective);
  }

  Problem& model_;
  StageSearch& stages_;
  const PipelineShape shape_;
  Incumbent& incumbent_;
  const LayerChain& chain_;
  const PipelineSpace space_;
  const PlaceClasses& places_;
  PipelineRelaxation relaxation_;
  std::optional<PipelineReach> reach_;  // of plans below the cutoff it was made for, or a lower one
  const bool interleaved_;
  const int m_;
  const double rounds_;  // periods in a step, as far as per-step parts weigh against them
  const double step_weight_;
  Position start_;
  double bound_ = 0;
  std::vector<int> only_sizes_;                        // try_stages(): of stages, last one first
  int longest_run_ = std::numeric_limits<int>::max();  //
  double width_ = kFirstWindow;                        // of the next window above the bound
  double target_ = kForbidden;                         // edge of the window being searched
  bool is_complete_ = true;
  double bound_weight_ = 0;  // at most step_weight_: what the bounds in to_go_ are made with
  std::unordered_map<std::size_t, BoundFront> to_go_;        // looked up only
  std::vector<std::vector<StageSearch::Family*>> families_;  // [from_end][shape]; null: not known
  double weight_of_families_ = 0;
  std::map<std::pair<int, Position>, std::vector<ShapedArc>> exact_arcs_;
  std::map<StageKey, double> limits_;
  std::map<StageKey, FrontLevel> levels_;
  std::map<StageKey, const StageFront*> fronts_;
  std::vector<Label> labels_;
  std::vector<std::pair<Tail, const Option*>> tails_;
};

PipelineSearch::PipelineSearch(Problem& model,
                               StageSearch& stages,
                               const PipelineShape& shape,
                               const PlaceClasses& places,
                               RunBounds& runs,
                               Incumbent& incumbent)
    : impl_(std::make_unique<Impl>(model, stages, shape, places, runs, incumbent)) {}
PipelineSearch::~PipelineSearch() = default;

double PipelineSearch::bound() const { return impl_->bound(); }
bool PipelineSearch::uses_all_devices() const { return impl_->uses_all_devices(); }
bool PipelineSearch::relax(double step_weight,
                           InFlight in_flight,
                           Devices devices,
                           int sharpenings) {
  return impl_->relax(step_weight, in_flight, devices, sharpenings);
}
void PipelineSearch::raise_to(double bound) { impl_->raise_to(bound); }
void PipelineSearch::try_equal_stages(double step_weight) { impl_->try_equal_stages(step_weight); }
void PipelineSearch::try_placed_stages(double step_weight) {
  impl_->try_placed_stages(step_weight);
}
void PipelineSearch::release() { impl_->release(); }
void PipelineSearch::sharpen(double step_weight) { impl_->sharpen(step_weight); }
bool PipelineSearch::solve() { return impl_->solve(); }

}  // namespace shardwise::planning
