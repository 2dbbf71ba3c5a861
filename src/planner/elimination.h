// Minimum of a sum of small tables over discrete variables, by bucket elimination.
//
//   minimise  sum over factors f(x_scope(f))   over all x, for each value of the kept variables
//
// Variables are eliminated one after the other, cheapest resulting table first: all factors with
// the variable are added up in its *bucket* and minimised over it. Backwards through the buckets
// one finds minimisers and *min-marginals*: the least total with a variable at a given value.
// Source: Dechter, "Bucket elimination", Artificial Intelligence 113 (1999).
// Work and memory: product of the domain sizes in the largest bucket.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <vector>

namespace shardwise::planning {

inline constexpr double kForbidden = std::numeric_limits<double>::infinity();

class Elimination {
 public:
  // Returns the variable's number, from 0.
  int add_variable(int domain_size);
  // values: row-major, the last variable of `scope` runs fastest. Scope without repetition.
  // Returns the factor's number, from 0.
  int add_factor(std::vector<int> scope, std::vector<double> values);
  // Eliminates all variables but `kept` (at most two).
  void run(const std::vector<int>& kept);
  // The same variables and scopes with other values: fill them in, then run_again(). The order of
  // the elimination and all index tables are kept.
  std::vector<double>& factor_values(int factor) {
    return factors_[static_cast<std::size_t>(factor)].values;
  }
  void run_again();

  // Minimum for values of the kept variables: row-major in the order given to run().
  const std::vector<double>& minimum() const { return root_.values; }
  // A minimiser (value of each variable) for the given values of the kept variables. Ties: the
  // lowest value.
  std::vector<int> minimiser(const std::vector<int>& kept_values) const;
  // [variable][value]: minimum over everything else of total - allowance(kept values). The
  // allowance may be -infinity.
  std::vector<std::vector<double>> min_marginals(const std::vector<double>& allowance) const;

 private:
  struct Table {
    std::vector<int> scope;
    std::vector<double> values;
  };
  // A table that is added up: a factor, or the message of a bucket.
  struct Source {
    bool is_factor = true;
    int number = 0;
    std::vector<std::uint32_t> entries;  // of it, for each entry of the sum
  };
  struct Bucket {
    int variable = -1;
    std::vector<Source> sources;
    std::vector<int> scope;  // of the sum: variable first, then the scope of the message
    Table message;           // without the variable
    std::vector<int> best;   // by message index: value of the variable
  };

  std::size_t table_size(const std::vector<int>& scope) const;
  const Table& table_of(const Source& source) const;
  std::vector<std::uint32_t> entries_in(const std::vector<int>& scope, const Table& table) const;
  void add_up(const std::vector<Source>& sources, std::vector<double>& sum) const;
  void order_elimination();
  // Least entries of `table` for each value of `scope`, a part of its scope.
  Table minimise_to(const Table& table, const std::vector<int>& scope) const;
  std::vector<std::size_t> strides_in(const std::vector<int>& scope, const Table& table) const;

  std::vector<int> sizes_;
  std::vector<Table> factors_;
  std::vector<Bucket> buckets_;
  std::vector<int> consumer_;  // bucket that a bucket's message goes to, or -1: the root
  std::vector<int> kept_;
  std::vector<Source> root_sources_;
  Table root_;
};

// One Elimination for all sums of the same structure: orders and index tables are made once, and
// the values of only one sum at a time are held.
class EliminationPool {
 public:
  struct Structure {
    std::vector<int> sizes;                // domain of each variable
    std::vector<std::vector<int>> scopes;  // of each factor
    std::vector<int> kept;

    auto operator<=>(const Structure&) const = default;
  };
  // Its factors have the values that were last filled in, by whomever.
  Elimination& with(const Structure& structure);

 private:
  std::map<Structure, Elimination> known_;
};

}  // namespace shardwise::planning
