#include "planner/elimination.h"

#include <algorithm>
#include <utility>

#include "core/errors.h"

namespace shardwise::planning {

namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

bool contains(const std::vector<int>& list, int value) {
  return std::find(list.begin(), list.end(), value) != list.end();
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

void Elimination::add_up(const std::vector<Source>& sources, std::vector<double>& sum) const {
  std::fill(sum.begin(), sum.end(), 0);
  for (const Source& source : sources) {
    const double* values = table_of(source).values.data();
    for (std::size_t i = 0; i < sum.size(); ++i) {
      sum[i] += values[source.entries[i]];
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
    open.push_back({true, factor, {}});
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
    const std::vector<int> scope = neighbours(chosen);
    std::vector<int> full{chosen};
    full.insert(full.end(), scope.begin(), scope.end());
    const int number = static_cast<int>(buckets_.size());
    std::erase_if(open, [&](const Source& source) {
      if (!contains(table_of(source).scope, chosen)) {
        return false;
      }
      if (!source.is_factor) {
        consumer_[at(source.number)] = number;
      }
      bucket.sources.push_back(
          {source.is_factor, source.number, entries_in(full, table_of(source))});
      return true;
    });
    const std::size_t size = table_size(scope);
    bucket.scope = full;
    bucket.message = {scope, std::vector<double>(size)};
    bucket.best.resize(size);
    buckets_.push_back(std::move(bucket));
    open.push_back({false, number, {}});
    std::erase(remaining, chosen);
  }
  root_ = {kept_, std::vector<double>(table_size(kept_))};
  root_sources_ = std::move(open);
  for (Source& source : root_sources_) {
    source.entries = entries_in(kept_, table_of(source));
  }
}

void Elimination::run_again() {
  std::vector<double> sum;  // of one bucket at a time
  for (Bucket& bucket : buckets_) {
    sum.resize(table_size(bucket.scope));
    add_up(bucket.sources, sum);
    const std::size_t size = bucket.message.values.size();
    std::fill(bucket.message.values.begin(), bucket.message.values.end(), kForbidden);
    std::fill(bucket.best.begin(), bucket.best.end(), 0);
    for (int value = 0; value < sizes_[at(bucket.variable)]; ++value) {
      const double* row = sum.data() + at(value) * size;
      for (std::size_t i = 0; i < size; ++i) {
        if (row[i] < bucket.message.values[i]) {
          bucket.message.values[i] = row[i];
          bucket.best[i] = value;
        }
      }
    }
  }
  add_up(root_sources_, root_.values);
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
    values[at(bucket->variable)] = bucket->best[index];
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
    add_up(bucket.sources, belief.values);
    const std::size_t size = bucket.message.values.size();
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
