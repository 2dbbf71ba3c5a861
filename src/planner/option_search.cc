// All options of a block within a limit that no other beats.
//
// The block is cut into *pieces* where only one activation crosses: behind a residual addition,
// say. The choice of the op that makes this activation is all that both sides know of each other.
// For each mode:
//   1. choices of ops that cannot be part of an option within the limit are dropped
//      (min-marginals of the relaxed sum)
//   2. each piece, for each way to end it, is a graph of states: ops from the last to the first,
//      state = for each open tensor the classes of its uses so far. Arcs are choices; when the
//      producer of a tensor is reached, the tensor is closed and its cost is known
//   3. least costs through pieces give each piece its own limit for each pair of ends
//   4. labels (costs so far) walk through the state graphs; those beaten by another label of the
//      same state, and those whose least way to the end exceeds the limit, are dropped
//   5. labels of pieces are joined into options
//
// Going backwards, all that the peak of memory in the *backward* pass needs of later ops is known:
// their gradients that still wait (in the state), and what they saved and have freed. What is
// recorded is a lower bound of what the layer needs beyond all that it saves; it is exact but for
// values that only rest while others compute, and those that a later op saved although an earlier
// one made them.
#include "planner/option_search.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "core/errors.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

constexpr std::int64_t kNothing = std::numeric_limits<std::int64_t>::min() / 4;

// Bytes that are alive at once less those saved by these ops and later ones, from below.
struct Peak {
  std::int64_t forward = kNothing;
  std::int64_t backward = kNothing;  // values made again included
  std::int64_t again = 0;            // values made again for backward by full recomputation
  std::int64_t momentary = 0;        // gathered weights, whole gradients of one op
  std::int64_t held = 0;             // gathered weights that stay from recomputation to backward

  bool operator==(const Peak&) const = default;
};

// `later` happens before `earlier` in backward, and what `earlier` makes again is alive then. What
// `later` saves is not alive while `earlier` runs: not yet, or no more.
Peak join(const Peak& later, std::int64_t saved_later, const Peak& earlier) {
  return {std::max(later.forward, earlier.forward - saved_later),
          std::max(later.backward + earlier.again, earlier.backward - saved_later),
          later.again + earlier.again,
          std::max(later.momentary, earlier.momentary),
          later.held + earlier.held};
}

std::int64_t transient_of(const Peak& peak) {
  return std::max<std::int64_t>({peak.forward, peak.backward, 0}) + peak.momentary + peak.held;
}

struct Label {
  Cost cost;
  Peak peak;
  double value = 0;
  int signature = -1;
  bool saves_input = false;
  bool saves_output = false;
  std::array<std::uint8_t, kMaxOps> choices{};
};

Label join(const Label& later, const Label& earlier) {
  Label both = later;
  both.cost += earlier.cost;
  both.peak = join(later.peak, later.cost.saved, earlier.peak);
  both.value += earlier.value;
  both.signature = std::max(later.signature, earlier.signature);
  both.saves_input |= earlier.saves_input;
  both.saves_output |= earlier.saves_output;
  for (std::size_t o = 0; o < kMaxOps; ++o) {
    both.choices[o] = static_cast<std::uint8_t>(both.choices[o] | earlier.choices[o]);
  }
  return both;
}

bool is_beaten(const Label& b, const Label& a, const Criteria& criteria) {
  if (a.signature != b.signature) {
    return false;
  }
  if (criteria.joint_time > 0) {
    if (criteria.joint_time * a.cost.time() + a.cost.per_step >
        criteria.joint_time * b.cost.time() + b.cost.per_step) {
      return false;
    }
  } else {
    const bool is_slower = criteria.splits_forward ? a.cost.forward > b.cost.forward ||
                                                         a.cost.backward > b.cost.backward
                                                   : a.cost.time() > b.cost.time();
    if (is_slower || a.cost.per_step > b.cost.per_step) {
      return false;
    }
  }
  if (!criteria.memory) {
    return true;
  }
  if (!holds_less(a.cost, b.cost, criteria)) {
    return false;
  }
  const std::int64_t less = spared(a.cost, b.cost, criteria);
  return a.peak.forward <= b.peak.forward + less && a.peak.backward <= b.peak.backward + less &&
         a.peak.again <= b.peak.again && a.peak.momentary <= b.peak.momentary &&
         a.peak.held <= b.peak.held && (a.saves_input || !b.saves_input) &&
         (a.saves_output || !b.saves_output);
}

void check(const Criteria& criteria) {
  if (criteria.deadline != nullptr) {
    criteria.deadline->check();
  }
}

// Adds the label unless another beats it; drops those it beats.
void insert(std::vector<Label>& front, const Label& label, const Criteria& criteria) {
  if (!criteria.keeps_all) {
    for (const Label& other : front) {
      if (is_beaten(label, other, criteria)) {
        return;
      }
    }
    std::erase_if(front, [&](const Label& other) { return is_beaten(other, label, criteria); });
  }
  front.push_back(label);
}

// A run of ops [begin, end) between two cuts.
struct Piece {
  int begin = 0;
  int end = 0;
  // Tensor that enters it (made by op begin - 1, or the block's input), or -1.
  TensorIndex entry = -1;
  // Whether it ends with the choice of op end - 1, whose result leaves it, or with the block's
  // output layout.
  bool ends_with_op = false;
};

std::vector<Piece> cut_into_pieces(const BlockCosts& costs) {
  const Block& block = costs.block();
  std::vector<Piece> pieces;
  Piece piece;
  piece.entry = costs.has_input() ? block.inputs[0] : -1;
  for (int o = 0; o < costs.num_ops(); ++o) {
    // Tensors made up to op o and used (or left to the next layer) after it.
    std::vector<TensorIndex> crossing;
    for (TensorIndex t = 0; t < static_cast<int>(block.tensors.size()); ++t) {
      if (!costs.has_cost(t) || costs.producer(t) > o) {
        continue;
      }
      bool crosses = costs.is_output(t);
      for (const BlockCosts::TensorUse& use : costs.uses(t)) {
        crosses |= use.op > o;
      }
      if (crosses) {
        crossing.push_back(t);
      }
    }
    if (crossing.size() == 1 && costs.producer(crossing[0]) == o) {
      piece.end = o + 1;
      piece.ends_with_op = true;
      pieces.push_back(piece);
      piece = {o + 1, o + 1, crossing[0], false};
    }
  }
  piece.end = costs.num_ops();
  if (piece.begin < piece.end || costs.has_output()) {
    pieces.push_back(piece);
  }
  return pieces;
}

struct Arc {
  int from = 0;
  int to = 0;
  int choice = 0;
  double value = 0;
  Cost cost;
  Peak peak;  // of this op alone
  bool saves_input = false;
  bool saves_output = false;
};

// State graph of one piece for one way to end it.
class PieceGraph {
 public:
  PieceGraph(const BlockCosts& costs,
             const Mode& mode,
             const Weights& weights,
             const Domains& domains,
             const Piece& piece,
             int end_choice)
      : costs_(costs),
        mode_(mode),
        weights_(weights),
        domains_(domains),
        piece_(piece),
        end_choice_(end_choice) {
    build();
  }

  // Least cost to each choice at the beginning.
  const std::vector<double>& least() const { return least_; }

  // Labels that reach a beginning within its limit; indexed by the beginning.
  std::vector<std::vector<Label>> labels(const std::vector<double>& limits,
                                         const Criteria& criteria,
                                         std::size_t& count) const {
    const int num_layers = static_cast<int>(layers_.size());
    // Least way from a state to a beginning, less the limit there.
    std::vector<std::vector<double>> to_go(layers_.size());
    for (int l = num_layers - 1; l >= 0; --l) {
      to_go[at(l)].assign(states_in(l), kForbidden);
      for (const Arc& arc : layers_[at(l)].arcs) {
        const double rest =
            l + 1 == num_layers ? -limits[at(arc.to)] : to_go[at(l + 1)][at(arc.to)];
        double& least = to_go[at(l)][at(arc.from)];
        least = std::min(least, arc.value + rest);
      }
    }
    std::vector<std::vector<Label>> fronts(states_in(0));
    fronts[0].push_back(start_);
    for (int l = 0; l < num_layers; ++l) {
      const bool is_last = l + 1 == num_layers;
      const std::size_t num_next = is_last ? limits.size() : states_in(l + 1);
      std::vector<std::vector<Label>> next(num_next);
      for (const Arc& arc : layers_[at(l)].arcs) {
        const double rest = is_last ? -limits[at(arc.to)] : to_go[at(l + 1)][at(arc.to)];
        for (const Label& label : fronts[at(arc.from)]) {
          check(criteria);
          if (label.value + arc.value + rest > 0 || count > criteria.most_labels) {
            continue;
          }
          Label longer = label;
          longer.cost += arc.cost;
          longer.value += arc.value;
          longer.peak = join(label.peak, label.cost.saved, arc.peak);
          longer.saves_input |= arc.saves_input;
          longer.saves_output |= arc.saves_output;
          if (layers_[at(l)].op >= 0) {
            set_choice(longer, layers_[at(l)].op, arc.choice);
          }
          const std::size_t before = next[at(arc.to)].size();
          insert(next[at(arc.to)], longer, criteria);
          count += next[at(arc.to)].size() > before ? 1 : 0;
        }
      }
      fronts = std::move(next);
    }
    return fronts;
  }

 private:
  // One op's arcs; the last layer has no op: it closes the tensor that enters the piece.
  struct Layer {
    int op = -1;
    std::vector<Arc> arcs;
    std::size_t num_states = 0;  // it starts from
  };
  // Uses of a tensor so far, ascending.
  struct Open {
    TensorIndex tensor = 0;
    std::vector<UseClassId> uses;
  };
  using State = std::vector<Open>;  // by tensor

  std::size_t states_in(int layer) const { return layers_[at(layer)].num_states; }

  static std::string key_of(const State& state) {
    std::string key;
    for (const Open& open : state) {
      key.push_back(static_cast<char>(open.tensor));
      key.push_back(static_cast<char>(open.tensor >> 8));
      key.push_back(static_cast<char>(open.uses.size()));
      for (const UseClassId use : open.uses) {
        key.push_back(static_cast<char>(use));
      }
    }
    return key;
  }

  static Open& open_tensor(State& state, TensorIndex tensor) {
    auto place =
        std::lower_bound(state.begin(), state.end(), tensor, [](const Open& open, TensorIndex t) {
          return open.tensor < t;
        });
    if (place == state.end() || place->tensor != tensor) {
      place = state.insert(place, Open{tensor, {}});
    }
    return *place;
  }

  static void add_use(State& state, TensorIndex tensor, UseClassId use) {
    std::vector<UseClassId>& uses = open_tensor(state, tensor).uses;
    uses.insert(std::lower_bound(uses.begin(), uses.end(), use), use);
  }

  void set_choice(Label& label, int op, int choice) const {
    label.choices[at(op)] = static_cast<std::uint8_t>(choice);
    label.signature = std::max(label.signature, costs_.signature(op, choice, mode_));
  }

  void add_uses_of_op(State& state, int op, int choice) const {
    const std::vector<Operand>& inputs = costs_.block().ops[at(op)].inputs;
    for (int i = 0; i < static_cast<int>(inputs.size()); ++i) {
      if (costs_.has_cost(inputs[at(i)].tensor)) {
        add_use(state, inputs[at(i)].tensor, costs_.use_class(op, i, choice));
      }
    }
  }

  void build() {
    State start;
    int next_op = piece_.end - 1;
    if (piece_.ends_with_op) {
      const int op = piece_.end - 1;
      // The result of this op is closed by the next piece, which knows its uses.
      start_.cost = costs_.op_cost(op, end_choice_, mode_);
      start_.value = weights_.of(start_.cost);
      start_.peak = peak_of(op, end_choice_, State{}, 0, 0, false);
      set_choice(start_, op, end_choice_);
      add_uses_of_op(start, op, end_choice_);
      --next_op;
    } else if (costs_.has_output()) {
      add_use(start, costs_.block().outputs[0], costs_.output_class(end_choice_));
    }
    std::vector<State> states{std::move(start)};
    std::vector<double> best{start_.value};
    for (int op = next_op; op >= piece_.begin; --op) {
      add_layer(op, states, best);
    }
    close_entry(states, best);
  }

  void add_layer(int op, std::vector<State>& states, std::vector<double>& best) {
    Layer layer;
    layer.op = op;
    layer.num_states = states.size();
    std::vector<State> next;
    std::vector<double> next_best;
    std::unordered_map<std::string, int> known;
    for (int s = 0; s < static_cast<int>(states.size()); ++s) {
      for (const int choice : domains_[at(op)]) {
        Arc arc;
        arc.from = s;
        arc.choice = choice;
        State state = states[at(s)];
        if (!take_op(op, choice, state, arc)) {
          continue;
        }
        const auto [entry, is_new] =
            known.try_emplace(key_of(state), static_cast<int>(next.size()));
        if (is_new) {
          next.push_back(std::move(state));
          next_best.push_back(kForbidden);
        }
        arc.to = entry->second;
        next_best[at(arc.to)] = std::min(next_best[at(arc.to)], best[at(s)] + arc.value);
        layer.arcs.push_back(arc);
      }
    }
    layers_.push_back(std::move(layer));
    states = std::move(next);
    best = std::move(next_best);
  }

  // Closes the op's results and opens its inputs. False if padding forbids it.
  bool take_op(int op, int choice, State& state, Arc& arc) const {
    const Op& what = costs_.block().ops[at(op)];
    arc.cost = costs_.op_cost(op, choice, mode_);
    const std::int64_t statistics = arc.cost.saved;
    std::int64_t kept_results = 0;
    std::int64_t read_results = 0;  // of those, what the op's own backward reads
    std::int64_t results_again = 0;
    for (const Operand& output : what.outputs) {
      const auto open = std::find_if(
          state.begin(), state.end(), [&](const Open& o) { return o.tensor == output.tensor; });
      if (open == state.end()) {
        continue;  // the loss
      }
      const Closing closing = costs_.close(output.tensor, choice, open->uses, mode_.recompute);
      if (!closing.possible) {
        return false;
      }
      arc.cost += closing.cost;
      arc.saves_output |= closing.keeps_output;
      if (closing.keeps_produced) {
        const std::int64_t bytes = costs_.produced_bytes(output.tensor, choice);
        kept_results += bytes;
        read_results += costs_.producer_saves(output.tensor) ? bytes : 0;
      }
      results_again += saved_result_again(output.tensor, choice, open->uses);
      state.erase(open);
    }
    arc.peak = peak_of(op, choice, state, kept_results, results_again, true);
    // Of what is closed here, all results that are kept live in forward; in backward those do that
    // the op itself reads. Other layouts of them are later ops'.
    const std::int64_t kept = arc.cost.saved - statistics;
    arc.peak.forward -= kept - kept_results;
    arc.peak.backward -= kept - read_results;
    add_uses_of_op(state, op, choice);
    arc.value = weights_.of(arc.cost);
    return true;
  }

  // Full recomputation: bytes of a result that the op's own backward reads, unless a use counts it.
  std::int64_t saved_result_again(TensorIndex tensor,
                                  int choice,
                                  const std::vector<UseClassId>& uses) const {
    if (mode_.recompute != Recompute::kFull || !costs_.producer_saves(tensor)) {
      return 0;
    }
    for (const UseClassId use : uses) {
      if (costs_.is_needed(tensor, use) &&
          costs_.wanted_layout(tensor, use) == costs_.produced_layout(tensor, choice)) {
        return 0;
      }
    }
    return costs_.produced_bytes(tensor, choice);
  }

  // Lower bounds on what is alive around op's kernels. `rest`: tensors of later ops that are still
  // open, the op's own inputs aside. `knows_results`: the op's results are closed, `kept_results`
  // bytes of them count as saved.
  Peak peak_of(int op,
               int choice,
               const State& rest,
               std::int64_t kept_results,
               std::int64_t results_again,
               bool knows_results) const {
    const Op& what = costs_.block().ops[at(op)];
    const bool is_full = mode_.recompute == Recompute::kFull;
    Peak peak;
    const BlockCosts::ParameterMemory& memory = costs_.parameter_memory(op, choice, mode_);
    peak.momentary = memory.momentary;
    peak.held = memory.held;
    std::int64_t gradients_read = 0;
    std::int64_t results = 0;
    for (const Operand& output : what.outputs) {
      if (costs_.has_cost(output.tensor)) {
        results += costs_.produced_bytes(output.tensor, choice);
        gradients_read += costs_.produced_gradient_bytes(output.tensor, choice);
      }
    }
    if (knows_results) {
      peak.forward = costs_.workspace(op, choice, true) + results - kept_results;
    }
    std::int64_t needed_again = is_full ? costs_.statistics_bytes(op, choice) + results_again : 0;
    peak.again = needed_again;
    std::int64_t gradients_written = 0;
    for (int i = 0; i < static_cast<int>(what.inputs.size()); ++i) {
      const TensorIndex tensor = what.inputs[at(i)].tensor;
      if (!costs_.has_cost(tensor) || is_repeated(what, i)) {
        continue;
      }
      const UseClassId use = costs_.use_class(op, i, choice);
      gradients_written += costs_.gradient_bytes(tensor, use);
      if (is_full && costs_.producer(tensor) >= 0 && costs_.is_needed(tensor, use)) {
        const std::int64_t bytes = costs_.wanted_bytes(tensor, use);
        needed_again += bytes;
        peak.again += is_wanted_already(rest, tensor, use) ? 0 : bytes;
      }
      const bool rests_in_forward =
          is_full ? costs_.producer(tensor) >= 0
                  : costs_.uses(tensor).size() == 1 && !costs_.is_needed(tensor, use) &&
                        !costs_.producer_saves(tensor) && !costs_.is_output(tensor);
      if (knows_results && what.kind != OpKind::kAdd && rests_in_forward) {
        peak.forward += costs_.wanted_bytes(tensor, use);
      }
    }
    const std::int64_t freed = freed_by_later(op, choice, rest);
    peak.forward -= knows_results ? freed : 0;
    if (what.kind != OpKind::kAdd) {
      peak.backward = costs_.workspace(op, choice, false) + gradients_written + needed_again +
                      std::max(gradients_read, waiting_gradients(rest)) - freed;
    }
    return peak;
  }

  // Most bytes of open tensors that only later ops save: not yet there in forward, freed in
  // backward.
  std::int64_t freed_by_later(int op, int choice, const State& rest) const {
    if (mode_.recompute == Recompute::kFull) {
      return 0;  // nothing but the block's input, and that is never freed
    }
    const std::vector<Operand>& inputs = costs_.block().ops[at(op)].inputs;
    std::int64_t freed = 0;
    for (const Open& open : rest) {
      std::vector<int> counted;  // layouts
      for (int i = 0; i < static_cast<int>(inputs.size()); ++i) {
        if (inputs[at(i)].tensor == open.tensor) {
          const UseClassId own = costs_.use_class(op, i, choice);
          if (costs_.is_needed(open.tensor, own)) {
            counted.push_back(costs_.wanted_layout(open.tensor, own));
          }
        }
      }
      for (const UseClassId use : open.uses) {
        const int layout = costs_.wanted_layout(open.tensor, use);
        if (costs_.is_needed(open.tensor, use) &&
            std::find(counted.begin(), counted.end(), layout) == counted.end()) {
          counted.push_back(layout);
          freed += costs_.wanted_bytes(open.tensor, use);
        }
      }
    }
    return freed;
  }

  static bool is_repeated(const Op& op, int input) {
    for (int i = 0; i < input; ++i) {
      if (op.inputs[at(i)].tensor == op.inputs[at(input)].tensor) {
        return true;
      }
    }
    return false;
  }

  bool is_wanted_already(const State& state, TensorIndex tensor, UseClassId use) const {
    for (const Open& open : state) {
      if (open.tensor != tensor) {
        continue;
      }
      for (const UseClassId other : open.uses) {
        if (costs_.is_needed(tensor, other) &&
            costs_.wanted_layout(tensor, other) == costs_.wanted_layout(tensor, use)) {
          return true;
        }
      }
    }
    return false;
  }

  // Gradients of later uses that wait for earlier ones. Addends of one sum share its gradient: of
  // those, only the largest tensor's count.
  std::int64_t waiting_gradients(const State& state) const {
    std::int64_t own = 0;
    std::int64_t largest_addend = 0;
    for (const Open& open : state) {
      std::int64_t of_sums = 0;
      for (std::size_t i = 0; i < open.uses.size(); ++i) {
        const int layout = costs_.gradient_layout_of(open.tensor, open.uses[i]);
        bool is_first = layout >= 0;
        bool is_addend = true;
        for (std::size_t j = 0; j < open.uses.size(); ++j) {
          if (costs_.gradient_layout_of(open.tensor, open.uses[j]) == layout) {
            is_first &= j >= i;
            is_addend &= costs_.is_addend(open.tensor, open.uses[j]);
          }
        }
        if (is_first) {
          (is_addend ? of_sums : own) += costs_.gradient_bytes(open.tensor, open.uses[i]);
        }
      }
      largest_addend = std::max(largest_addend, of_sums);
    }
    return own + largest_addend;
  }

  void close_entry(const std::vector<State>& states, const std::vector<double>& best) {
    Layer layer;
    layer.num_states = states.size();
    const int producer = piece_.entry < 0 ? -1 : costs_.producer(piece_.entry);
    std::vector<int> beginnings;
    if (producer >= 0) {
      beginnings = domains_[at(producer)];
    } else {
      for (int i = 0; i < static_cast<int>(costs_.inputs().size()); ++i) {
        beginnings.push_back(i);
      }
    }
    const std::size_t num_beginnings =
        producer >= 0 ? costs_.choices(producer).size() : costs_.inputs().size();
    least_.assign(num_beginnings, kForbidden);
    for (int s = 0; s < static_cast<int>(states.size()); ++s) {
      const State& state = states[at(s)];
      SHARDWISE_CHECK(state.size() == (piece_.entry >= 0 ? 1U : 0U),
                      "one activation enters a piece");
      for (const int beginning : beginnings) {
        Arc arc;
        arc.from = s;
        arc.to = beginning;
        if (piece_.entry >= 0) {
          const Closing closing =
              costs_.close(piece_.entry, beginning, state[0].uses, mode_.recompute);
          if (!closing.possible) {
            continue;
          }
          arc.cost = closing.cost;
          arc.value = weights_.of(closing.cost);
          arc.saves_output = closing.keeps_output;
          arc.saves_input = producer < 0 && closing.keeps_produced;
          arc.peak.again =
              producer < 0 ? 0 : saved_result_again(piece_.entry, beginning, state[0].uses);
        }
        least_[at(beginning)] = std::min(least_[at(beginning)], best[at(s)] + arc.value);
        layer.arcs.push_back(arc);
      }
    }
    layers_.push_back(std::move(layer));
  }

  const BlockCosts& costs_;
  const Mode& mode_;
  const Weights& weights_;
  const Domains& domains_;
  const Piece& piece_;
  const int end_choice_;
  Label start_;
  std::vector<Layer> layers_;
  std::vector<double> least_;
};

// All options of one mode.
class ModeSearch {
 public:
  ModeSearch(const BlockCosts& costs,
             BlockRelaxation& relaxation,
             const Mode& mode,
             const Weights& weights,
             const Matrix& limit,
             const Criteria& criteria,
             const std::vector<Piece>& pieces)
      : costs_(costs),
        relaxation_(relaxation),
        mode_(mode),
        weights_(weights),
        limit_(limit),
        criteria_(criteria),
        pieces_(pieces) {}

  // Labels by (input, output), row-major.
  std::vector<std::vector<Label>> search(std::size_t& count) {
    std::vector<std::vector<Label>> found(limit_.values.size());
    if (!restrict_domains()) {
      return found;
    }
    build_graphs();
    add_potentials();
    const std::size_t last = pieces_.size() - 1;
    for (int output = 0; output < limit_.columns; ++output) {
      // Labels from a cut to this output, by the choice at the cut.
      std::vector<std::vector<Label>> tails = piece_labels(last, output, output, count);
      for (std::size_t p = last; p-- > 0;) {
        std::vector<std::vector<Label>> longer(num_beginnings(p));
        for (int end = 0; end < static_cast<int>(tails.size()); ++end) {
          if (tails[at(end)].empty()) {
            continue;
          }
          const std::vector<std::vector<Label>> heads = piece_labels(p, end, -1, count);
          for (int beginning = 0; beginning < static_cast<int>(heads.size()); ++beginning) {
            const double allowed = allowance(p, beginning, output);
            for (const Label& head : heads[at(beginning)]) {
              check(criteria_);
              for (const Label& tail : tails[at(end)]) {
                if (head.value + tail.value <= allowed && count <= criteria_.most_labels) {
                  insert(longer[at(beginning)], join(tail, head), criteria_);
                  ++count;
                }
              }
            }
          }
        }
        tails = std::move(longer);
      }
      for (int input = 0; input < limit_.rows; ++input) {
        found[at(input * limit_.columns + output)] = std::move(tails[at(input)]);
      }
    }
    return found;
  }

 private:
  // False if no option of this mode is within the limit.
  bool restrict_domains() {
    domains_ = all_choices(costs_);
    for (bool is_whole = true;; is_whole = false) {
      EliminationPool pool;
      std::optional<BlockRelaxation> narrowed;
      if (!is_whole) {
        narrowed.emplace(costs_, domains_, pool);
      }
      BlockRelaxation& relaxation = is_whole ? relaxation_ : *narrowed;
      const std::vector<std::vector<double>> marginals =
          relaxation.sum(mode_, weights_).min_marginals(limit_.values);
      bool is_smaller = false;
      for (std::size_t o = 0; o < domains_.size(); ++o) {
        std::vector<int> rest;
        for (std::size_t i = 0; i < domains_[o].size(); ++i) {
          if (marginals[o][i] <= 0) {
            rest.push_back(domains_[o][i]);
          }
        }
        is_smaller |= rest.size() < domains_[o].size();
        domains_[o] = std::move(rest);
        if (domains_[o].empty()) {
          return false;
        }
      }
      if (!is_smaller) {
        return true;
      }
    }
  }

  std::size_t num_beginnings(std::size_t piece) const {
    const TensorIndex entry = pieces_[piece].entry;
    const int producer = entry < 0 ? -1 : costs_.producer(entry);
    return producer < 0 ? costs_.inputs().size() : costs_.choices(producer).size();
  }
  std::size_t num_ends(std::size_t piece) const {
    return pieces_[piece].ends_with_op ? costs_.choices(pieces_[piece].end - 1).size()
                                       : costs_.outputs().size();
  }
  std::vector<int> ends_of(std::size_t piece) const {
    if (pieces_[piece].ends_with_op) {
      return domains_[at(pieces_[piece].end - 1)];
    }
    std::vector<int> ends;
    ends.reserve(costs_.outputs().size());
    for (int i = 0; i < static_cast<int>(costs_.outputs().size()); ++i) {
      ends.push_back(i);
    }
    return ends;
  }

  void build_graphs() {
    graphs_.resize(pieces_.size());
    for (std::size_t p = 0; p < pieces_.size(); ++p) {
      graphs_[p].resize(num_ends(p));
      for (const int end : ends_of(p)) {
        check(criteria_);
        graphs_[p][at(end)] =
            std::make_unique<PieceGraph>(costs_, mode_, weights_, domains_, pieces_[p], end);
      }
    }
  }

  // before_[p](input, beginning of p) and after_[p](end of p, output): least costs.
  void add_potentials() {
    before_.assign(pieces_.size(), Matrix());
    after_.assign(pieces_.size(), Matrix());
    before_[0] = Matrix(limit_.rows, limit_.rows, kForbidden);
    for (int i = 0; i < limit_.rows; ++i) {
      before_[0](i, i) = 0;
    }
    for (std::size_t p = 0; p + 1 < pieces_.size(); ++p) {
      before_[p + 1] = Matrix(limit_.rows, static_cast<int>(num_ends(p)), kForbidden);
      for (const int end : ends_of(p)) {
        const std::vector<double>& least = graphs_[p][at(end)]->least();
        for (int input = 0; input < limit_.rows; ++input) {
          double& value = before_[p + 1](input, end);
          for (int b = 0; b < static_cast<int>(least.size()); ++b) {
            value = std::min(value, before_[p](input, b) + least[at(b)]);
          }
        }
      }
    }
    const std::size_t last = pieces_.size() - 1;
    after_[last] = Matrix(limit_.columns, limit_.columns, kForbidden);
    for (int i = 0; i < limit_.columns; ++i) {
      after_[last](i, i) = 0;
    }
    for (std::size_t p = last; p-- > 0;) {
      after_[p] = Matrix(static_cast<int>(num_ends(p)), limit_.columns, kForbidden);
      for (const int next_end : ends_of(p + 1)) {
        const std::vector<double>& least = graphs_[p + 1][at(next_end)]->least();
        for (int end = 0; end < after_[p].rows; ++end) {
          for (int output = 0; output < limit_.columns; ++output) {
            double& value = after_[p](end, output);
            value = std::min(value, least[at(end)] + after_[p + 1](next_end, output));
          }
        }
      }
    }
  }

  // Most that labels from this beginning of piece p to the output may cost.
  double allowance(std::size_t p, int beginning, int output) const {
    double most = -kForbidden;
    for (int input = 0; input < limit_.rows; ++input) {
      if (before_[p](input, beginning) < kForbidden) {
        most = std::max(most, limit_(input, output) - before_[p](input, beginning));
      }
    }
    return most;
  }

  // `only_output` < 0: for all outputs; remembered.
  std::vector<std::vector<Label>> piece_labels(std::size_t p,
                                               int end,
                                               int only_output,
                                               std::size_t& count) {
    const auto known = remembered_.find({p, end});
    if (known != remembered_.end()) {
      return known->second;
    }
    std::vector<double> limits(num_beginnings(p), -kForbidden);
    for (int b = 0; b < static_cast<int>(limits.size()); ++b) {
      for (int output = 0; output < limit_.columns; ++output) {
        if ((only_output < 0 || only_output == output) && after_[p](end, output) < kForbidden) {
          limits[at(b)] = std::max(limits[at(b)], allowance(p, b, output) - after_[p](end, output));
        }
      }
    }
    std::vector<std::vector<Label>> labels(limits.size());
    if (graphs_[p][at(end)] != nullptr) {
      labels = graphs_[p][at(end)]->labels(limits, criteria_, count);
    }
    if (only_output < 0) {
      remembered_.emplace(std::make_pair(p, end), labels);
    }
    return labels;
  }

  const BlockCosts& costs_;
  BlockRelaxation& relaxation_;  // of all choices
  const Mode& mode_;
  const Weights& weights_;
  const Matrix& limit_;
  const Criteria& criteria_;
  const std::vector<Piece>& pieces_;
  Domains domains_;
  std::vector<std::vector<std::unique_ptr<PieceGraph>>> graphs_;  // [piece][end]
  std::vector<Matrix> before_;
  std::vector<Matrix> after_;
  std::map<std::pair<std::size_t, int>, std::vector<std::vector<Label>>> remembered_;
};

Option option_of(const Label& label, const Mode& mode, int input, int output) {
  Option option;
  option.cost = label.cost;
  option.mode = mode;
  option.input = input;
  option.output = output;
  option.transient = transient_of(label.peak);
  option.saves_input = label.saves_input;
  option.saves_output = label.saves_output;
  option.signature = label.signature;
  option.choices = label.choices;
  return option;
}

}  // namespace

OptionSet find_options(const BlockCosts& costs,
                       BlockRelaxation& relaxation,
                       const std::vector<Mode>& modes,
                       const Weights& weights,
                       const Matrix& limit,
                       const Criteria& criteria) {
  SHARDWISE_CHECK(costs.num_ops() <= kMaxOps, "a block has at most 32 ops");
  OptionSet set;
  if (!costs.is_possible()) {
    return set;
  }
  const std::vector<Piece> pieces = cut_into_pieces(costs);
  std::vector<std::vector<std::pair<Label, int>>> fronts(limit.values.size());  // with mode
  std::size_t count = 0;
  for (std::size_t m = 0; m < modes.size(); ++m) {
    std::vector<std::vector<Label>> found =
        ModeSearch(costs, relaxation, modes[m], weights, limit, criteria, pieces).search(count);
    for (std::size_t i = 0; i < found.size(); ++i) {
      std::vector<std::pair<Label, int>>& front = fronts[i];
      for (Label& label : found[i]) {
        check(criteria);
        // Between modes only the sum of peaks counts.
        Label folded = label;
        folded.peak = {0, transient_of(label.peak), 0, 0, 0};
        const auto beats = [&](const Label& a, const Label& b) {
          return !criteria.keeps_all && is_beaten(b, a, criteria);
        };
        if (std::none_of(front.begin(), front.end(), [&](const auto& other) {
              return beats(other.first, folded);
            })) {
          std::erase_if(front, [&](const auto& other) { return beats(folded, other.first); });
          front.emplace_back(folded, static_cast<int>(m));
        }
      }
    }
  }
  set.is_complete = count <= criteria.most_labels;
  for (int input = 0; input < limit.rows; ++input) {
    for (int output = 0; output < limit.columns; ++output) {
      for (const auto& [label, mode] : fronts[at(input * limit.columns + output)]) {
        set.options.push_back(option_of(label, modes[at(mode)], input, output));
      }
    }
  }
  return set;
}

}  // namespace shardwise::planning
