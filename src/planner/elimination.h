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
#include <utility>
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
  };
  // A source as a bucket reads it. The bucket's sum has rows along its innermost variable, one for
  // each value of the others: entry i of the row for value x of the variable, and of number r for
  // the rest, is values[begins[r] + x * step + i], or without i if the source is flat.
  struct View {
    Source source;
    std::vector<std::uint32_t> begins;
    std::size_t step = 0;
    bool is_flat = false;  // the same all along a row
    // A factor whose entries along a row do not lie side by side is read from a copy where they do.
    std::vector<std::uint32_t> order;  // of the copy; empty: none
    std::vector<double> copy;
  };
  struct Bucket {
    int variable = -1;
    std::vector<View> views;   // flat ones first
    std::size_t num_flat = 0;  //
    std::vector<int> scope;    // of the sum: variable first, then the scope of the message
    Table message;             // without the variable
    std::size_t row = 1;       // entries in a row: values of the innermost variable
  };

  std::size_t table_size(const std::vector<int>& scope) const;
  const Table& table_of(const Source& source) const;
  const double* values_of(const View& view) const;
  std::vector<std::uint32_t> entries_in(const std::vector<int>& scope, const Table& table) const;
  void order_elimination();
  void lay_out();
  View view_of(const Bucket& bucket, const Source& source) const;
  void copy_factors(Bucket& bucket);
  // Calls visit(r, value, flat, rows) for each row of the bucket's sum: what is flat, summed, and
  // the other views, each from its entry for the row's first one.
  template <typename Visit>
  void for_each_row(const Bucket& bucket, Visit visit) const;
  // Least entries of `table` for each value of `scope`, a part of its scope.
  Table minimise_to(const Table& table, const std::vector<int>& scope) const;
  std::vector<std::size_t> strides_in(const std::vector<int>& scope, const Table& table) const;

  std::vector<int> sizes_;
  std::vector<Table> factors_;
  std::vector<Bucket> buckets_;
  std::vector<int> consumer_;  // bucket that a bucket's message goes to, or -1: the root
  std::vector<int> kept_;
  std::vector<std::pair<Source, std::vector<std::uint32_t>>> root_sources_;  // entries of each
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
