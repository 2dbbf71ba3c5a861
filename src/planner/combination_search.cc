#include "planner/combination_search.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <tuple>

namespace shardwise::planning {

namespace {

// What is done next about a combination: each step costs more than the one before.
enum class Step { kRelax, kTry, kTighten, kSharpen, kSolve, kNothing };

constexpr int kFewSharpenings = 10;

struct Combination {
  Problem* problem = nullptr;
  std::unique_ptr<PipelineSearch> search;
  int stages = 1;
  int chunks = 1;
  TieCase tie = TieCase::kNone;
  double coarse_weight = 0;  // serves all numbers of stages of a micro-batch count
  bool is_tried = false;     // for a plan with stages of one size
  Step next = Step::kRelax;
};

}  // namespace

class CombinationSearch::Impl {
 public:
  Impl(const CombinationLimits& limits, Incumbent& incumbent)
      : limits_(limits), incumbent_(incumbent) {}

  void add(Problem& problem) {
    const int most_stages = most_stages_of(problem);
    for (int stages = std::max(limits_.min_stages, 1); stages <= most_stages; ++stages) {
      if (limits_.max_stages > 0 && stages > limits_.max_stages) {
        break;
      }
      add_plain(problem, stages);
      if (stages > 1 && problem.num_microbatches() % stages == 0 &&
          allows(Schedule::kInterleaved)) {
        add_interleaved(problem, stages);
      }
    }
  }

  void run() {
    for (Combination& combination : combinations_) {
      combination.search->raise_to(work_bound(combination));
    }
    incumbent_.report_bound(bound());
    try_first_plans();
    close_all();
  }

  double bound() const {
    double bound = kForbidden;
    for (const Combination& combination : combinations_) {
      bound = std::min(bound, combination.search->bound());
    }
    return bound;
  }

 private:
  static int most_stages_of(const Problem& problem) {
    return std::min(problem.num_layers(), problem.places().num_free(0));
  }

  bool allows(Schedule schedule) const {
    const std::vector<Schedule>& allowed = limits_.schedules;
    return allowed.empty() || std::find(allowed.begin(), allowed.end(), schedule) != allowed.end();
  }

  // A good plan first: it spares looking closely at most of the rest. One number of stages for each
  // size of a stage that uses the cluster up.
  void try_first_plans() {
    for (Combination* combination : from_the_middle()) {
      if (combination->chunks > 1 || !combination->search->uses_all_devices()) {
        continue;
      }
      if (incumbent_.cutoff() < kForbidden) {
        advance(*combination);
      }
      if (combination->search->bound() < incumbent_.cutoff()) {
        combination->search->try_equal_stages(combination->coarse_weight);
        combination->is_tried = true;
        if (combination->next == Step::kTry) {
          combination->next = Step::kTighten;
        }
      }
      combination->search->release();
    }
    for (Combination& combination : combinations_) {
      if (incumbent_.cutoff() < kForbidden) {
        return;
      }
      combination.search->try_equal_stages(combination.coarse_weight);
      combination.is_tried = true;
    }
  }

  // Micro-batch counts in the middle first: with very few devices idle, with very many kernels are
  // small.
  std::vector<Combination*> from_the_middle() {
    std::vector<const Problem*> problems;
    for (const Combination& combination : combinations_) {
      if (problems.empty() || problems.back() != combination.problem) {
        problems.push_back(combination.problem);
      }
    }
    std::map<const Problem*, int> distance;
    for (std::size_t i = 0; i < problems.size(); ++i) {
      distance[problems[i]] = std::abs(2 * static_cast<int>(i) - static_cast<int>(problems.size()));
    }
    std::vector<Combination*> order;
    for (Combination& combination : combinations_) {
      order.push_back(&combination);
    }
    std::stable_sort(order.begin(), order.end(), [&](const Combination* a, const Combination* b) {
      return distance[a->problem] < distance[b->problem];
    });
    return order;
  }

  // Looks at combinations, least bound first, until none can win.
  void close_all() {
    while (Combination* next = least()) {
      if (next->search->bound() >= incumbent_.cutoff()) {
        break;
      }
      incumbent_.report_bound(next->search->bound());
      advance(*next);
      next->search->release();
    }
  }

  void advance(Combination& combination) {
    PipelineSearch& search = *combination.search;
    switch (combination.next) {
      case Step::kRelax:
        if (search.relax(combination.coarse_weight, InFlight::kOne, Devices::kPriced, 0)) {
          search.relax(combination.coarse_weight, InFlight::kRounded, Devices::kPriced, 0);
        }
        combination.next = combination.is_tried ? Step::kTighten : Step::kTry;
        break;
      case Step::kTry:
        search.try_equal_stages(combination.coarse_weight);
        combination.next = Step::kTighten;
        break;
      case Step::kTighten:
        if (search.relax(
                combination.coarse_weight, InFlight::kExact, Devices::kPlaced, kFewSharpenings)) {
          search.try_placed_stages(combination.coarse_weight);
        }
        combination.next = Step::kSharpen;
        break;
      case Step::kSharpen:
        search.sharpen(combination.coarse_weight);
        combination.next = Step::kSolve;
        break;
      case Step::kSolve:
        if (!search.solve()) {
          combination.next = Step::kNothing;
        }
        break;
      case Step::kNothing:
        break;
    }
  }

  // Proved dominances: with one stage or one micro-batch all plain schedules cost and hold the
  // same. gpipe never beats 1f1b-eager: its period max f + max b is at least max (f + b), its
  // transfers likewise, and it holds m micro-batches.
  void add_plain(Problem& problem, int stages) {
    const std::vector<Schedule> order = {Schedule::k1F1B, Schedule::k1F1BEager, Schedule::kGpipe};
    bool has_eager = false;
    for (const Schedule schedule : order) {
      if (!allows(schedule) || (schedule == Schedule::kGpipe && has_eager)) {
        continue;
      }
      if (stages == 1) {
        if (problem.is_tied()) {
          add_combination(problem, schedule, 1, 1, TieCase::kShared);
          add_combination(problem, schedule, 1, 1, TieCase::kExchanged);
        } else {
          add_combination(problem, schedule, 1, 1, TieCase::kNone);
        }
      } else {
        add_combination(problem, schedule, stages, 1, pipeline_tie(problem));
      }
      // gpipe with one stage holds all micro-batches, the others one.
      if (stages == 1 && schedule != Schedule::kGpipe) {
        return;
      }
      if (problem.num_microbatches() == 1) {
        return;
      }
      has_eager |= schedule == Schedule::k1F1BEager;
    }
  }

  static TieCase pipeline_tie(const Problem& problem) {
    return problem.is_tied() ? TieCase::kExchanged : TieCase::kNone;
  }

  // Every position runs the same decoder layers in each of its chunks. One chunk is never better
  // than 1f1b or 1f1b-eager: no shorter period, no less to fill, no fewer micro-batches in flight.
  void add_interleaved(Problem& problem, int stages) {
    if (!problem.may_interleave()) {
      return;
    }
    const int decoders = problem.num_layers() - 2;
    for (int layer = 2; layer <= decoders; ++layer) {
      if (problem.block_of(layer) != problem.block_of(1)) {
        return;
      }
    }
    const int least_chunks = allows(Schedule::k1F1B) || allows(Schedule::k1F1BEager) ? 2 : 1;
    for (int chunks = least_chunks; chunks * stages <= decoders; ++chunks) {
      if (decoders % chunks == 0) {
        add_combination(problem, Schedule::kInterleaved, stages, chunks, pipeline_tie(problem));
      }
    }
  }

  void add_combination(Problem& problem, Schedule schedule, int stages, int chunks, TieCase tie) {
    StageSearch& stage_search = stages_of(problem, chunks, tie);
    const PipelineShape shape{schedule, stages, chunks, tie};
    Combination combination;
    combination.search = std::make_unique<PipelineSearch>(problem,
                                                          stage_search,
                                                          shape,
                                                          classes_of(problem),
                                                          runs_of(problem, stage_search, shape),
                                                          incumbent_);
    combination.problem = &problem;
    combination.stages = stages;
    combination.chunks = chunks;
    combination.tie = tie;
    const int most_stages = most_stages_of(problem);
    combination.coarse_weight = 1.0 / (problem.num_microbatches() + most_stages - 1);
    combinations_.push_back(std::move(combination));
  }

  StageSearch& stages_of(Problem& problem, int chunks, TieCase tie) {
    std::unique_ptr<StageSearch>& stage_search = stages_[{&problem, chunks, tie}];
    if (stage_search == nullptr) {
      LayerChain chain;
      chain.chunks = chunks;
      const int layers = problem.num_layers();
      const int kept = chunks == 1 ? layers : 1 + (layers - 2) / chunks;
      for (int layer = 0; layer < kept; ++layer) {
        chain.layers.push_back(layer);
      }
      if (chunks > 1) {
        chain.layers.push_back(layers - 1);
      }
      stage_search = std::make_unique<StageSearch>(problem, chain, tie);
    }
    return *stage_search;
  }

  const PlaceClasses& classes_of(Problem& problem) {
    const auto [entry, is_new] = classes_.try_emplace(&problem);
    if (is_new) {
      entry->second = place_classes(problem);
    }
    return entry->second;
  }

  // Devices times weighted time of one micro-batch of each layer, on the mesh that wastes least.
  const std::vector<double>& block_work_of(Problem& problem, TieCase tie) {
    const auto [entry, is_new] = work_.try_emplace({&problem, tie});
    if (!is_new) {
      return entry->second;
    }
    StageSearch& stages = stages_of(problem, 1, tie);
    const double weight = 1.0 / (problem.num_microbatches() + most_stages_of(problem) - 1);
    std::map<int, double> least;  // by block
    for (int layer = 0; layer < problem.num_layers(); ++layer) {
      const auto [work, is_new_block] = least.try_emplace(problem.block_of(layer), kForbidden);
      for (const PlaceClass& place : classes_of(problem).classes) {
        for (const int shape : is_new_block ? place.shapes : std::vector<int>{}) {
          StageKey key;
          key.shape = shape;
          key.begin = layer;
          key.end = layer + 1;
          work->second = std::min(work->second, place.size * stages.bound(key, weight));
        }
      }
      entry->second.push_back(work->second);
    }
    return entry->second;
  }

  // Of the chain's layers, as a relaxation weighs them: above zero and finite.
  const std::vector<double>& layer_work_of(Problem& problem, StageSearch& stages, TieCase tie) {
    const auto [entry, is_new] = layer_work_.try_emplace(&stages);
    if (is_new) {
      const LayerChain& chain = stages.chain();
      for (int i = 0; i < chain.size(); ++i) {
        const double work = block_work_of(
            problem, tie)[static_cast<std::size_t>(chain.layers[static_cast<std::size_t>(i)])];
        entry->second.push_back(work == kForbidden ? 1 : std::max(1.0, chain.times(i) * work));
      }
    }
    return entry->second;
  }

  RunBounds& runs_of(Problem& problem, StageSearch& stages, const PipelineShape& shape) {
    std::unique_ptr<RunBounds>& runs = runs_[{&stages, shape.schedule == Schedule::kInterleaved}];
    if (runs == nullptr) {
      runs = std::make_unique<RunBounds>(problem,
                                         stages,
                                         classes_of(problem).classes,
                                         layer_work_of(problem, stages, shape.tie),
                                         shape);
    }
    return *runs;
  }

  // In the weighted times of pipeline_search.h: with N devices the largest is at least work / N,
  // and their sum at least work / (N - P + 1), for no stage is larger than that.
  double work_bound(const Combination& combination) {
    Problem& problem = *combination.problem;
    double work = 0;
    for (const double layer : block_work_of(problem, combination.tie)) {
      work += layer;
    }
    const double devices = problem.places().num_free(0);
    const double period = work / devices;
    const int m = problem.num_microbatches();
    if (combination.chunks > 1) {
      // work counts every layer of the model: each of the chunks.
      return (m + static_cast<double>(combination.stages - 1) / combination.chunks) * period;
    }
    return (m - 1) * period + work / (devices - combination.stages + 1);
  }

  bool is_done(const Combination& combination) const {
    return combination.next == Step::kNothing ||
           (limits_.effort == Effort::kGlance && combination.next == Step::kSharpen);
  }

  // Combination of least bound that is not done; ties: the earlier one.
  Combination* least() {
    Combination* best = nullptr;
    for (Combination& combination : combinations_) {
      if (!is_done(combination) &&
          (best == nullptr || combination.search->bound() < best->search->bound())) {
        best = &combination;
      }
    }
    return best;
  }

  const CombinationLimits limits_;
  Incumbent& incumbent_;
  std::vector<Combination> combinations_;
  std::map<const Problem*, PlaceClasses> classes_;
  std::map<std::pair<const Problem*, TieCase>, std::vector<double>> work_;  // by layer
  std::map<const StageSearch*, std::vector<double>> layer_work_;            // by layer of the chain
  std::map<std::tuple<const Problem*, int, TieCase>, std::unique_ptr<StageSearch>> stages_;
  std::map<std::pair<const StageSearch*, bool>, std::unique_ptr<RunBounds>> runs_;
};

CombinationSearch::CombinationSearch(const CombinationLimits& limits, Incumbent& incumbent)
    : impl_(std::make_unique<Impl>(limits, incumbent)) {}
CombinationSearch::~CombinationSearch() = default;

void CombinationSearch::add(Problem& problem) { impl_->add(problem); }
void CombinationSearch::run() { impl_->run(); }
double CombinationSearch::bound() const { return impl_->bound(); }

}  // namespace shardwise::planning
