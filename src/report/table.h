// Text tables for the terminal: columns as wide as their widest cell, first column left-aligned,
// the others right-aligned.
#pragma once

#include <string>
#include <vector>

namespace shardwise {

class TextTable {
 public:
  explicit TextTable(std::vector<std::string> header);

  // Requires as many cells as the header.
  void add_row(std::vector<std::string> cells);
  // A line between the rows before and after.
  void add_rule();

  // Every line begins with `indent` blanks and ends with a line feed.
  std::string to_string(int indent = 2) const;

 private:
  std::vector<std::vector<std::string>> rows_;  // rows_[0] is the header; an empty row is a rule
};

// A bar of `width` cells, `share` of it filled: "#######...". Shares beyond 1 fill it.
std::string bar(double share, int width);

}  // namespace shardwise
