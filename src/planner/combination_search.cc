#include "planner/combination_search.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>

namespace shardwise::planning {

namespace {

struct Combination {
  std::unique_ptr<PipelineSearch> search;
  int stages = 1;
  double coarse_weight = 0;  // serves all numbers of stages of a micro-batch count
  bool is_sharp = false;
  bool is_solved = false;
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
    // One stage first: quickly done, and its best plan spares looking closely at most of the rest.
    for (Combination& combination : combinations_) {
      if (combination.stages == 1) {
        combination.search->raise_bound(combination.search->step_weight());
      }
    }
    close_below(1);
    for (Combination& combination : combinations_) {
      if (combination.stages > 1) {
        combination.search->raise_bound(combination.coarse_weight);
        combination.search->release();
      }
    }
    close_below(std::numeric_limits<int>::max());
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

  // Looks at combinations of at most so many stages, least bound first, until none can win.
  void close_below(int most_stages) {
    while (Combination* next = least(most_stages)) {
      if (next->search->bound() >= incumbent_.cutoff()) {
        break;
      }
      if (!next->is_sharp) {
        next->search->sharpen();
        next->is_sharp = true;
      } else {
        next->search->solve();
        next->is_solved = true;
      }
      next->search->release();
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
    Combination combination;
    combination.search = std::make_unique<PipelineSearch>(
        problem, *stage_search, PipelineShape{schedule, stages, chunks, tie}, incumbent_);
    combination.stages = stages;
    const int most_stages = most_stages_of(problem);
    combination.coarse_weight = 1.0 / (problem.num_microbatches() + most_stages - 1);
    combinations_.push_back(std::move(combination));
  }

  // Unsolved combination of least bound; ties: the earlier one.
  Combination* least(int most_stages) {
    Combination* best = nullptr;
    for (Combination& combination : combinations_) {
      if (!combination.is_solved && combination.stages <= most_stages &&
          (best == nullptr || combination.search->bound() < best->search->bound())) {
        best = &combination;
      }
    }
    return best;
  }

  const CombinationLimits limits_;
  Incumbent& incumbent_;
  std::vector<Combination> combinations_;
  std::map<std::tuple<const Problem*, int, TieCase>, std::unique_ptr<StageSearch>> stages_;
};

CombinationSearch::CombinationSearch(const CombinationLimits& limits, Incumbent& incumbent)
    : impl_(std::make_unique<Impl>(limits, incumbent)) {}
CombinationSearch::~CombinationSearch() = default;

void CombinationSearch::add(Problem& problem) { impl_->add(problem); }
void CombinationSearch::run() { impl_->run(); }
double CombinationSearch::bound() const { return impl_->bound(); }

}  // namespace shardwise::planning
