#include "planner/elimination.h"

#include <algorithm>
#include <functional>
#include <span>
#include <utility>

#include "core/errors.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

bool contains(const std::vector<int>& list, int value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

// least[i] = min(least[i], flat + sum over rows of row[i]).
void lower(double* __restrict least,
           std::size_t size,
           double flat,
           std::span<const double* const> rows) {
  if (rows.size() == 1) {
    const double* a = rows[0];
    for (std::size_t i = 0; i < size; ++i) {
      const double sum = flat + a[i];
      least[i] = sum < least[i] ? sum : least[i];
    }
  } else if (rows.size() == 2) {
    const double* a = rows[0];
    const double* b = rows[1];
    for (std::size_t i = 0; i < size; ++i) {
      const double sum = flat + a[i] + b[i];
      least[i] = sum < least[i] ? sum : least[i];
    }
  } else {
    for (std::size_t i = 0; i < size; ++i) {
      double sum = flat;
      for (const double* row : rows) {
        sum += row[i];
      }
      least[i] = sum < least[i] ? sum : least[i];
    }
  }
}

}  // namespace

int Elimination::add_variable(int domain_size) {
  SHARDWISE_CHECK(domain_size >= 1, "a variable has a value");
  sizes_.push_back(domain_size);
  return static_cast<int>(sizes_.size()) - 1;
}

int Elimination::add_factor(std::vector<int> scope, std::vector<double> values) {
  SHARDWISE_CHECK(values.size() == table_size(scope), "a factor has a value for each combination");
  factors_.push_back({std::move(scope), std::move(values)});
  return static_cast<int>(factors_.size()) - 1;
}

std::size_t Elimination::table_size(const std::vector<int>& scope) const {
  std::size_t size = 1;
  for (const int variable : scope) {
    size *= at(sizes_[at(variable)]);
  }
  return size;
}

// Step in `table` for a step of each variable of `scope`; 0 for variables that it lacks.
std::vector<std::size_t> Elimination::strides_in(const std::vector<int>& scope,
                                                 const Table& table) const {
  std::vector<std::size_t> strides(scope.size(), 0);
  std::size_t stride = 1;
  for (std::size_t i = table.scope.size(); i-- > 0;) {
    const auto place = std::find(scope.begin(), scope.end(), table.scope[i]);
    SHARDWISE_CHECK(place != scope.end(), "a scope covers its tables");
    strides[static_cast<std::size_t>(place - scope.begin())] = stride;
    stride *= at(sizes_[at(table.scope[i])]);
  }
  return strides;
}

const Elimination::Table& Elimination::table_of(const Source& source) const {
  return source.is_factor ? factors_[at(source.number)] : buckets_[at(source.number)].message;
}

std::vector<std::uint32_t> Elimination::entries_in(const std::vector<int>& scope,
                                                   const Table& table) const {
  const std::vector<std::size_t> strides = strides_in(scope, table);
  std::vector<std::uint32_t> entries(table_size(scope));
  std::vector<int> digits(scope.size(), 0);
  std::size_t index = 0;
  for (std::uint32_t& entry : entries) {
    entry = static_cast<std::uint32_t>(index);
    for (std::size_t d = scope.size(); d-- > 0;) {
      index += strides[d];
      if (++digits[d] < sizes_[at(scope[d])]) {
        break;
      }
      index -= strides[d] * at(digits[d]);
      digits[d] = 0;
    }
  }
  return entries;
}

const double* Elimination::values_of(const View& view) const {
  return view.order.empty() ? table_of(view.source).values.data() : view.copy.data();
}

template <typename Visit>
void Elimination::for_each_row(const Bucket& bucket, Visit visit) const {
  const std::size_t size = bucket.views.size();
  std::vector<const double*> heads(size);
  const std::span<const double*> flats(heads.data(), bucket.num_flat);
  const std::span<const double* const> rows(heads.data() + bucket.num_flat, size - bucket.num_flat);
  const std::size_t num_rows = bucket.message.values.size() / bucket.row;
  for (std::size_t r = 0; r < num_rows; ++r) {
    for (std::size_t v = 0; v < size; ++v) {
      heads[v] = values_of(bucket.views[v]) + bucket.views[v].begins[r];
    }
    for (int value = 0; value < sizes_[at(bucket.variable)]; ++value) {
      double flat = 0;
      for (const double* head : flats) {
        flat += *head;
      }
      visit(r, value, flat, rows);
      for (std::size_t v = 0; v < size; ++v) {
        heads[v] += bucket.views[v].step;
      }
    }
  }
}

Elimination::Table Elimination::minimise_to(const Table& table,
                                            const std::vector<int>& scope) const {
  Table least{scope, std::vector<double>(table_size(scope), kForbidden)};
  const std::vector<std::size_t> strides = strides_in(table.scope, least);
  std::vector<int> digits(table.scope.size());
  std::size_t index = 0;
  for (const double value : table.values) {
    least.values[index] = std::min(least.values[index], value);
    for (std::size_t d = digits.size(); d-- > 0;) {
      index += strides[d];
      if (++digits[d] < sizes_[at(table.scope[d])]) {
        break;
      }
      index -= strides[d] * at(digits[d]);
      digits[d] = 0;
    }
  }
  return least;
}

void Elimination::run(const std::vector<int>& kept) {
  kept_ = kept;
  order_elimination();
  run_again();
}

void Elimination::order_elimination() {
  buckets_.clear();
  // Tables not yet consumed: factors, and messages by bucket number.
  std::vector<Source> open;
  open.reserve(factors_.size());
  for (int factor = 0; factor < static_cast<int>(factors_.size()); ++factor) {
    open.push_back({true, factor});
  }
  std::vector<int> remaining;
  for (int v = 0; v < static_cast<int>(sizes_.size()); ++v) {
    if (!contains(kept_, v)) {
      remaining.push_back(v);
    }
  }
  consumer_.assign(remaining.size(), -1);
  const auto neighbours = [&](int variable) {
    std::vector<int> scope;
    for (const Source& source : open) {
      const std::vector<int>& others = table_of(source).scope;
      if (contains(others, variable)) {
        for (const int other : others) {
          if (other != variable && !contains(scope, other)) {
            scope.push_back(other);
          }
        }
      }
    }
    std::sort(scope.begin(), scope.end());
    return scope;
  };
  while (!remaining.empty()) {
    int chosen = -1;
    std::size_t smallest = 0;
    for (const int variable : remaining) {
      const std::size_t size = table_size(neighbours(variable)) * at(sizes_[at(variable)]);
      if (chosen < 0 || size < smallest) {
        chosen = variable;
        smallest = size;
      }
    }
    Bucket bucket;
    bucket.variable = chosen;
    bucket.message.scope = neighbours(chosen);
    const int number = static_cast<int>(buckets_.size());
    std::erase_if(open, [&](const Source& source) {
      if (!contains(table_of(source).scope, chosen)) {
        return false;
      }
      if (!source.is_factor) {
        consumer_[at(source.number)] = number;
      }
      bucket.views.push_back({source, {}, 0, false, {}, {}});
      return true;
    });
    buckets_.push_back(std::move(bucket));
    open.push_back({false, number});
    std::erase(remaining, chosen);
  }
  lay_out();
  root_ = {kept_, std::vector<double>(table_size(kept_))};
  root_sources_.clear();
  for (const Source& source : open) {
    root_sources_.emplace_back(source, entries_in(kept_, table_of(source)));
  }
}

// Chooses along which variable the rows of each bucket run: the one that has most values. What
// takes a message up says how it is laid out, hence from the last bucket to the first.
void Elimination::lay_out() {
  for (std::size_t b = buckets_.size(); b-- > 0;) {
    Bucket& bucket = buckets_[b];
    std::vector<int>& scope = bucket.message.scope;
    const std::vector<int>& consumer =
        consumer_[b] < 0 ? kept_ : buckets_[at(consumer_[b])].message.scope;
    auto innermost = scope.end();
    if (!consumer.empty()) {
      innermost = std::find(scope.begin(), scope.end(), consumer.back());
    }
    if (innermost == scope.end()) {
      innermost = std::max_element(scope.begin(), scope.end(), [&](int a, int other) {
        return sizes_[at(a)] < sizes_[at(other)];
      });
    }
    if (innermost != scope.end()) {
      std::rotate(innermost, innermost + 1, scope.end());
    }
    bucket.message.values.resize(table_size(scope));
    bucket.row = scope.empty() ? 1 : at(sizes_[at(scope.back())]);
    bucket.scope = {bucket.variable};
    bucket.scope.insert(bucket.scope.end(), scope.begin(), scope.end());
  }
  for (Bucket& bucket : buckets_) {
    for (View& view : bucket.views) {
      view = view_of(bucket, view.source);
    }
    const auto flat_end = std::stable_partition(
        bucket.views.begin(), bucket.views.end(), [](const View& view) { return view.is_flat; });
    bucket.num_flat = static_cast<std::size_t>(flat_end - bucket.views.begin());
  }
}

Elimination::View Elimination::view_of(const Bucket& bucket, const Source& source) const {
  View view;
  view.source = source;
  Table table{table_of(source).scope, {}};
  const std::vector<int>& rows_of = bucket.message.scope;
  if (rows_of.empty() || !contains(table.scope, rows_of.back())) {
    view.is_flat = true;
  } else if (table.scope.back() != rows_of.back()) {
    Table copy = table;
    std::erase(copy.scope, rows_of.back());
    copy.scope.push_back(rows_of.back());
    view.order = entries_in(copy.scope, table);
    view.copy.resize(view.order.size());
    table = std::move(copy);
  }
  std::vector<std::size_t> strides = strides_in(bucket.scope, table);
  view.step = strides.front();
  // One entry for each row of the first value of the variable.
  std::vector<int> others = rows_of;
  if (!others.empty()) {
    others.pop_back();
  }
  std::vector<int> digits(others.size(), 0);
  std::size_t begin = 0;
  view.begins.resize(table_size(others));
  for (std::uint32_t& entry : view.begins) {
    entry = static_cast<std::uint32_t>(begin);
    for (std::size_t d = others.size(); d-- > 0;) {
      begin += strides[d + 1];
      if (++digits[d] < sizes_[at(others[d])]) {
        break;
      }
      begin -= strides[d + 1] * at(digits[d]);
      digits[d] = 0;
    }
  }
  return view;
}

void Elimination::copy_factors(Bucket& bucket) {
  for (View& view : bucket.views) {
    const std::vector<double>& values = table_of(view.source).values;
    std::transform(view.order.begin(), view.order.end(), view.copy.begin(), [&](std::uint32_t i) {
      return values[i];
    });
  }
}

void Elimination::run_again() {
  for (Bucket& bucket : buckets_) {
    copy_factors(bucket);
    std::vector<double>& least = bucket.message.values;
    std::fill(least.begin(), least.end(), kForbidden);
    for_each_row(bucket, [&](std::size_t r, int, double flat, std::span<const double* const> rows) {
      if (flat < kForbidden) {
        lower(least.data() + r * bucket.row, bucket.row, flat, rows);
      }
    });
  }
  std::fill(root_.values.begin(), root_.values.end(), 0);
  for (const auto& [source, entries] : root_sources_) {
    const std::vector<double>& values = table_of(source).values;
    for (std::size_t i = 0; i < root_.values.size(); ++i) {
      root_.values[i] += values[entries[i]];
    }
  }
}

Elimination& EliminationPool::with(const Structure& structure) {
  const auto [entry, is_new] = known_.try_emplace(structure);
  Elimination& sum = entry->second;
  if (is_new) {
    for (const int size : structure.sizes) {
      sum.add_variable(size);
    }
    for (const std::vector<int>& scope : structure.scopes) {
      std::size_t num_values = 1;
      for (const int variable : scope) {
        num_values *= at(structure.sizes[at(variable)]);
      }
      sum.add_factor(scope, std::vector<double>(num_values));
    }
    sum.run(structure.kept);
  }
  return sum;
}

std::vector<int> Elimination::minimiser(const std::vector<int>& kept_values) const {
  std::vector<int> values(sizes_.size(), 0);
  for (std::size_t i = 0; i < kept_.size(); ++i) {
    values[at(kept_[i])] = kept_values[i];
  }
  for (auto bucket = buckets_.rbegin(); bucket != buckets_.rend(); ++bucket) {
    std::size_t index = 0;
    for (const int variable : bucket->message.scope) {
      index = index * at(sizes_[at(variable)]) + at(values[at(variable)]);
    }
    double least = kForbidden;
    for (int value = 0; value < sizes_[at(bucket->variable)]; ++value) {
      double sum = 0;
      for (const View& view : bucket->views) {
        const std::size_t begin = view.begins[index / bucket->row] + at(value) * view.step;
        sum += values_of(view)[view.is_flat ? begin : begin + index % bucket->row];
      }
      if (sum < least) {
        least = sum;
        values[at(bucket->variable)] = value;
      }
    }
  }
  return values;
}

std::vector<std::vector<double>> Elimination::min_marginals(
    const std::vector<double>& allowance) const {
  std::vector<std::vector<double>> marginals(sizes_.size());
  Table root = root_;
  for (std::size_t i = 0; i < root.values.size(); ++i) {
    root.values[i] = root.values[i] == kForbidden ? kForbidden : root.values[i] - allowance[i];
  }
  for (const int variable : kept_) {
    marginals[at(variable)] = minimise_to(root, {variable}).values;
  }
  // Belief of a bucket: least total (less allowance) for each entry of its table.
  std::vector<Table> beliefs(buckets_.size());
  for (std::size_t b = buckets_.size(); b-- > 0;) {
    const Bucket& bucket = buckets_[b];
    const Table& parent = consumer_[b] < 0 ? root : beliefs[at(consumer_[b])];
    const Table outside = minimise_to(parent, bucket.message.scope);
    Table& belief = beliefs[b];
    belief = {bucket.scope, std::vector<double>(table_size(bucket.scope))};
    const std::size_t size = bucket.message.values.size();
    for_each_row(bucket,
                 [&](std::size_t r, int value, double flat, std::span<const double* const> rows) {
                   double* sum = belief.values.data() + at(value) * size + r * bucket.row;
                   std::fill(sum, sum + bucket.row, flat);
                   for (const double* row : rows) {
                     std::transform(sum, sum + bucket.row, row, sum, std::plus<>());
                   }
                 });
    for (std::size_t i = 0; i < belief.values.size(); ++i) {
      const double message = bucket.message.values[i % size];
      const double rest = outside.values[i % size];
      belief.values[i] = belief.values[i] == kForbidden || rest == kForbidden
                             ? kForbidden
                             : rest + (belief.values[i] - message);
    }
    marginals[at(bucket.variable)] = minimise_to(belief, {bucket.variable}).values;
  }
  return marginals;
}

}  // namespace shardwise::planning
